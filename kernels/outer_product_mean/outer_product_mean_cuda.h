// outer_product_mean on CUDA's tensor cores: the part whose size is that of the pairs. One side,
// which holds K C numbers a position, is projected before. No torch here.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/cuda_float.h"

namespace ribo::kernels {

/// What both directions need. All pointers are device pointers to contiguous values, at multiples
/// of 16 bytes.
struct CudaOuterProduct {
  CudaNarrow type = CudaNarrow::bfloat16;
  bool wide = false;  // the pairs and their gradients are float32, otherwise of `type`
  int batch = 0, length = 0, width = 0, channels = 0;  // B, L, K, C
  const int64_t* lengths = nullptr;                    // [B], or null: no padding
  int multiprocessors = 1;                             // of the GPU
  const void* b = nullptr;                             // [B, L, K] of `type`
  /// [B, L, C, K] of `type`: sum_d weight[z, c, d] a[i, d]. Not read in the padding.
  const void* projected = nullptr;
};

/// out[b, i, j, z] = residual[b, i, j, z] + bias[z] + sum_c projected[b, i, z, c] b[b, j, c]. Pairs
/// in the padding are not read and get zeros.
struct CudaOuterProductForward : CudaOuterProduct {
  const void* bias = nullptr;      // [C], or null
  bool wide_bias = false;          // it is float32, otherwise of `type`
  const void* residual = nullptr;  // [B, L, L, C], or null
  void* out = nullptr;             // [B, L, L, C]
};

/// Positions j are taken in pieces of at most 192, and positions i in slices. Blocks leave their
/// sums, and a second kernel adds those in their order. On the way it copies a, for the product
/// that makes the gradient of the weight of it.
struct CudaOuterProductBackward : CudaOuterProduct {
  const void* out_grad = nullptr;  // [B, L, L, C]; not read in the padding
  void* residual_grad = nullptr;   // [B, L, L, C], or null: out_grad, zeros in the padding
  int pieces = 1, slices = 1;      // as cuda_outer_product_plan() sets them
  void* projected_grad = nullptr;  // [B, L, C, K] of `type`, or float32 [pieces, B, L, C, K] if > 1
  void* b_grad = nullptr;          // [B, L, K] of `type`
  float* bias_grad = nullptr;      // [C]
  const void* a = nullptr;         // [B, L, K] of `type`
  void* real_a = nullptr;          // or null: a, zeros in the padding
  float* b_sums = nullptr;         // [slices, B, L, K], scratch
  float* bias_sums = nullptr;      // [B, slices, pieces, C], scratch
};

/// Whether the kernels take these sizes.
bool cuda_outer_product_takes(const CudaOuterProduct& problem);
/// Sets pieces and slices.
void cuda_outer_product_plan(CudaOuterProductBackward& problem);

/// Enqueue on the stream; nothing waits. Deterministic: sums have a fixed order, which depends on
/// `multiprocessors`.
cudaError_t cuda_outer_product_forward(const CudaOuterProductForward& problem, cudaStream_t stream);
cudaError_t cuda_outer_product_backward(const CudaOuterProductBackward& problem,
                                        cudaStream_t stream);

}  // namespace ribo::kernels
