// The depthwise convolution on CUDA. No torch here.
#pragma once

#include <cuda_runtime_api.h>

#include "conv1d/conv1d_args.h"

namespace ribo::kernels {

/// Enqueue on the stream; nothing waits. All pointers are device pointers; lengths outside
/// 0 .. length are taken as the nearest of those. Io, T: double, double; float, float;
/// __nv_bfloat16, float; __half, float.
template <class Io, class T>
cudaError_t cuda_conv1d_forward(const Conv1dArgs<Io, T>& args, cudaStream_t stream);
template <class Io, class T>
cudaError_t cuda_conv1d_backward(const Conv1dArgs<Io, T>& args, cudaStream_t stream);

}  // namespace ribo::kernels
