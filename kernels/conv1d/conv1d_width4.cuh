// The convolution of Mamba's width, 4, where rows can be read 16 bytes at a time. A thread has 16
// bytes' worth of neighbouring channels and kRows rows of time, reads all that these see before it
// computes, and shares nothing: the memory is what it waits for, and the cache has the rows that
// neighbours read too.
#pragma once

#include "common/rows.cuh"
#include "conv1d/conv1d_args.h"

namespace ribo::kernels::width4 {

inline constexpr int kWidth = 4, kHalo = kWidth - 1;
inline constexpr int kRows = 8;  // divides kConv1dPiece
inline constexpr int kLanes = 32;
inline constexpr int kForwardThreads = 128;
inline constexpr int kBackwardWarps = 8;

/// Neighbouring channels of a row.
using Channels = Words<4>;
template <class Io>
inline constexpr int kChannels = 16 / static_cast<int>(sizeof(Io));

template <class Io>
__device__ float channel(const Channels& x, int i) {
  if constexpr (sizeof(Io) == 4) {
    return __uint_as_float(x.word[i]);
  } else {
    float low, high;
    unpack<Io>(x.word[i / 2], low, high);
    return i % 2 == 0 ? low : high;
  }
}

/// Puts channel i, after channel i - 1.
template <class Io>
__device__ void put(Channels& x, int i, float value) {
  if constexpr (sizeof(Io) == 4) {
    x.word[i] = __float_as_uint(value);
  } else if (i % 2 == 0) {
    x.word[i / 2] = __float_as_uint(value);
  } else {
    x.word[i / 2] = pack<Io>(__uint_as_float(x.word[i / 2]), value);
  }
}

template <class Io>
__device__ Channels load(const Io* x, bool inside) {
  return inside ? *reinterpret_cast<const Channels*>(x) : Channels{};
}

/// The filter and bias of a channel.
struct Filter {
  float weight[kWidth], bias;

  template <class Io>
  __device__ Filter(const Conv1dArgs<Io, float>& a, int64_t channel) {
#pragma unroll
    for (int j = 0; j < kWidth; ++j) weight[j] = a.weight[j * a.channels + channel];
    bias = a.bias ? a.bias[channel] : 0;
  }
  __device__ float sum(const float* x) const {
    float s = bias;
#pragma unroll
    for (int j = 0; j < kWidth; ++j) s += weight[j] * x[j];
    return s;
  }
};

template <class Io>
__global__ void __launch_bounds__(kForwardThreads) forward_kernel(Conv1dArgs<Io, float> a) {
  constexpr int kSeen = kRows + kHalo;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kForwardThreads + threadIdx.x;
  const int64_t groups = a.channels / kChannels<Io>, chunks = (a.length + kRows - 1) / kRows;
  const int64_t b = item / groups / chunks, t0 = item / groups % chunks * kRows;
  const int64_t first = item % groups * kChannels<Io>;
  if (b >= a.batch) return;
  const int64_t length = length_of(a.lengths, b, a.length);
  const Io* const x = a.x + b * a.x_batch + first;
  Channels seen[kSeen], out[kRows];
#pragma unroll
  for (int i = 0; i < kSeen; ++i) {
    const int64_t t = t0 - a.before + i;
    seen[i] = load(x + t * a.x_row, t >= 0 && t < length);
  }
#pragma unroll
  for (int c = 0; c < kChannels<Io>; ++c) {
    const Filter filter(a, first + c);
    float values[kSeen];
#pragma unroll
    for (int i = 0; i < kSeen; ++i) values[i] = channel<Io>(seen[i], c);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const float sum = filter.sum(values + i);
      put<Io>(out[i], c, a.silu ? silu(sum) : sum);
    }
  }
  Io* const y = a.y + (b * a.length + t0) * a.channels + first;
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    if (t0 + i >= a.length) continue;
    *reinterpret_cast<Channels*>(y + i * a.channels) = t0 + i < length ? out[i] : Channels{};
  }
}

template <class Io>
int64_t forward_blocks(const Conv1dArgs<Io, float>& a) {
  const int64_t items = a.batch * ((a.length + kRows - 1) / kRows) * (a.channels / kChannels<Io>);
  return (items + kForwardThreads - 1) / kForwardThreads;
}

/// Shared floats of a block of the backward pass: what each warp adds to the gradients of its
/// channels' filters.
template <class Io>
inline constexpr int kSums = kBackwardWarps*(kWidth + 1) * kChannels<Io>* kLanes;

