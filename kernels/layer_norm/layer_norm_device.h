// What a device does for layer_norm.cpp, which has checked the arguments.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/variable.h>

namespace ribo::kernels {

/// The arguments of layer_norm(); weight and bias may be undefined.
struct LayerNormTensors {
  at::Tensor x, weight, bias;
  double eps;
};

#ifdef RIBO_CUDA_VERSION
/// Whether the kernels of layer_norm_cuda.h take the problem.
bool layer_norm_fits_cuda(const LayerNormTensors& in);

at::Tensor layer_norm_forward_on_cuda(const LayerNormTensors& in);
/// For x, weight and bias, in their types; undefined for what is undefined.
torch::autograd::variable_list layer_norm_backward_on_cuda(const LayerNormTensors& in,
                                                           const at::Tensor& d_y);
#endif

}  // namespace ribo::kernels
