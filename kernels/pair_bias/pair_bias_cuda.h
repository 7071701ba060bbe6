// The bias that a pair representation gives to attention, on CUDA. The mathematics stands in
// pair_bias.h; no torch here.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/cuda_float.h"

namespace ribo::kernels {

/// What both directions need. All pointers are device pointers to contiguous values, at multiples
/// of 16 bytes. Arithmetic is float32.
struct CudaPairBias {
  CudaFloat x_type = CudaFloat::float32;  // of x and dx
  CudaFloat y_type = CudaFloat::float32;  // of y and dy
  int channels = 0, heads = 0;
  int64_t batch = 0, positions = 0;  // positions: L^2
  float eps = 0;
  int multiprocessors = 1;  // of the GPU

  const void* x = nullptr;             // [B, L^2, C]
  const float* norm_weight = nullptr;  // [C]
  const float* norm_bias = nullptr;    // [C], or null
  const float* weight = nullptr;       // [heads, C]
};

struct CudaPairBiasForward : CudaPairBias {
  void* y = nullptr;  // [B, heads, L^2]
};

/// Gradients.
struct CudaPairBiasBackward : CudaPairBias {
  const void* dy = nullptr;  // [B, heads, L^2]
  void* dx = nullptr;        // [B, L^2, C]
  float* d_norm_weight = nullptr;
  float* d_norm_bias = nullptr;  // null where norm_bias is
  float* d_weight = nullptr;
  float* scratch = nullptr;  // [cuda_pair_bias_scratch()]
};

/// Whether the kernels take these channels and heads.
bool cuda_pair_bias_takes(const CudaPairBias& problem);

/// Elements of `scratch`.
int64_t cuda_pair_bias_scratch(const CudaPairBias& problem);

/// Enqueue on the stream; nothing waits. Deterministic: sums have a fixed order, which depends on
/// `multiprocessors`.
cudaError_t cuda_pair_bias_forward(const CudaPairBiasForward& problem, cudaStream_t stream);
cudaError_t cuda_pair_bias_backward(const CudaPairBiasBackward& problem, cudaStream_t stream);

}  // namespace ribo::kernels
