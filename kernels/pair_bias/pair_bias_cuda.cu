#include <algorithm>

#include "common/narrow_rows.cuh"
#include "common/scatter_sums.cuh"
#include "pair_bias/pair_bias_cuda.h"

namespace ribo::kernels {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;
constexpr int kHeads = 8;  // at most; where there are fewer, the others have zeros for weights
constexpr int kForwardBlocks = 5, kBackwardBlocks = 3;  // of a multiprocessor

template <int kChannels>
using Forward = NarrowRows<kChannels, kWarps, 4>;
template <int kChannels>
using Backward = NarrowRows<kChannels, kWarps, 2>;

/// Sums of kHeads numbers over a row's kLanes lanes: a lane has kSums of them in the end, from
/// first() on, in front of x.
template <int kLanes>
struct RowSums {
  static constexpr int kSums = kLanes < kHeads ? kHeads / kLanes : 1;
  __device__ static int first() { return static_cast<int>(threadIdx.x) % kLanes * kHeads / kLanes; }

  __device__ static void add(float (&x)[kHeads]) {
    constexpr int kAmong = kLanes < kHeads ? kLanes : kHeads, kSame = kLanes / kAmong;
    scatter_sums<kHeads, kAmong, kSame>(x);
#pragma unroll
    for (int lanes = kSame / 2; lanes > 0; lanes /= 2) {
      x[0] += __shfl_xor_sync(~0u, x[0], lanes);
    }
  }
};

__device__ inline float load_as(const void* from, int64_t i, CudaFloat type) {
  if (type == CudaFloat::float32) return static_cast<const float*>(from)[i];
  if (type == CudaFloat::float16) return widen(static_cast<const __half*>(from)[i]);
  return widen(static_cast<const __nv_bfloat16*>(from)[i]);
}
__device__ inline void store_as(void* to, int64_t i, float x, CudaFloat type) {
  if (type == CudaFloat::float32) {
    static_cast<float*>(to)[i] = x;
  } else if (type == CudaFloat::float16) {
    static_cast<__half*>(to)[i] = narrow<__half>(x);
  } else {
    static_cast<__nv_bfloat16*>(to)[i] = narrow<__nv_bfloat16>(x);
  }
}

/// weights [kHeads, kChannels] of normalised rows: weight[h][c] norm_weight[c].
template <int kChannels>
__device__ inline void fold_weights(const CudaPairBias& a, float* weights) {
  for (int i = static_cast<int>(threadIdx.x); i < kHeads * kChannels; i += kThreads) {
    weights[i] = i < a.heads * kChannels ? a.weight[i] * a.norm_weight[i % kChannels] : 0;
  }
}

/// Tiles of kTile rows of a sequence; a block takes every gridDim-th.
struct Tile {
  int64_t batch, first;
};
template <int kTile>
__host__ __device__ inline int64_t tiles_of_sequence(const CudaPairBias& a) {
  return (a.positions + kTile - 1) / kTile;
}
template <int kTile, class F>
__device__ inline void each_tile(const CudaPairBias& a, F&& f) {
  const int64_t of_sequence = tiles_of_sequence<kTile>(a);
  for (int64_t i = blockIdx.x; i < a.batch * of_sequence; i += gridDim.x) {
    f(Tile{i / of_sequence, i % of_sequence * kTile});
  }
}

/// weights [kHeads, kChannels], biases [kHeads], a tile of y [kHeads, kTile + 1].
template <int kChannels>
constexpr int64_t forward_shared() {
  return kHeads * (kChannels + 1 + Forward<kChannels>::kTile + 1) * sizeof(float);
}

template <class X, int kChannels>
__global__ void __launch_bounds__(kThreads, kForwardBlocks)
    pair_bias_kernel(const CudaPairBiasForward a) {
  using L = Forward<kChannels>;
  using Sums = RowSums<L::kLanes>;
  constexpr int kPasses = 4, kStride = L::kTile + 1;
  float* const weights = shared_memory<float>();
  float* const biases = weights + kHeads * kChannels;
  float* const out = biases + kHeads;
  fold_weights<kChannels>(a, weights);
  {
    constexpr int kLanes = kThreads / kHeads;
    const int h = static_cast<int>(threadIdx.x) / kLanes;
    float sum = 0;
    if (h < a.heads && a.norm_bias) {
      for (int c = static_cast<int>(threadIdx.x) % kLanes; c < kChannels; c += kLanes) {
        sum += a.weight[h * kChannels + c] * a.norm_bias[c];
      }
    }
#pragma unroll
    for (int lanes = 1; lanes < kLanes; lanes *= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
    if (threadIdx.x % kLanes == 0) biases[h] = sum;
  }
  __syncthreads();
  each_tile<L::kTile>(a, [&](const Tile& tile) {
    float x[kPasses][kRowVector];
#pragma unroll
    for (int k = 0; k < kPasses; ++k) {
      const int64_t row = tile.first + L::row(k);
#pragma unroll
      for (int i = 0; i < kRowVector; ++i) x[k][i] = 0;
      if (row < a.positions) {
        load(
            static_cast<const X*>(a.x) + (tile.batch * a.positions + row) * kChannels + L::column(),
            x[k]);
      }
    }
    float y[kPasses][kHeads];
#pragma unroll
    for (int k = 0; k < kPasses; ++k) L::normalise(x[k], a.eps);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      float w[kRowVector];
      load(weights + h * kChannels + L::column(), w);
#pragma unroll
      for (int k = 0; k < kPasses; ++k) {
        y[k][h] = 0;
#pragma unroll
        for (int i = 0; i < kRowVector; ++i) y[k][h] += w[i] * x[k][i];
      }
    }
#pragma unroll
    for (int k = 0; k < kPasses; ++k) {
      Sums::add(y[k]);
#pragma unroll
      for (int i = 0; i < Sums::kSums; ++i)
        out[(Sums::first() + i) * kStride + L::row(k)] = y[k][i];
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < a.heads * L::kTile; i += kThreads) {
      const int h = i / L::kTile, row = i % L::kTile;
      if (tile.first + row < a.positions) {
        store_as(a.y, (tile.batch * a.heads + h) * a.positions + tile.first + row,
                 out[h * kStride + row] + biases[h], a.y_type);
      }
    }
    __syncthreads();
  });
}

/// What a block adds to the gradients: [kChannels + 1, kHeads], the sums over rows of the
/// normalised x times dy, then of dy.
template <int kChannels>
constexpr int kPartial = (kChannels + 1) * kHeads;

/// weights [kHeads, kChannels]; dy of a tile [kTile, kHeads], and in the end the warps' sums.
template <int kChannels>
constexpr int64_t backward_shared() {
  constexpr int64_t kSums = kWarps * kChannels * kHeads,
                    kRows = Backward<kChannels>::kTile * kHeads;
  return (kHeads * kChannels + (kSums > kRows ? kSums : kRows)) * sizeof(float);
}

template <class X, int kChannels>
__global__ void __launch_bounds__(kThreads, kBackwardBlocks)
    pair_bias_backward_kernel(const CudaPairBiasBackward a) {
  using L = Backward<kChannels>;
  constexpr int kPasses = 2, kTaken = L::kTile * kHeads / kThreads;
  float* const weights = shared_memory<float>();
  float* const d = weights + kHeads * kChannels;
  fold_weights<kChannels>(a, weights);
  float d_weight[kHeads][kRowVector] = {}, d_bias[kTaken] = {};
  each_tile<L::kTile>(a, [&](const Tile& tile) {
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kTaken; ++k) {
      const int i = k * kThreads + static_cast<int>(threadIdx.x);
      const int h = i / L::kTile, row = i % L::kTile;
      const bool there = h < a.heads && tile.first + row < a.positions;
      const float dy =
          there
              ? load_as(a.dy, (tile.batch * a.heads + h) * a.positions + tile.first + row, a.y_type)
              : 0;
      d[row * kHeads + h] = dy;
      d_bias[k] += dy;
    }
    float x[kPasses][kRowVector], scale[kPasses], dx[kPasses][kRowVector];
    const auto offset = [&](int k) {
      return (tile.batch * a.positions + tile.first + L::row(k)) * kChannels + L::column();
    };
#pragma unroll
    for (int k = 0; k < kPasses; ++k) {
#pragma unroll
      for (int i = 0; i < kRowVector; ++i) x[k][i] = dx[k][i] = 0;
      if (tile.first + L::row(k) < a.positions) {
        load(static_cast<const X*>(a.x) + offset(k), x[k]);
      }
    }
#pragma unroll
    for (int k = 0; k < kPasses; ++k) scale[k] = L::normalise(x[k], a.eps);
    __syncthreads();
    float dy[kPasses][kHeads];
#pragma unroll
    for (int k = 0; k < kPasses; ++k) load(d + L::row(k) * kHeads, dy[k]);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      float w[kRowVector];
      load(weights + h * kChannels + L::column(), w);
#pragma unroll
      for (int k = 0; k < kPasses; ++k) {
#pragma unroll
        for (int i = 0; i < kRowVector; ++i) {
          dx[k][i] += w[i] * dy[k][h];
          d_weight[h][i] += x[k][i] * dy[k][h];
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kPasses; ++k) {
      L::differentiate(dx[k], x[k], scale[k]);
      if (tile.first + L::row(k) < a.positions) store(static_cast<X*>(a.dx) + offset(k), dx[k]);
    }
  });

  float* const partial = a.scratch + int64_t{blockIdx.x} * kPartial<kChannels>;
  // The sums of dy: those of a head are kTile threads' at once.
  __syncthreads();
#pragma unroll
  for (int k = 0; k < kTaken; ++k) d[k * kThreads + static_cast<int>(threadIdx.x)] = d_bias[k];
  __syncthreads();
  if (threadIdx.x < kHeads) {
    float sum = 0;
    for (int i = 0; i < L::kTile; ++i) sum += d[static_cast<int>(threadIdx.x) * L::kTile + i];
    partial[kChannels * kHeads + threadIdx.x] = sum;
  }
  __syncthreads();
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int i = 0; i < kRowVector; ++i) {
      const float sum = L::sum_of_rows(d_weight[h][i]);
      if (threadIdx.x % 32 < L::kLanes) {
        d[(L::warp() * kChannels + L::column() + i) * kHeads + h] = sum;
      }
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kChannels * kHeads; i += kThreads) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += d[w * kChannels * kHeads + i];
    partial[i] = sum;
  }
}

