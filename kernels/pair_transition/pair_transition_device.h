// What a device does for pair_transition.cpp, which has checked the arguments.
#pragma once

#include "pair_transition/pair_transition_aten.h"

namespace ribo::kernels {

#ifdef RIBO_CUDA_VERSION
/// Whether the kernels of pair_transition_cuda.h take the problem; what they do not take is left to
/// LibTorch's operators.
bool transition_fits_cuda(const TransitionTensors& in);

at::Tensor transition_forward_on_cuda(const TransitionTensors& in);
TransitionGrads transition_backward_on_cuda(const TransitionTensors& in, const at::Tensor& y_grad);
#endif

}  // namespace ribo::kernels
