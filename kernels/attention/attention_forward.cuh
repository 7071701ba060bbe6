// The forward pass: a warp has 16 queries, whose softmax goes along the keys with a running
// maximum; the block's keys and values arrive 64 at a time while those before are used.
#pragma once

#include "attention/attention_tile.cuh"

namespace ribo::kernels::attention {

inline constexpr int kForwardKeys = 64;

template <class T, int kWidth>
struct ForwardShared {
  struct Stage {
    alignas(16) T k[kForwardKeys * Rows<T, kWidth>::kStride];
    T v[kForwardKeys * Rows<T, kWidth>::kStride];
  };
  Stage stage[2];
};

template <class T, int kWidth, class Bias>
__global__ void __launch_bounds__(kThreads) forward_kernel(CudaAttentionForward a, int tiles) {
  using Side = Rows<T, kWidth>;
  constexpr int kChunks = kForwardKeys / kChunk;
  auto& shared = *shared_memory<ForwardShared<T, kWidth>>();
  const Head head(a, tiles);
  const int end = head.end(a), first = (head.tile * warps() + warp()) * 16;
  const int b = head.b, h = head.h;
  const T* const k = head_of<T>(a.k, b, head.g, h);
  const T* const v = head_of<T>(a.v, b, head.g, h);
  const auto stage = [&](int turn, int key) {
    Side::stage(shared.stage[turn].k, k, a.k.position, a.width, key, kForwardKeys, end);
    Side::stage(shared.stage[turn].v, v, a.v.position, a.width, key, kForwardKeys, end);
    commit_copies();
  };
  const int keys = head.tile * warps() * 16 < end ? end : 0;  // that the block needs
  if (keys > 0) stage(0, 0);
  typename Side::Operand q;
  Side::load(q, head_of<T>(a.q, b, head.g, h), a.q.position, a.width, first, end);
  const int row = first + lane() / 4;
  const Bias bias(a, a.bias, b, h, row);
  const bool dropout = Bias::kAlone && a.keep != nullptr;
  const float power = to_power(a);
  typename Side::Sums sum = {};
  // Of a row's weights, in each of its columns.
  Fragments<1> total = {};
  const uint32_t ones[2] = {pack<T>(1, 1), pack<T>(1, 1)};
  float most[2] = {-kInfinity, -kInfinity};
  for (int key = 0, turn = 0; key < keys; key += kForwardKeys, turn ^= 1) {
    typename Bias::Raw raw[kChunks];
#pragma unroll
    for (int i = 0; i < kChunks; ++i) bias.fetch(raw[i], key + i * kChunk, end);
    wait_for_copies<0>();
    __syncthreads();
    if (key + kForwardKeys < keys) stage(turn ^ 1, key + kForwardKeys);
    if (first >= end) continue;
    Logits x[kChunks];
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      bias.set(x[i], raw[i], key + i * kChunk, end);
      Side::multiply_rows(x[i], q, shared.stage[turn].k + i * kChunk * Side::kStride, x[i]);
    }
    float now[2] = {most[0], most[1]};
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
#pragma unroll
      for (int j = 0; j < kChunk / 2; ++j) {
        now[j / 2 % 2] = fmaxf(now[j / 2 % 2], x[i][j / 4][j % 4]);
      }
    }
    float shift[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      now[half] = fmaxf(now[half], __shfl_xor_sync(~0u, now[half], 1));
      now[half] = fmaxf(now[half], __shfl_xor_sync(~0u, now[half], 2));
      // Where nothing is seen yet, what is not there stays so.
      shift[half] = now[half] == -kInfinity ? 0 : now[half] * power;
      const float less = power_of_2(most[half] * power - shift[half]);
      most[half] = now[half];
      total[0][2 * half] *= less;
#pragma unroll
      for (int tile = 0; tile < kWidth / 8; ++tile) {
        sum[tile][2 * half] *= less, sum[tile][2 * half + 1] *= less;
      }
    }
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
#pragma unroll
      for (int j = 0; j < kChunk / 2; ++j) {
        float& weight = x[i][j / 4][j % 4];
        weight = power_of_2(weight * power - shift[j / 2 % 2]);
      }
      uint32_t weights[kChunk / 16][4];
      Side::round(weights, x[i]);
#pragma unroll
      for (auto& part : weights) mma_16x8x16<T>(total[0], part, ones);
      if (dropout) {
#pragma unroll
        for (int j = 0; j < kChunk / 2; ++j) {
          const int query = row + j / 2 % 2 * 8;
          const int at = key + i * kChunk + j / 4 * 8 + lane() % 4 * 2 + j % 2;
          if (query < end && at < end && !a.keep[row_of(a, b, h, a.length, query, a.length) + at]) {
            x[i][j / 4][j % 4] = 0;
          }
        }
        Side::round(weights, x[i]);
      }
      Side::add_rows(sum, weights, shared.stage[turn].v + i * kChunk * Side::kStride);
    }
  }
  // Of a row that sees nothing the total is zero.
  Side::store(head_of<T>(a.out, b, head.g, h), a.out.position, a.width, first, end, a.length, sum,
              [&](int half) {
                const float x = total[0][2 * half];
                return x == 0 ? 0 : a.kept / x;
              });
  if (lane() % 4 != 0) return;
  float* const log_sum = a.log_sum + row_of(a, b, h, a.groups, head.g, a.length);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (row + 8 * half >= end) continue;
    const float x = total[0][2 * half];
    log_sum[row + 8 * half] = x == 0 ? kInfinity : most[half] * power + log2_of(x);
  }
}

}  // namespace ribo::kernels::attention
