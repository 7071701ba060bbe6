#include <algorithm>

#include "common/cuda.cuh"
#include "pair_bias/pair_bias_cuda.h"

namespace ribo::kernels {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;
constexpr int kHeads = 8;   // at most; where there are fewer, the others have zeros for weights
constexpr int kVector = 8;  // neighbouring channels that a lane has
constexpr int kForwardBlocks = 5, kBackwardBlocks = 3;  // of a multiprocessor

/// How rows of kChannels are laid out over a warp: neighbouring lanes have a row together, and each
/// has kPasses rows at a time.
template <int kChannels, int kPasses>
struct Layout {
  static constexpr int kLanes = kChannels / kVector, kRows = 32 / kLanes;  // of a row; of a warp
  static constexpr int kTile = kWarps * kPasses * kRows;                   // rows of a block

  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }
  __device__ static int part() { return static_cast<int>(threadIdx.x) % kLanes; }
  /// The thread's row of that pass, in the tile.
  __device__ static int row(int pass) {
    return (warp() * kPasses + pass) * kRows + static_cast<int>(threadIdx.x) % 32 / kLanes;
  }

  /// The sum over a row's lanes, for each of them.
  __device__ static float sum(float x) {
#pragma unroll
    for (int lanes = 1; lanes < kLanes; lanes *= 2) x += __shfl_xor_sync(~0u, x, lanes);
    return x;
  }
  /// Sums of kHeads numbers over a row's lanes. Each exchange halves what a lane answers for: in
  /// the end it has the sums of kSums numbers from first_sum() on, in front of x.
  static constexpr int kSums = kLanes < kHeads ? kHeads / kLanes : 1;
  __device__ static int first_sum() { return part() * kHeads / kLanes; }
  template <int kAmong = kLanes, int kCount = kHeads>
  __device__ static void scatter_sums(float (&x)[kHeads]) {
    if constexpr (kAmong > 1) {
      constexpr int kDistance = kAmong / 2, kHalf = kCount > 1 ? kCount / 2 : 1;
      const bool upper = part() & kDistance;
#pragma unroll
      for (int i = 0; i < kHalf; ++i) {
        float keep = x[i], give = x[i];
        if constexpr (kCount > 1) {
          keep = upper ? x[i + kHalf] : x[i], give = upper ? x[i] : x[i + kHalf];
        }
        x[i] = keep + __shfl_xor_sync(~0u, give, kDistance);
      }
      scatter_sums<kDistance, kHalf>(x);
    }
  }
};

/// Eight neighbouring values.
template <class X>
__device__ inline void load(const X* from, float (&to)[kVector]) {
  if constexpr (sizeof(X) == 4) {
#pragma unroll
    for (int i = 0; i < kVector; i += 4) {
      const float4 v = *reinterpret_cast<const float4*>(from + i);
      to[i] = v.x, to[i + 1] = v.y, to[i + 2] = v.z, to[i + 3] = v.w;
    }
  } else {
    struct alignas(16) Vector {
      X v[kVector];
    };
    const Vector values = *reinterpret_cast<const Vector*>(from);
#pragma unroll
    for (int i = 0; i < kVector; ++i) to[i] = widen(values.v[i]);
  }
}
template <class X>
__device__ inline void store(X* to, const float (&from)[kVector]) {
  struct alignas(16) Vector {
    X v[16 / sizeof(X)];
  };
  constexpr int kOfVector = 16 / static_cast<int>(sizeof(X));
#pragma unroll
  for (int i = 0; i < kVector; i += kOfVector) {
    Vector values;
#pragma unroll
    for (int j = 0; j < kOfVector; ++j) values.v[j] = narrow<X>(from[i + j]);
    *reinterpret_cast<Vector*>(to + i) = values;
  }
}

