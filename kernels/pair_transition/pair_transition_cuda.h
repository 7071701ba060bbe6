// The pair transition on CUDA's tensor cores. The mathematics stands in pair_transition.h; no torch
// here.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/cuda_float.h"

namespace ribo::kernels {

/// What both directions need. All pointers are device pointers to contiguous values, at multiples
/// of 16 bytes.
struct CudaTransition {
  CudaNarrow type = CudaNarrow::bfloat16;
  bool wide = false;          // x, y and their gradients are float32, otherwise of `type`
  bool wide_weights = false;  // the weights and theirs are, likewise
  int channels = 0, hidden = 0;
  int64_t positions = 0;  // P; B L^2 where there are lengths
  float eps = 0;
  int64_t length = 0;                // L
  const int64_t* lengths = nullptr;  // [B], or null: no padding
  int capability = 80;               // of the GPU, 90 for 9.0
  int multiprocessors = 1;           // of the GPU
  int64_t shared_memory = 0;         // bytes that a block can have there

  const void* x = nullptr;                                  // [P, C]
  const void *norm_weight = nullptr, *norm_bias = nullptr;  // [C]
  const void *w1 = nullptr, *b1 = nullptr;                  // [H, C], [H]
  const void *w2 = nullptr, *b2 = nullptr;                  // [C, H], [C]
  float* scratch = nullptr;                                 // [cuda_transition_.._scratch()]
};

/// Positions in the padding are not read and get zeros.
struct CudaTransitionForward : CudaTransition {
  void* y = nullptr;  // [P, C]
};

/// Gradients; positions in the padding get zeros in dx.
struct CudaTransitionBackward : CudaTransition {
  const void* dy = nullptr;                               // [P, C]
  void* dx = nullptr;                                     // [P, C]
  void *d_norm_weight = nullptr, *d_norm_bias = nullptr;  // [C]
  void *dw1 = nullptr, *db1 = nullptr;                    // [H, C], [H]
  void *dw2 = nullptr, *db2 = nullptr;                    // [C, H], [C]
};

/// Whether the kernels take these channels, hidden, positions and shared memory.
bool cuda_transition_takes(const CudaTransition& problem);

/// Elements of `scratch`.
int64_t cuda_transition_forward_scratch(const CudaTransition& problem);
int64_t cuda_transition_backward_scratch(const CudaTransition& problem);

/// Enqueue on the stream; nothing waits. Deterministic: sums have a fixed order, which depends on
/// `multiprocessors`.
cudaError_t cuda_transition_forward(const CudaTransitionForward& problem, cudaStream_t stream);
cudaError_t cuda_transition_backward(const CudaTransitionBackward& problem, cudaStream_t stream);

}  // namespace ribo::kernels