/// A block has 32 lanes' channels and a piece of a sequence (kConv1dPiece), of which its warps take
/// kRows rows in turn. For rows t0 .. of dx it needs g = dy act'(sum) from t0 + before - kHalo on,
/// kHalo rows more, and it adds to the filter's gradients those of the first kRows: over all t0
/// each row of g once.
template <class Io>
__global__ void __launch_bounds__(kBackwardWarps* kLanes, 1)
    backward_kernel(Conv1dArgs<Io, float> a) {
  constexpr int kGradients = kRows + kHalo, kSeen = kGradients + kHalo, kVector = kChannels<Io>;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int64_t groups = a.channels / kVector, slices = (groups + kLanes - 1) / kLanes;
  const int64_t pieces = (a.length + kConv1dPiece - 1) / kConv1dPiece;
  const int64_t piece = blockIdx.x / slices, group = blockIdx.x % slices * kLanes + lane;
  const bool real = group < groups;
  const int64_t first = real ? group * kVector : 0, b = piece / pieces,
                length = length_of(a.lengths, b, a.length);
  const Io* const x = a.x + b * a.x_batch + first;
  const Io* const dy = a.dy + b * a.dy_batch + first;
  float* const all_sums = shared_memory<float>();  // [warps, kWidth + 1, kVector, kLanes]
  float* const sums = all_sums + warp * (kWidth + 1) * kVector * kLanes + lane;
#pragma unroll
  for (int i = 0; i < (kWidth + 1) * kVector; ++i) sums[i * kLanes] = 0;

  const int64_t begin = piece % pieces * kConv1dPiece;
  // The last piece goes on until each row of g has been the first kRows of some t0.
  const int64_t end =
      piece % pieces == pieces - 1 ? a.length + kHalo - a.before : begin + kConv1dPiece;
  for (int64_t t0 = begin + warp * kRows; t0 < end; t0 += kBackwardWarps * kRows) {
    Channels seen[kSeen], gradients[kGradients], out[kRows];
#pragma unroll
    for (int i = 0; i < kSeen; ++i) {
      const int64_t t = t0 - kHalo + i;
      seen[i] = load(x + t * a.x_row, real && t >= 0 && t < length);
    }
#pragma unroll
    for (int i = 0; i < kGradients; ++i) {
      const int64_t t = t0 + a.before - kHalo + i;
      gradients[i] = load(dy + t * a.dy_row, real && t >= 0 && t < length);
    }
#pragma unroll
    for (int c = 0; c < kVector; ++c) {
      const Filter filter(a, first + c);
      float values[kSeen], g[kGradients];
#pragma unroll
      for (int i = 0; i < kSeen; ++i) values[i] = channel<Io>(seen[i], c);
#pragma unroll
      for (int i = 0; i < kGradients; ++i) {
        g[i] = channel<Io>(gradients[i], c);
        if (a.silu) g[i] *= silu_derivative(filter.sum(values + i));
      }
      float d_weight[kWidth] = {}, d_bias = 0;
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        float d_x = 0;
#pragma unroll
        for (int j = 0; j < kWidth; ++j) {
          d_x += filter.weight[j] * g[i + kHalo - j];
          d_weight[j] += g[i] * values[i + j];
        }
        d_bias += g[i];
        put<Io>(out[i], c, d_x);
      }
#pragma unroll
      for (int j = 0; j < kWidth; ++j) sums[(j * kVector + c) * kLanes] += d_weight[j];
      sums[(kWidth * kVector + c) * kLanes] += d_bias;
    }
    Io* const dx = a.dx + (b * a.length + t0) * a.channels + first;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (!real || t0 + i >= a.length) continue;
      *reinterpret_cast<Channels*>(dx + i * a.channels) = t0 + i < length ? out[i] : Channels{};
    }
  }

  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kSums<Io> / kBackwardWarps;
       i += kBackwardWarps * kLanes) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kBackwardWarps; ++w) sum += all_sums[w * (kSums<Io> / kBackwardWarps) + i];
    const int e = i / kLanes / kVector, c = i / kLanes % kVector;
    const int64_t of_lane = blockIdx.x % slices * kLanes + i % kLanes;
    if (of_lane < groups) {
      a.sums[(piece * (kWidth + 1) + e) * a.channels + of_lane * kVector + c] = sum;
    }
  }
}

template <class Io>
int64_t backward_blocks(const Conv1dArgs<Io, float>& a) {
  const int64_t groups = a.channels / kChannels<Io>;
  return a.batch * conv1d_pieces(a.length) * ((groups + kLanes - 1) / kLanes);
}

/// Whether the kernels take these arguments; forward: dy is not looked at.
template <class Io>
bool fits(const Conv1dArgs<Io, float>& a, bool backward) {
  const auto whole = [](int64_t elements) { return elements % kChannels<Io> == 0; };
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  return a.width == kWidth && whole(a.channels) && aligned(a.x) && whole(a.x_batch) &&
         whole(a.x_row) && aligned(backward ? a.dx : a.y) &&
         (!backward || (aligned(a.dy) && whole(a.dy_batch) && whole(a.dy_row)));
}

}  // namespace ribo::kernels::width4
