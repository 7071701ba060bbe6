// The triangle update's passes over the pairs on CUDA's tensor cores; the products over the third
// position between them are the caller's. No torch here.
//
// Channel-major tensors are [B, H, pitch, pitch], zero in rows and columns behind the lengths:
// their rows begin at multiples of 16 bytes, which fast products and wide accesses need, and a
// product over whole planes is right as it is.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/cuda_float.h"

namespace ribo::kernels {

/// The weights of TriangleWeights, or their gradients: P is a pointer. The maps are left, its gate,
/// right, right's gate and the output's gate.
template <class P>
struct CudaTriangleWeights {
  P norm_weight = nullptr, norm_bias = nullptr;          // [C]
  P map_weight[5] = {}, map_bias[5] = {};                // [H, C], [H]
  P out_norm_weight = nullptr, out_norm_bias = nullptr;  // [H]
  P out_weight = nullptr, out_bias = nullptr;            // [C, H], [C]
};

/// What all passes need. All pointers are device pointers, to aligned and contiguous values.
struct CudaTriangle {
  CudaNarrow type = CudaNarrow::bfloat16;
  bool wide = false;          // x, y and their gradients are float32, otherwise of `type`
  bool wide_weights = false;  // the same for the weights and their gradients
  int batch = 0, length = 0, channels = 0, hidden = 0;
  const int64_t* lengths = nullptr;  // [B], or null: no padding; the nearest of 0 .. L is taken
  int multiprocessors = 1;           // of the device
  int shared_memory = 227 * 1024;    // bytes that a block may have
  bool begins_early = false;         // whether a kernel can begin before the last one has ended

  const void* x = nullptr;  // [B, L, L, C]
  CudaTriangleWeights<const void*> weights;

  /// Rows, and columns, of a plane of a channel-major tensor.
  int pitch() const { return (length + 7) / 8 * 8; }
};

/// x -> left, right (channel-major).
struct CudaTriangleProject : CudaTriangle {
  void *left = nullptr, *right = nullptr;
};

/// product (channel-major), x -> y [B, L, L, C], zero behind the lengths.
struct CudaTriangleOutput : CudaTriangle {
  const void* product = nullptr;
  void* y = nullptr;
};

/// Both backward passes leave their blocks' sums in `scratch`, cuda_triangle_scratch() elements.
struct CudaTriangleBackward : CudaTriangle {
  float* scratch = nullptr;
};

/// d_y -> d_product and the gradient of the output gate before its sigmoid (channel-major).
struct CudaTriangleOutputBackward : CudaTriangleBackward {
  const void *product = nullptr, *d_y = nullptr;
  void *d_product = nullptr, *d_gate = nullptr;
};

/// d_left, d_right and d_gate (channel-major) -> d_x [B, L, L, C], zero behind the lengths.
struct CudaTriangleProjectBackward : CudaTriangleBackward {
  const void *d_left = nullptr, *d_right = nullptr, *d_gate = nullptr;
  void* d_x = nullptr;
};

/// From what both passes have left in `scratch`.
struct CudaTriangleGradients : CudaTriangleBackward {
  CudaTriangleWeights<void*> d;
};

/// Whether the passes take these sizes: channels and hidden multiples of 16 up to 64, B pitch^2
/// below 2^30; and whether a block has the shared memory that each of them needs.
bool cuda_triangle_takes(const CudaTriangle& problem);

int64_t cuda_triangle_scratch(const CudaTriangle& problem);

/// Enqueue on the stream; nothing waits. Deterministic: sums have a fixed order on a given device.
cudaError_t cuda_triangle_project(const CudaTriangleProject& pass, cudaStream_t stream);
cudaError_t cuda_triangle_output(const CudaTriangleOutput& pass, cudaStream_t stream);
cudaError_t cuda_triangle_output_backward(const CudaTriangleOutputBackward& pass,
                                          cudaStream_t stream);
cudaError_t cuda_triangle_project_backward(const CudaTriangleProjectBackward& pass,
                                           cudaStream_t stream);
cudaError_t cuda_triangle_gradients(const CudaTriangleGradients& pass, cudaStream_t stream);

}  // namespace ribo::kernels
