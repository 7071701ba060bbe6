// What a device does for outer_product_mean.cpp, which has checked the arguments.
#pragma once

#include "outer_product_mean/outer_product_mean_aten.h"

namespace ribo::kernels {

#ifdef RIBO_CUDA_VERSION
/// Whether the kernels of outer_product_mean_cuda.h take the problem, whose pairs are stored in
/// `pairs`; what they do not take is left to LibTorch's operators.
bool outer_product_fits_cuda(const OuterProductTensors& in, at::ScalarType pairs);

at::Tensor outer_product_forward_on_cuda(const OuterProductTensors& in);
OuterProductGrads outer_product_backward_on_cuda(const OuterProductTensors& in,
                                                 const at::Tensor& out_grad);
#endif

}  // namespace ribo::kernels
