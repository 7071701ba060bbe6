// Layer normalisation of narrow rows on CUDA. The mathematics stands in layer_norm.h; no torch
// here.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/cuda_float.h"

namespace ribo::kernels {

/// What both directions need. All pointers are device pointers to contiguous values, at multiples
/// of 16 bytes. Arithmetic is float32.
struct CudaLayerNorm {
  CudaFloat type = CudaFloat::float32;  // of x, y and their gradients
  int channels = 0;
  int64_t rows = 0;
  float eps = 0;
  int multiprocessors = 1;  // of the GPU

  const void* x = nullptr;                         // [rows, C]
  const float *weight = nullptr, *bias = nullptr;  // [C], or null
};

struct CudaLayerNormForward : CudaLayerNorm {
  void* y = nullptr;  // [rows, C]
};

struct CudaLayerNormBackward : CudaLayerNorm {
  const void* dy = nullptr;                      // [rows, C]
  void* dx = nullptr;                            // [rows, C]
  float *d_weight = nullptr, *d_bias = nullptr;  // [C], or null: not wanted
  float* scratch = nullptr;                      // [cuda_layer_norm_scratch()]
};

/// Whether the kernels take that many channels.
bool cuda_layer_norm_takes(int channels);

/// Elements of `scratch`.
int64_t cuda_layer_norm_scratch(const CudaLayerNorm& problem);

/// Enqueue on the stream; nothing waits. Deterministic: sums have a fixed order, which depends on
/// `multiprocessors`.
cudaError_t cuda_layer_norm_forward(const CudaLayerNormForward& problem, cudaStream_t stream);
cudaError_t cuda_layer_norm_backward(const CudaLayerNormBackward& problem, cudaStream_t stream);

}  // namespace ribo::kernels
