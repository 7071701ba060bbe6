// Of any width: the CPU's plan with a block for each piece of work: what a tile of time sees is
// gathered into shared memory, a warp reading a row of 32 channels at once, with zeros for what
// lies outside the sequence. A thread then has one channel and a few rows of output, so that a
// weight is read once for all of them.
#include "common/cuda.cuh"
#include "conv1d/conv1d_cuda.h"
#include "conv1d/conv1d_width4.cuh"

namespace ribo::kernels {
namespace {

constexpr int kLanes = 32;  // channels of a block
constexpr int kWarps = 8;
constexpr int kThreads = kLanes * kWarps;
constexpr int kRows = 8;               // of output, of a thread
constexpr int kTile = kWarps * kRows;  // of output; divides kConv1dPiece
constexpr int kTaps = 4;               // whose gradients a thread sums at once; at most kWarps

// A row of shared memory holds a value of each channel.
int64_t bytes(int64_t rows, size_t size) { return rows * kLanes * static_cast<int64_t>(size); }

// What this thread works on: one channel of a piece of a sequence.
struct Place {
  int lane, warp;
  int64_t b, piece, channel;
  bool real;           // the channel exists
  int64_t length;      // of the sequence
  int64_t begin, end;  // rows of time to write
};

template <class Io, class T>
__device__ Place place(const Conv1dArgs<Io, T>& a) {
  Place p;
  p.lane = static_cast<int>(threadIdx.x) % kLanes;
  p.warp = static_cast<int>(threadIdx.x) / kLanes;
  const int64_t slices = (a.channels + kLanes - 1) / kLanes;
  const int64_t pieces = (a.length + kConv1dPiece - 1) / kConv1dPiece;
  p.piece = blockIdx.x / slices;
  p.b = p.piece / pieces;
  p.channel = blockIdx.x % slices * kLanes + p.lane;
  p.real = p.channel < a.channels;
  p.length = length_of(a.lengths, p.b, a.length);
  p.begin = p.piece % pieces * kConv1dPiece;
  p.end = p.begin + kConv1dPiece < a.length ? p.begin + kConv1dPiece : a.length;
  return p;
}

// Rows [from, from + count) of x, which points at this thread's channel.
template <class Io, class T>
__device__ void gather(T* rows, const Io* x, int64_t stride, int64_t from, int count,
                       const Place& p) {
#pragma unroll 4
  for (int i = p.warp; i < count; i += kWarps) {
    const int64_t t = from + i;
    const bool inside = p.real && t >= 0 && t < p.length;
    rows[i * kLanes + p.lane] = inside ? widen(x[t * stride]) : T{0};
  }
}

// The same for the weights, whose rows are taps.
template <class Io, class T>
__device__ void gather_weights(T* weights, const Conv1dArgs<Io, T>& a, const Place& p) {
  for (int64_t j = p.warp; j < a.width; j += kWarps) {
    weights[j * kLanes + p.lane] = p.real ? a.weight[j * a.channels + p.channel] : T{0};
  }
}

// sum[i] += sum_j weights[j] rows[i + j]; `step` goes from a tap's weight to the next one's.
template <int kCount, class T>
__device__ void correlate(T (&sum)[kCount], const T* rows, const T* weights, int width, int step) {
#pragma unroll 4
  for (int j = 0; j < width; ++j) {
    const T w = weights[j * step];
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum[i] += w * rows[(i + j) * kLanes];
  }
}

template <class Io, class T>
__global__ void __launch_bounds__(kThreads) forward_kernel(Conv1dArgs<Io, T> a) {
  const Place p = place(a);
  const int width = static_cast<int>(a.width);
  T* const weights = shared_memory<T>();     // [width]
  T* const rows = weights + width * kLanes;  // [kTile + width - 1]
  gather_weights(weights, a, p);
  const T bias = a.bias && p.real ? a.bias[p.channel] : T{0};
  const Io* x = a.x + p.b * a.x_batch + p.channel;
  Io* y = a.y + p.b * a.length * a.channels + p.channel;
  const int first = p.warp * kRows;
  for (int64_t tile = p.begin; tile < p.end; tile += kTile) {
    T sum[kRows];
    if (tile < p.length) {
      __syncthreads();
      gather(rows, x, a.x_row, tile - a.before, kTile + width - 1, p);
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kRows; ++i) sum[i] = bias;
      correlate(sum, rows + first * kLanes + p.lane, weights + p.lane, width, kLanes);
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int64_t t = tile + first + i;
      if (!p.real || t >= p.end) continue;
      y[t * a.channels] = narrow<Io>(t >= p.length ? T{0} : a.silu ? silu(sum[i]) : sum[i]);
    }
  }
}

// The shared memory of a block, in rows.
struct BackwardRows {
  int weights, x, g, sums, parts;
  int64_t total() const { return weights + x + g + sums + parts; }
};
BackwardRows backward_rows(int64_t width) {
  const int k = static_cast<int>(width);
  return {k, kTile + 2 * (k - 1), kTile + k - 1, k + 1, kTaps * kWarps};
}

// With g = dy act'(the sum before the activation): dx[s] = sum_j w[j] g[s + before - j] is the
// correlation of g with the mirrored filter, dw[j] = sum_t g[t] x[t - before + j].
template <class Io, class T>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(Conv1dArgs<Io, T> a, BackwardRows shared) {
  const Place p = place(a);
  const int width = static_cast<int>(a.width), halo = width - 1;
  // From here on every pointer is at this thread's channel.
  T* const weights = shared_memory<T>() + p.lane;
  T* const x = weights + shared.weights * kLanes;
  T* const g = x + shared.x * kLanes;
  T* const sums = g + shared.g * kLanes;
  T* const parts = sums + shared.sums * kLanes;
  gather_weights(weights - p.lane, a, p);
  for (int e = p.warp; e <= width; e += kWarps) sums[e * kLanes] = 0;
  const T bias = a.bias && p.real ? a.bias[p.channel] : T{0};
  const Io* x_in = a.x + p.b * a.x_batch + p.channel;
  const Io* dy = a.dy + p.b * a.dy_batch + p.channel;
  Io* dx = a.dx + p.b * a.length * a.channels + p.channel;
  const int first = p.warp * kRows;
  for (int64_t tile = p.begin; tile < p.end; tile += kTile) {
    T sum[kRows] = {};
    if (tile < p.length) {
      // g's rows that dx[tile ..] sees, and x's rows that those see.
      const int64_t from = tile + a.before - halo;
      __syncthreads();
      gather(g - p.lane, dy, a.dy_row, from, kTile + halo, p);
      gather(x - p.lane, x_in, a.x_row, from - a.before, kTile + 2 * halo, p);
      __syncthreads();
      if (a.silu) {
#pragma unroll
        for (int i = 0; i < kRows; ++i) sum[i] = bias;
        correlate(sum, x + first * kLanes, weights, width, kLanes);
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          g[(first + i) * kLanes] *= silu_derivative(sum[i]);
          sum[i] = 0;
        }
        for (int t = kTile + p.warp; t < kTile + halo; t += kWarps) {
          T one[1] = {bias};
          correlate(one, x + t * kLanes, weights, width, kLanes);
          g[t * kLanes] *= silu_derivative(one[0]);
        }
        __syncthreads();
      }
      correlate(sum, g + first * kLanes, weights + halo * kLanes, width, -kLanes);

      // Each warp adds up its rows of the tile, then one warp the warps' parts, a tap each.
      const int own = static_cast<int>(tile - from) + first;  // rows of g that the tile itself has
      for (int tap = 0; tap <= width; tap += kTaps) {
        T part[kTaps] = {};
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          const T grad = g[(own + i) * kLanes];
#pragma unroll
          for (int k = 0; k < kTaps; ++k) {
            if (tap + k < width) part[k] += grad * x[(own + i + tap + k) * kLanes];
            if (tap + k == width) part[k] += grad;  // bias
          }
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < kTaps; ++k) parts[(k * kWarps + p.warp) * kLanes] = part[k];
        __syncthreads();
        if (p.warp < kTaps && tap + p.warp <= width) {
          T all = sums[(tap + p.warp) * kLanes];
          for (int i = 0; i < kWarps; ++i) all += parts[(p.warp * kWarps + i) * kLanes];
          sums[(tap + p.warp) * kLanes] = all;
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int64_t t = tile + first + i;
      if (p.real && t < p.end) dx[t * a.channels] = narrow<Io>(t < p.length ? sum[i] : T{0});
    }
  }
  __syncthreads();
  for (int e = p.warp; e <= width; e += kWarps) {
    if (p.real) a.sums[(p.piece * (width + 1) + e) * a.channels + p.channel] = sums[e * kLanes];
  }
}

// Leaves the sum of [pieces, size] in the first row. A lane has a column, a warp every eighth row.
template <class T>
__global__ void __launch_bounds__(kThreads)
    add_pieces_kernel(T* sums, int64_t pieces, int64_t size) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int64_t column = blockIdx.x * int64_t{kLanes} + lane;
  T* const parts = shared_memory<T>() + lane;
  T sum = 0;
  if (column < size) {
#pragma unroll 4
    for (int64_t i = warp; i < pieces; i += kWarps) sum += sums[i * size + column];
  }
  parts[warp * kLanes] = sum;
  __syncthreads();
  if (warp > 0 || column >= size) return;
  for (int i = 1; i < kWarps; ++i) sum += parts[i * kLanes];
  sums[column] = sum;
}

