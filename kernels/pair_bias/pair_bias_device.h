// What a device does for pair_bias.cpp, which has checked the arguments.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/variable.h>

namespace ribo::kernels {

inline constexpr double kPairBiasEps = 1e-5;

/// The arguments of pair_bias(); norm_bias may be undefined.
struct PairBiasTensors {
  at::Tensor pair, norm_weight, norm_bias, weight;
};

#ifdef RIBO_CUDA_VERSION
/// Whether the kernels of pair_bias_cuda.h take the problem, with a result of that type; what they
/// do not take is left to LibTorch's operators.
bool pair_bias_fits_cuda(const PairBiasTensors& in, at::ScalarType type);

at::Tensor pair_bias_forward_on_cuda(const PairBiasTensors& in, at::ScalarType type);
/// In the arguments' order, those of weights in float32; undefined for what is undefined.
torch::autograd::variable_list pair_bias_backward_on_cuda(const PairBiasTensors& in,
                                                          const at::Tensor& d_y);
#endif

}  // namespace ribo::kernels