constexpr int kAddThreads = 256;

/// The weights' gradients of channel blockIdx.x from `blocks` partial sums. With n the normalised
/// x, y = weight (n norm_weight + norm_bias).
__global__ void pair_bias_gradients_kernel(const CudaPairBiasBackward a, int blocks) {
  constexpr int kParts = kAddThreads / kHeads;
  float* const along = shared_memory<float>();  // [kParts, kHeads]
  float* const total = along + kAddThreads;     // the same, for the sums of dy
  const int c = static_cast<int>(blockIdx.x), size = (a.channels + 1) * kHeads;
  const int h = static_cast<int>(threadIdx.x) % kHeads,
            part = static_cast<int>(threadIdx.x) / kHeads;
  float sums[2] = {};
#pragma unroll 4
  for (int i = part; i < blocks; i += kParts) {
    const float* const from = a.scratch + int64_t{i} * size;
    sums[0] += from[c * kHeads + h], sums[1] += from[a.channels * kHeads + h];
  }
  along[threadIdx.x] = sums[0], total[threadIdx.x] = sums[1];
  __syncthreads();
  for (int parts = kParts / 2; parts > 0; parts /= 2) {
    if (part < parts) {
      along[threadIdx.x] += along[threadIdx.x + parts * kHeads];
      total[threadIdx.x] += total[threadIdx.x + parts * kHeads];
    }
    __syncthreads();
  }
  const float gain = a.norm_weight[c], shift = a.norm_bias ? a.norm_bias[c] : 0;
  if (threadIdx.x < static_cast<unsigned>(a.heads)) {
    a.d_weight[h * a.channels + c] = along[h] * gain + total[h] * shift;
  }
  if (threadIdx.x > 0) return;
  float d_gain = 0, d_shift = 0;
  for (int i = 0; i < a.heads; ++i) {
    const float w = a.weight[i * a.channels + c];
    d_gain += w * along[i], d_shift += w * total[i];
  }
  a.d_norm_weight[c] = d_gain;
  if (a.d_norm_bias) a.d_norm_bias[c] = d_shift;
}