template <class Io, class T>
int64_t blocks(const Conv1dArgs<Io, T>& a) {
  return a.batch * conv1d_pieces(a.length) * ((a.channels + kLanes - 1) / kLanes);
}

}  // namespace

template <class Io, class T>
cudaError_t cuda_conv1d_forward(const Conv1dArgs<Io, T>& a, cudaStream_t stream) {
  if constexpr (sizeof(T) == 4) {
    if (width4::fits(a, /*backward=*/false)) {
      return launch(width4::forward_kernel<Io>, width4::forward_blocks(a), width4::kForwardThreads,
                    0, stream, a);
    }
  }
  const int64_t rows = a.width + kTile + a.width - 1;
  return launch(forward_kernel<Io, T>, blocks(a), kThreads, bytes(rows, sizeof(T)), stream, a);
}

template <class Io, class T>
cudaError_t cuda_conv1d_backward(const Conv1dArgs<Io, T>& a, cudaStream_t stream) {
  const auto pieces = [&] {
    if constexpr (sizeof(T) == 4) {
      if (width4::fits(a, /*backward=*/true)) {
        return launch(width4::backward_kernel<Io>, width4::backward_blocks(a),
                      width4::kBackwardWarps * width4::kLanes,
                      width4::kSums<Io> * static_cast<int64_t>(sizeof(float)), stream, a);
      }
    }
    const BackwardRows rows = backward_rows(a.width);
    return launch(backward_kernel<Io, T>, blocks(a), kThreads, bytes(rows.total(), sizeof(T)),
                  stream, a, rows);
  };
  const cudaError_t error = pieces();
  if (error != cudaSuccess) return error;
  const int64_t size = (a.width + 1) * a.channels;
  return launch(add_pieces_kernel<T>, (size + kLanes - 1) / kLanes, kThreads,
                bytes(kWarps, sizeof(T)), stream, a.sums, a.batch * conv1d_pieces(a.length), size);
}

template cudaError_t cuda_conv1d_forward(const Conv1dArgs<double, double>&, cudaStream_t);
template cudaError_t cuda_conv1d_forward(const Conv1dArgs<float, float>&, cudaStream_t);
template cudaError_t cuda_conv1d_forward(const Conv1dArgs<__nv_bfloat16, float>&, cudaStream_t);
template cudaError_t cuda_conv1d_forward(const Conv1dArgs<__half, float>&, cudaStream_t);
template cudaError_t cuda_conv1d_backward(const Conv1dArgs<double, double>&, cudaStream_t);
template cudaError_t cuda_conv1d_backward(const Conv1dArgs<float, float>&, cudaStream_t);
template cudaError_t cuda_conv1d_backward(const Conv1dArgs<__nv_bfloat16, float>&, cudaStream_t);
template cudaError_t cuda_conv1d_backward(const Conv1dArgs<__half, float>&, cudaStream_t);

}  // namespace ribo::kernels
