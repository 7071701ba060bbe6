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
  CudaScanIo io = CudaScanIo::float32;
  // 1 <= states <= 256, as far as cuda_scan_shared() fits the GPU; groups divides channels;
  // channels x states < 2^28.
  int64_t batch = 0, length = 0, channels = 0, groups = 1, states = 1;
  bool delta_softplus = false, reverse = false;
  int64_t multiprocessors = 1;  // of the GPU: how the work is cut depends on it
  /// Pieces of the sequence that are worked on at once: cuda_scan_segments(). The result does not
  /// depend on it, apart from rounding; forward and backward need not agree.
  int64_t segments = 1;

  const int64_t* lengths = nullptr;  // [B], or null: all L. Clamped to 0..L
  CudaScanRows u, delta, z;          // [B, L, D]; z may be null
  CudaScanRows B, C;                 // [B, L, G, N]
  const void* A = nullptr;           // Real [D, N]
  /// Real [D], [D], [B, D, N]; may be null
  const void *D = nullptr, *delta_bias = nullptr, *initial_state = nullptr;
  /// Real [B, ceil(L / kCudaScanStride), N, D]: the state before every stride. Forward fills it
  /// unless it is null; backward reads it.
  void* checkpoints = nullptr;
  /// Io [B, L, D], contiguous: y before the gate, written and read likewise where there is z.
  void* ungated = nullptr;
  void* scratch = nullptr;  // Real [cuda_scan_scratch()]
};

/// Outputs, contiguous. Positions behind a sequence's length get zeros.
struct CudaScanForward : CudaScanProblem {
  void *y = nullptr, *last_state = nullptr;  // Io [B, L, D]; Real [B, D, N]
};

/// Gradients, contiguous; those of arguments that are null are null and are not computed.
struct CudaScanBackward : CudaScanProblem {
  CudaScanRows dy = {};                                       // [B, L, D]
  const void* d_last_state = nullptr;                         // Real [B, D, N], or null: zero
  void *du = nullptr, *ddelta = nullptr, *dz = nullptr;       // Io [B, L, D]
  void *dB = nullptr, *dC = nullptr;                          // Io [B, L, G, N]
  void *dA = nullptr, *dD = nullptr, *ddelta_bias = nullptr;  // Real [D, N], [D], [D]
  void* d_initial_state = nullptr;                            // Real [B, D, N]; may be null
};

/// How many segments fill the GPU: 1 where batch x channels do.
int64_t cuda_scan_segments(const CudaScanProblem& problem, bool backward);

/// Elements of `scratch`, for the problem's `segments`.
int64_t cuda_scan_scratch(const CudaScanProblem& problem, bool backward);

/// Bytes of shared memory that a block of both directions needs.
int64_t cuda_scan_shared(const CudaScanProblem& problem);

/// Enqueue on the stream; nothing waits. Deterministic: sums have a fixed order.
cudaError_t cuda_scan_forward(const CudaScanForward& scan, cudaStream_t stream);
cudaError_t cuda_scan_backward(const CudaScanBackward& scan, cudaStream_t stream);

}  // namespace ribo::kernels