template <int kTile>
int64_t blocks(const CudaPairBias& a, int each) {
  return std::min<int64_t>(int64_t{each} * a.multiprocessors,
                           a.batch * tiles_of_sequence<kTile>(a));
}

int64_t backward_blocks(const CudaPairBias& a) {
  return with_channels(a.channels, [&](auto channels) {
    return blocks<Backward<decltype(channels)::value>::kTile>(a, kBackwardBlocks);
  });
}

}  // namespace

bool cuda_pair_bias_takes(const CudaPairBias& a) {
  return is_narrow(a.channels) && a.heads > 0 && a.heads <= kHeads;
}

int64_t cuda_pair_bias_scratch(const CudaPairBias& a) {
  return backward_blocks(a) * (a.channels + 1) * kHeads;
}

cudaError_t cuda_pair_bias_forward(const CudaPairBiasForward& a, cudaStream_t stream) {
  return with_channels(a.channels, [&](auto channels) {
    constexpr int kChannels = decltype(channels)::value;
    return with_float(a.x_type, [&](auto x) {
      return launch(pair_bias_kernel<decltype(x), kChannels>,
                    blocks<Forward<kChannels>::kTile>(a, kForwardBlocks), kThreads,
                    forward_shared<kChannels>(), stream, a);
    });
  });
}

cudaError_t cuda_pair_bias_backward(const CudaPairBiasBackward& a, cudaStream_t stream) {
  const int64_t blocks = backward_blocks(a);
  const cudaError_t error = with_channels(a.channels, [&](auto channels) {
    constexpr int kChannels = decltype(channels)::value;
    return with_float(a.x_type, [&](auto x) {
      return launch(pair_bias_backward_kernel<decltype(x), kChannels>, blocks, kThreads,
                    backward_shared<kChannels>(), stream, a);
    });
  });
  if (error != cudaSuccess) return error;
  return launch(pair_bias_gradients_kernel, a.channels, kAddThreads,
                2 * kAddThreads * sizeof(float), stream, a, static_cast<int>(blocks));
}

}  // namespace ribo::kernels
