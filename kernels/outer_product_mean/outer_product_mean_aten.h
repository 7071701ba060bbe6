// outer_product_mean by LibTorch's own operators, for devices without a kernel of their own.
#pragma once

#include <ATen/core/Tensor.h>

#include "ribo/error.h"

namespace ribo::kernels {

/// The arguments of outer_product_mean; bias, residual and lengths may be undefined.
struct OuterProductTensors {
  at::Tensor a, b, weight, bias, residual, lengths;
  bool bf16 = false;  // the CPU may round the operands of products to bfloat16
};

RIBO_API at::Tensor outer_product_forward_aten(const OuterProductTensors& in);

/// residual is out_grad without its padding; weight and bias are in a's type.
struct OuterProductGrads {
  at::Tensor a, b, weight, bias, residual;
};
RIBO_API OuterProductGrads outer_product_backward_aten(const OuterProductTensors& in,
                                                       const at::Tensor& out_grad);

}  // namespace ribo::kernels
