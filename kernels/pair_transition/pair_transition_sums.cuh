// The gradients of the pair transition's weights, from what each block has added up. A block leaves
// [H + 1, kSumsRow]: for each hidden unit a row of dW1 [C], dW2's transposed [C] and db1, where W1
// and b1 contain the norm's weight and bias (pair_transition_tile.cuh), and channels come in the
// order of channel_of_sum(); then a row that starts with db2 [C], channels in their own order.
#pragma once

#include "pair_transition/pair_transition_tile.cuh"

namespace ribo::kernels {

template <int kChannels>
inline constexpr int kSumsRow = 2 * kChannels + 4;

inline constexpr int kSumsThreads = 512, kNormThreads = 256;

/// Of a row's four lanes each has four sums of 16 columns (RowOrder) side by side. Four sums from a
/// multiple of four are of channels side by side.
template <class Io, int kChannels>
__device__ inline int channel_of_sum(int i) {
  return RowOrder<Io, kChannels>::channel(i / 16 * 16 + i % 4 / 2 * 8 + i / 4 % 4 * 2 + i % 2);
}

__device__ inline void add(float4& to, const float4& x) {
  to.x += x.x, to.y += x.y, to.z += x.z, to.w += x.w;
}

/// A row for each of H + 1 blocks: adds it over the `count` of `sums`, into the first of those, and
/// writes all gradients but the norm's.
template <class Io, class T, int kChannels>
__global__ void __launch_bounds__(kSumsThreads, 2)
    add_transition_sums_kernel(float* __restrict__ sums, int count, TransitionWeights<T> weights,
                               TransitionGradients<T> d) {
  await_previous();
  constexpr int kQuads = kSumsRow<kChannels> / 4, kGroups = kSumsThreads / kQuads;
  const int thread = static_cast<int>(threadIdx.x), quad = thread % kQuads, group = thread / kQuads;
  const int unit = static_cast<int>(blockIdx.x), hidden = weights.hidden;
  float4* const quads = shared_memory<float4>();  // [kGroups, kQuads]
  float4* const row = reinterpret_cast<float4*>(sums + int64_t{unit} * kSumsRow<kChannels>);
  if (group < kGroups) {
    constexpr int kAtOnce = 10;  // loads on their way
    float4 sum = {0, 0, 0, 0};
    for (int first = group; first < count; first += kAtOnce * kGroups) {
      float4 some[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const int i = first + k * kGroups;
        some[k] = i < count ? row[int64_t{i} * (hidden + 1) * kQuads + quad] : float4{0, 0, 0, 0};
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) add(sum, some[k]);
    }
    quads[thread] = sum;
  }
  __syncthreads();
  if (group == 0) {
    float4 sum = quads[quad];
#pragma unroll
    for (int i = 1; i < kGroups; ++i) add(sum, quads[i * kQuads + quad]);
    row[quad] = quads[quad] = sum;
  }
  __syncthreads();
  const float* const total = reinterpret_cast<const float*>(quads);
  if (thread >= kChannels) return;
  if (unit == hidden) {
    d.set(d.b2, thread, total[thread]);
    return;
  }
  const float db1 = total[2 * kChannels];
  const int channel = channel_of_sum<Io, kChannels>(thread);
  d.set(d.w1, unit * kChannels + channel,
        total[thread] * weights.at(weights.norm_weight, channel) +
            db1 * weights.at(weights.norm_bias, channel));
  d.set(d.w2, channel * hidden + unit, total[kChannels + thread]);
  if (thread == 0) d.set(d.b1, unit, db1);
}

/// Four channels for each of C / 4 blocks: the gradients of the norm, from the sums' first.
template <class Io, class T, int kChannels>
__global__ void __launch_bounds__(kNormThreads)
    transition_norm_gradients_kernel(const float* __restrict__ sums, TransitionWeights<T> weights,
                                     TransitionGradients<T> d) {
  await_previous();
  const int thread = static_cast<int>(threadIdx.x), first = 4 * static_cast<int>(blockIdx.x);
  const int channel = channel_of_sum<Io, kChannels>(first);
  float sum[8] = {};  // of norm_weight's four, norm_bias's four
  for (int h = thread; h < weights.hidden; h += kNormThreads) {
    const float* const row = sums + h * kSumsRow<kChannels>;
    const float4 g = *reinterpret_cast<const float4*>(row + first);
    const float4 w = weights.quad(weights.w1, h * kChannels + channel);
    const float db1 = row[2 * kChannels];
    sum[0] += g.x * w.x, sum[1] += g.y * w.y, sum[2] += g.z * w.z, sum[3] += g.w * w.w;
    sum[4] += db1 * w.x, sum[5] += db1 * w.y, sum[6] += db1 * w.z, sum[7] += db1 * w.w;
  }
  float* const of_threads = shared_memory<float>();  // [8, kNormThreads]
#pragma unroll
  for (int i = 0; i < 8; ++i) of_threads[i * kNormThreads + thread] = sum[i];
#pragma unroll
  for (int count = kNormThreads / 2; count >= 1; count /= 2) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 8 && thread < count; ++i) {
      of_threads[i * kNormThreads + thread] += of_threads[i * kNormThreads + thread + count];
    }
  }
  __syncthreads();
  if (thread >= 8) return;
  d.set(thread < 4 ? d.norm_weight : d.norm_bias, channel + thread % 4,
        of_threads[thread * kNormThreads]);
}

}  // namespace ribo::kernels