__device__ inline float load_as(const void* from, int64_t i, CudaPairBiasType type) {
  if (type == CudaPairBiasType::float32) return static_cast<const float*>(from)[i];
  if (type == CudaPairBiasType::float16) return widen(static_cast<const __half*>(from)[i]);
  return widen(static_cast<const __nv_bfloat16*>(from)[i]);
}
__device__ inline void store_as(void* to, int64_t i, float x, CudaPairBiasType type) {
  if (type == CudaPairBiasType::float32) {
    static_cast<float*>(to)[i] = x;
  } else if (type == CudaPairBiasType::float16) {
    static_cast<__half*>(to)[i] = narrow<__half>(x);
  } else {
    static_cast<__nv_bfloat16*>(to)[i] = narrow<__nv_bfloat16>(x);
  }
}

/// A row's part minus its mean over its deviation, in place; returns 1 / deviation.
template <class L>
__device__ inline float normalise(float (&x)[kVector], float eps) {
  constexpr float kShare = 1.0f / (L::kLanes * kVector);
  float mean = 0, variance = 0;
#pragma unroll
  for (int i = 0; i < kVector; ++i) mean += x[i];
  mean = L::sum(mean) * kShare;
#pragma unroll
  for (int i = 0; i < kVector; ++i) x[i] -= mean, variance += x[i] * x[i];
  const float scale = rsqrtf(L::sum(variance) * kShare + eps);
#pragma unroll
  for (int i = 0; i < kVector; ++i) x[i] *= scale;
  return scale;
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

template <int kChannels>
using Forward = Layout<kChannels, 4>;

/// weights [kHeads, kChannels], biases [kHeads], a tile of y [kHeads, kTile + 1].
template <int kChannels>
constexpr int64_t forward_shared() {
  return kHeads * (kChannels + 1 + Forward<kChannels>::kTile + 1) * sizeof(float);
}

template <class X, int kChannels>
__global__ void __launch_bounds__(kThreads, kForwardBlocks)
    pair_bias_kernel(const CudaPairBiasForward a) {
  using L = Forward<kChannels>;
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
    float x[kPasses][kVector];
#pragma unroll
    for (int k = 0; k < kPasses; ++k) {
      const int64_t row = tile.first + L::row(k);
#pragma unroll
      for (int i = 0; i < kVector; ++i) x[k][i] = 0;
      if (row < a.positions) {
        load(static_cast<const X*>(a.x) + (tile.batch * a.positions + row) * kChannels +
                 L::part() * kVector,
             x[k]);
      }
    }
    float y[kPasses][kHeads];
#pragma unroll
    for (int k = 0; k < kPasses; ++k) normalise<L>(x[k], a.eps);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      float w[kVector];
      load(weights + h * kChannels + L::part() * kVector, w);
#pragma unroll
      for (int k = 0; k < kPasses; ++k) {
        y[k][h] = 0;
#pragma unroll
        for (int i = 0; i < kVector; ++i) y[k][h] += w[i] * x[k][i];
      }
    }
#pragma unroll
    for (int k = 0; k < kPasses; ++k) {
      L::scatter_sums(y[k]);
#pragma unroll
      for (int i = 0; i < L::kSums; ++i) out[(L::first_sum() + i) * kStride + L::row(k)] = y[k][i];
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

template <int kChannels>
using Backward = Layout<kChannels, 2>;

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
  float d_weight[kHeads][kVector] = {}, d_bias[kTaken] = {};
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
    float x[kPasses][kVector], scale[kPasses], dx[kPasses][kVector];
    const auto offset = [&](int k) {
      return (tile.batch * a.positions + tile.first + L::row(k)) * kChannels + L::part() * kVector;
    };
#pragma unroll
    for (int k = 0; k < kPasses; ++k) {
#pragma unroll
      for (int i = 0; i < kVector; ++i) x[k][i] = dx[k][i] = 0;
      if (tile.first + L::row(k) < a.positions) {
        load(static_cast<const X*>(a.x) + offset(k), x[k]);
      }
    }
#pragma unroll
    for (int k = 0; k < kPasses; ++k) scale[k] = normalise<L>(x[k], a.eps);
    __syncthreads();
    float dy[kPasses][kHeads];
#pragma unroll
    for (int k = 0; k < kPasses; ++k) load(d + L::row(k) * kHeads, dy[k]);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      float w[kVector];
      load(weights + h * kChannels + L::part() * kVector, w);
#pragma unroll
      for (int k = 0; k < kPasses; ++k) {
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
          dx[k][i] += w[i] * dy[k][h];
          d_weight[h][i] += x[k][i] * dy[k][h];
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kPasses; ++k) {
      constexpr float kShare = 1.0f / kChannels;
      float mean = 0, along = 0;
#pragma unroll
      for (int i = 0; i < kVector; ++i) mean += dx[k][i], along += dx[k][i] * x[k][i];
      mean = L::sum(mean) * kShare, along = L::sum(along) * kShare;
#pragma unroll
      for (int i = 0; i < kVector; ++i) dx[k][i] = scale[k] * (dx[k][i] - mean - x[k][i] * along);
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
    for (int i = 0; i < kVector; ++i) {
      float sum = d_weight[h][i];
#pragma unroll
      for (int lanes = L::kLanes; lanes < 32; lanes *= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
      if (threadIdx.x % 32 < L::kLanes) {
        d[(L::warp() * kChannels + L::part() * kVector + i) * kHeads + h] = sum;
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

// f(X{}, std::integral_constant<int, channels>{})
template <class F>
auto with_channels(const CudaPairBias& a, F&& f) {
  switch (a.channels) {
    case 16:
      return f(std::integral_constant<int, 16>{});
    case 32:
      return f(std::integral_constant<int, 32>{});
    case 128:
      return f(std::integral_constant<int, 128>{});
    default:
      return f(std::integral_constant<int, 64>{});
  }
}
template <class F>
auto with_type(const CudaPairBias& a, F&& f) {
  switch (a.x_type) {
    case CudaPairBiasType::bfloat16:
      return f(__nv_bfloat16{});
    case CudaPairBiasType::float16:
      return f(__half{});
    default:
      return f(float{});
  }
}

int64_t backward_blocks(const CudaPairBias& a) {
  return with_channels(a, [&](auto channels) {
    return blocks<Backward<decltype(channels)::value>::kTile>(a, kBackwardBlocks);
  });
}

}  // namespace

bool cuda_pair_bias_takes(const CudaPairBias& a) {
  const int c = a.channels;
  return (c == 16 || c == 32 || c == 64 || c == 128) && a.heads > 0 && a.heads <= kHeads;
}

int64_t cuda_pair_bias_scratch(const CudaPairBias& a) {
  return backward_blocks(a) * (a.channels + 1) * kHeads;
}

cudaError_t cuda_pair_bias_forward(const CudaPairBiasForward& a, cudaStream_t stream) {
  return with_channels(a, [&](auto channels) {
    constexpr int kChannels = decltype(channels)::value;
    return with_type(a, [&](auto x) {
      return launch(pair_bias_kernel<decltype(x), kChannels>,
                    blocks<Forward<kChannels>::kTile>(a, kForwardBlocks), kThreads,
                    forward_shared<kChannels>(), stream, a);
    });
  });
}

cudaError_t cuda_pair_bias_backward(const CudaPairBiasBackward& a, cudaStream_t stream) {
  const int64_t blocks = backward_blocks(a);
  const cudaError_t error = with_channels(a, [&](auto channels) {
    constexpr int kChannels = decltype(channels)::value;
    return with_type(a, [&](auto x) {
      return launch(pair_bias_backward_kernel<decltype(x), kChannels>, blocks, kThreads,
                    backward_shared<kChannels>(), stream, a);
    });
  });
  if (error != cudaSuccess) return error;
  return launch(pair_bias_gradients_kernel, a.channels, kAddThreads,
                2 * kAddThreads * sizeof(float), stream, a, static_cast<int>(blocks));
}

}  // namespace ribo::kernels
