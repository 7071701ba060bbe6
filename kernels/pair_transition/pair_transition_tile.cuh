// What both directions of the pair transition share: which positions are real, and the weights in
// shared memory.
//
// The norm's weight and bias go into the first linear map: with n = (x - mean) / deviation,
//   W1 (n weight + bias) + b1 = (W1 diag(weight)) n + (b1 + W1 bias).
#pragma once

#include "common/rows.cuh"

namespace ribo::kernels {

__device__ inline float2 load_pair(const float* from) {
  return *reinterpret_cast<const float2*>(from);
}

/// Which of the positions [B, L, L] lie inside the lengths.
struct Positions {
  unsigned count;          // below 2^31
  int length;              // L
  const int64_t* lengths;  // [B] or null

  __device__ bool real(unsigned position) const {
    if (position >= count) return false;
    if (lengths == nullptr) return true;
    const auto side = static_cast<unsigned>(length);
    const unsigned row = position / side;
    const int64_t end = lengths[row / side];
    return row % side < end && position % side < end;
  }
};

/// Parameters and their gradients, all float32 or all of T.
template <class T>
struct Parameters {
  bool wide;

  __device__ float at(const void* from, int64_t i) const {
    return wide ? static_cast<const float*>(from)[i] : widen(static_cast<const T*>(from)[i]);
  }
  /// Four from i on, a multiple of four.
  __device__ float4 quad(const void* from, int64_t i) const {
    if (wide) return *reinterpret_cast<const float4*>(static_cast<const float*>(from) + i);
    const auto words = *reinterpret_cast<const Words<2>*>(static_cast<const T*>(from) + i);
    float4 value;
    unpack<T>(words.word[0], value.x, value.y);
    unpack<T>(words.word[1], value.z, value.w);
    return value;
  }
  __device__ void set(void* to, int64_t i, float value) const {
    if (wide) {
      static_cast<float*>(to)[i] = value;
    } else {
      static_cast<T*>(to)[i] = narrow<T>(value);
    }
  }
};

template <class T>
struct TransitionWeights : Parameters<T> {
  int hidden;
  float eps;
  const void *norm_weight, *norm_bias, *w1, *b1, *w2, *b2;
};

template <class T>
struct TransitionGradients : Parameters<T> {
  void *norm_weight, *norm_bias, *w1, *b1, *w2, *b2;
};

/// The weights in shared memory: channels in RowOrder, and zeros for hidden units up to `rows`.
template <class T, int kChannels>
struct StagedWeights {
  int rows;   // a multiple of 16, at least the hidden units
  T* w1;      // [rows, C], with the norm's weight
  T* w2;      // [C, rows]
  float* b1;  // [rows], with the norm's bias
  float* b2;  // [C]

  static constexpr int kW1Stride = kChannels + kPadding;
  __device__ int w2_stride() const { return rows + kPadding; }

  __device__ StagedWeights(void* shared, int hidden_rows)
      : rows(hidden_rows),
        w1(static_cast<T*>(shared)),
        w2(w1 + rows * kW1Stride),
        b1(reinterpret_cast<float*>(w2 + kChannels * w2_stride())),
        b2(b1 + rows) {}

  static constexpr int64_t bytes(int64_t rows) {
    return 2 * (rows * kW1Stride + kChannels * (rows + kPadding)) + 4 * (rows + kChannels);
  }

  /// By all threads of the block. Io: what rows are stored in.
  template <class Io>
  __device__ void stage(const TransitionWeights<T>& w) const {
    using Order = RowOrder<Io, kChannels>;
    constexpr int kQuads = kChannels / 4;
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    // Of W1 a thread has the same channels in every row. kQuads lanes, a power of two, have a row.
    const int channel = thread % kQuads * 4;
    const float4 weight = w.quad(w.norm_weight, channel), bias = w.quad(w.norm_bias, channel);
    for_quads(
        rows * kQuads, [&](int i) { return i / kQuads < w.hidden ? 4 * i : -1; }, w, w.w1,
        [&](int i, const float4& value) {
          const int h = i / kQuads;
          T* const to = w1 + h * kW1Stride + Order::column(channel);
          store(to, value.x * weight.x, value.y * weight.y);
          store(to + 8, value.z * weight.z, value.w * weight.w);
          float sum = value.x * bias.x + value.y * bias.y + value.z * bias.z + value.w * bias.w;
#pragma unroll
          for (int lanes = kQuads / 2; lanes > 0; lanes /= 2) {
            sum += __shfl_xor_sync(~0u, sum, lanes);
          }
          if (channel == 0) b1[h] = h < w.hidden ? w.at(w.b1, h) + sum : 0.0f;
        });
    const int quads = rows / 4;
    for_quads(
        kChannels * quads,
        [&](int i) {
          const int h = i % quads * 4;
          return h < w.hidden ? i / quads * w.hidden + h : -1;
        },
        w, w.w2,
        [&](int i, const float4& value) {
          T* const to = w2 + Order::column(i / quads) * w2_stride() + i % quads * 4;
          store(to, value.x, value.y);
          store(to + 2, value.z, value.w);
        });
    for (int i = thread; i < kChannels; i += threads) b2[Order::column(i)] = w.at(w.b2, i);
  }

 private:
  __device__ static void store(T* to, float low, float high) {
    *reinterpret_cast<uint32_t*>(to) = pack<T>(low, high);
  }
  // use(i, quad) for i < count, a multiple of 32, with the four values from index(i) on, or zeros
  // where that is negative. Eight loads are on their way at once.
  template <class Index, class Use>
  __device__ static void for_quads(int count, Index&& index, const Parameters<T>& w,
                                   const void* from, Use&& use) {
    constexpr int kAtOnce = 8;
    const int threads = static_cast<int>(blockDim.x);
    for (int first = static_cast<int>(threadIdx.x); first < count; first += kAtOnce * threads) {
      float4 quad[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const int i = first + k * threads, at = i < count ? index(i) : -1;
        quad[k] = at >= 0 ? w.quad(from, at) : float4{0, 0, 0, 0};
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        if (first + k * threads < count) use(first + k * threads, quad[k]);
      }
    }
  }
};

}  // namespace ribo::kernels
