// The selective scan on CUDA, forward and backward. The mathematics stands in selective_scan.h; no
// torch here.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ribo::kernels {

/// Steps between two kept states.
inline constexpr int kCudaScanStride = 16;

/// What u, delta, z, B, C, y and their gradients are stored in. Everything else is Real: float32,
/// or float64 where Io is float64.
enum class CudaScanIo { float32, bfloat16, float16, float64 };

/// A tensor [B, L, ...] whose rows (fixed b and t) are contiguous; strides in elements.
struct CudaScanRows {
  const void* data = nullptr;  // null: not given
  int64_t batch = 0, step = 0;
};

/// What both directions need. All pointers are device pointers.
struct CudaScanProblem {
  CudaScanIo io;
  int64_t batch, length, channels, groups, states;  // 1 <= states <= 256; groups divides channels
  bool delta_softplus, reverse;
  /// Pieces of the sequence that are worked on at once: cuda_scan_segments(). The result does not
  /// depend on it, apart from rounding; forward and backward need not agree.
  int64_t segments;

  const int64_t* lengths;                      // [B], or null: all L. Clamped to 0..L
  CudaScanRows u, delta, z;                    // [B, L, D]; z may be null
  CudaScanRows B, C;                           // [B, L, G, N]
  const void* A;                               // Real [D, N]
  const void *D, *delta_bias, *initial_state;  // Real [D], [D], [B, D, N]; may be null
  /// Real [B, ceil(L / kCudaScanStride), N, D]: the state before every stride. Forward fills it
  /// unless it is null; backward reads it.
  void* checkpoints;
  void* scratch;  // Real [cuda_scan_scratch()]
};

/// Outputs, contiguous. Positions behind a sequence's length get zeros.
struct CudaScanForward : CudaScanProblem {
  void *y, *last_state;  // Io [B, L, D]; Real [B, D, N]
};

/// Gradients, contiguous; those of arguments that are null are null and are not computed.
struct CudaScanBackward : CudaScanProblem {
  CudaScanRows dy;              // [B, L, D]
  const void* d_last_state;     // Real [B, D, N], or null: zero
  void *du, *ddelta, *dz;       // Io [B, L, D]
  void *dB, *dC;                // Io [B, L, G, N]
  void *dA, *dD, *ddelta_bias;  // Real [D, N], [D], [D]
  void* d_initial_state;        // Real [B, D, N]; may be null
};

/// How many segments fill a GPU of that many multiprocessors: 1 where batch x channels do.
int64_t cuda_scan_segments(const CudaScanProblem& problem, int multiprocessors);

/// Elements of `scratch`, for the problem's `segments`.
int64_t cuda_scan_scratch(const CudaScanProblem& problem, bool backward);

/// Enqueue on the stream; nothing waits. Deterministic: sums have a fixed order.
cudaError_t cuda_scan_forward(const CudaScanForward& scan, cudaStream_t stream);
cudaError_t cuda_scan_backward(const CudaScanBackward& scan, cudaStream_t stream);

}  // namespace ribo::kernels
