#include <algorithm>

#include "common/narrow_rows.cuh"
#include "layer_norm/layer_norm_cuda.h"

namespace ribo::kernels {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps, kPasses = 4;
constexpr int kForwardBlocks = 7, kBackwardBlocks = 4;  // of a multiprocessor

template <int kChannels>
using Rows = NarrowRows<kChannels, kWarps, kPasses>;

template <int kTile>
__host__ __device__ inline int64_t tiles(const CudaLayerNorm& a) {
  return (a.rows + kTile - 1) / kTile;
}
int64_t blocks(const CudaLayerNorm& a, int each) {
  return with_channels(a.channels, [&](auto channels) {
    return std::min<int64_t>(int64_t{each} * a.multiprocessors,
                             tiles<Rows<decltype(channels)::value>::kTile>(a));
  });
}

/// A lane's channels of a vector, which may be null, for `otherwise`.
__device__ inline void load_weights(const float* from, int column, float otherwise,
                                    float (&to)[kRowVector]) {
#pragma unroll
  for (int i = 0; i < kRowVector; ++i) to[i] = from ? from[column + i] : otherwise;
}

/// The rows of a tile from `first` on; zeros behind the last.
template <class R, class X>
__device__ inline void load_rows(const void* from, int channels, int64_t first, int64_t rows,
                                 float (&to)[kPasses][kRowVector]) {
#pragma unroll
  for (int k = 0; k < kPasses; ++k) {
#pragma unroll
    for (int i = 0; i < kRowVector; ++i) to[k][i] = 0;
    const int64_t row = first + R::row(k);
    if (row < rows) load(static_cast<const X*>(from) + row * channels + R::column(), to[k]);
  }
}

template <class X, int kChannels>
__global__ void __launch_bounds__(kThreads, kForwardBlocks)
    layer_norm_kernel(const CudaLayerNormForward a) {
  using R = Rows<kChannels>;
  float weight[kRowVector], bias[kRowVector];
  load_weights(a.weight, R::column(), 1, weight);
  load_weights(a.bias, R::column(), 0, bias);
  for (int64_t tile = blockIdx.x; tile < tiles<R::kTile>(a); tile += gridDim.x) {
    const int64_t first = tile * R::kTile;
    float x[kPasses][kRowVector];
    load_rows<R, X>(a.x, kChannels, first, a.rows, x);
#pragma unroll
    for (int k = 0; k < kPasses; ++k) {
      R::normalise(x[k], a.eps);
#pragma unroll
      for (int i = 0; i < kRowVector; ++i) x[k][i] = x[k][i] * weight[i] + bias[i];
      const int64_t row = first + R::row(k);
      if (row < a.rows) store(static_cast<X*>(a.y) + row * kChannels + R::column(), x[k]);
    }
  }
}

/// A block's sums of dy times the normalised x, and of dy: [2, kChannels] of scratch.
template <class X, int kChannels>
__global__ void __launch_bounds__(kThreads, kBackwardBlocks)
    layer_norm_backward_kernel(const CudaLayerNormBackward a) {
  using R = Rows<kChannels>;
  float weight[kRowVector], sums[2][kRowVector] = {};
  load_weights(a.weight, R::column(), 1, weight);
  for (int64_t tile = blockIdx.x; tile < tiles<R::kTile>(a); tile += gridDim.x) {
    const int64_t first = tile * R::kTile;
    float x[kPasses][kRowVector], d[kPasses][kRowVector];
    load_rows<R, X>(a.x, kChannels, first, a.rows, x);
    load_rows<R, X>(a.dy, kChannels, first, a.rows, d);
#pragma unroll
    for (int k = 0; k < kPasses; ++k) {
      const float scale = R::normalise(x[k], a.eps);
#pragma unroll
      for (int i = 0; i < kRowVector; ++i) {
        sums[0][i] += d[k][i] * x[k][i];
        sums[1][i] += d[k][i];
        d[k][i] *= weight[i];
      }
      R::differentiate(d[k], x[k], scale);
      const int64_t row = first + R::row(k);
      if (row < a.rows) store(static_cast<X*>(a.dx) + row * kChannels + R::column(), d[k]);
    }
  }
  if (!a.d_weight && !a.d_bias) return;
  float* const warps = shared_memory<float>();  // [kWarps, 2, kChannels]
#pragma unroll
  for (int j = 0; j < 2; ++j) {
#pragma unroll
    for (int i = 0; i < kRowVector; ++i) {
      const float sum = R::sum_of_rows(sums[j][i]);
      if (threadIdx.x % 32 < R::kLanes) {
        warps[(R::warp() * 2 + j) * kChannels + R::column() + i] = sum;
      }
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < 2 * kChannels; i += kThreads) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += warps[w * 2 * kChannels + i];
    a.scratch[int64_t{blockIdx.x} * 2 * kChannels + i] = sum;
  }
}

constexpr int kAddWarps = 32, kAddThreads = 32 * kAddWarps;

/// Adds the blocks' sums; a block has 32 numbers of [2, C], a warp of it every kAddWarps-th sum.
__global__ void layer_norm_gradients_kernel(const CudaLayerNormBackward a, int blocks) {
  float* const warps = shared_memory<float>();  // [kAddWarps, 32]
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int i = static_cast<int>(blockIdx.x) * 32 + lane;
  float sum = 0;
#pragma unroll 8
  for (int block = warp; block < blocks; block += kAddWarps) {
    sum += a.scratch[int64_t{block} * 2 * a.channels + i];
  }
  warps[threadIdx.x] = sum;
  __syncthreads();
  if (warp > 0) return;
#pragma unroll
  for (int w = 1; w < kAddWarps; ++w) sum += warps[32 * w + lane];
  float* const to = i < a.channels ? a.d_weight : a.d_bias;
  if (to) to[i % a.channels] = sum;
}

}  // namespace

bool cuda_layer_norm_takes(int channels) { return is_narrow(channels); }

int64_t cuda_layer_norm_scratch(const CudaLayerNorm& a) {
  return blocks(a, kBackwardBlocks) * 2 * a.channels;
}

cudaError_t cuda_layer_norm_forward(const CudaLayerNormForward& a, cudaStream_t stream) {
  return with_channels(a.channels, [&](auto channels) {
    return with_float(a.type, [&](auto x) {
      return launch(layer_norm_kernel<decltype(x), decltype(channels)::value>,
                    blocks(a, kForwardBlocks), kThreads, 0, stream, a);
    });
  });
}

cudaError_t cuda_layer_norm_backward(const CudaLayerNormBackward& a, cudaStream_t stream) {
  const int64_t count = blocks(a, kBackwardBlocks);
  const cudaError_t error = with_channels(a.channels, [&](auto channels) {
    constexpr int kChannels = decltype(channels)::value;
    return with_float(a.type, [&](auto x) {
      return launch(layer_norm_backward_kernel<decltype(x), kChannels>, count, kThreads,
                    kWarps * 2 * kChannels * sizeof(float), stream, a);
    });
  });
  if (error != cudaSuccess || (!a.d_weight && !a.d_bias)) return error;
  return launch(layer_norm_gradients_kernel, a.channels / 16, kAddThreads,
                kAddThreads * sizeof(float), stream, a, static_cast<int>(count));
}

}  // namespace ribo::kernels
