// pair_transition by LibTorch's own operators, for devices without a kernel of their own.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>

#include "ribo/error.h"

namespace ribo::kernels {

/// The arguments of pair_transition; lengths may be undefined. `type` is that of the products on
/// devices other than the CPU, which may round their operands to bfloat16 if `bf16`.
struct TransitionTensors {
  at::Tensor x, norm_weight, norm_bias, w1, b1, w2, b2, lengths;
  double eps;
  at::ScalarType type;
  bool bf16 = false;
};

RIBO_API at::Tensor transition_forward_aten(const TransitionTensors& in);

/// Of x (in its type), norm_weight, norm_bias, w1, b1, w2, b2.
using TransitionGrads = std::array<at::Tensor, 7>;
RIBO_API TransitionGrads transition_backward_aten(const TransitionTensors& in,
                                                  const at::Tensor& y_grad);

}  // namespace ribo::kernels
