// The backward pass computes the weights again. With P the weights, D = keep * kept their dropout
// and G the gradient of the logits:
//
//   dv = (P D)^T dout,  dP = dout v^T * D,  G = P * (dP - delta),  delta = sum_j P dP = dout out,
//   dq = scale G k,  dk = scale G^T q,  dbias = G summed over the groups.
//
// Two kernels. For dq and dbias a warp has 16 queries and a part of the keys, 192, goes through
// groups, and keeps the sum of G in its registers. For dk and dv it has 16 or 32 keys of one group
// and goes through the queries; its products are those of the first, transposed.
#pragma once

#include "attention/attention_tile.cuh"

namespace ribo::kernels::attention {

inline constexpr int kPartChunks = 6;
inline constexpr int kPartKeys = kPartChunks * kChunk;
inline constexpr int kBackwardQueries = 64;  // of a stage, where a warp has keys

/// Where a group's rows stand in shared memory, of a block that has queries.
template <class T, int kWidth>
struct QueriesShared {
  static constexpr int kStride = Rows<T, kWidth>::kStride;
  T *k, *v, *q, *out_grad, *out;

  __device__ QueriesShared(T* at, int keys)
      : k(at),
        v(k + keys * kStride),
        q(v + keys * kStride),
        out_grad(q + 16 * warps() * kStride),
        out(out_grad + 16 * warps() * kStride) {}
  /// Elements of a group.
  __host__ __device__ static int64_t size(int keys, int queries) {
    return int64_t{2 * keys + 3 * queries} * kStride;
  }
};

/// Rows of a part's keys in shared memory.
__host__ __device__ inline int part_rows(int length) {
  return length < kPartKeys ? (length + kChunk - 1) / kChunk * kChunk : kPartKeys;
}

/// dq and dbias, of keys from part * kPartKeys on. `stages` groups are in shared memory at once.
template <class T, int kWidth, class Bias>
__global__ void __launch_bounds__(kThreads, kWidth == 16 && !Bias::kAlone ? 2 : 1)
    queries_kernel(CudaAttentionBackward a, int tiles, int part, int stages) {
  using Side = Rows<T, kWidth>;
  int64_t index = blockIdx.x;
  const int h = static_cast<int>(index % a.heads);
  index /= a.heads;
  const int tile = static_cast<int>(index % tiles);
  index /= tiles;
  const int slice = static_cast<int>(index % a.slices), b = static_cast<int>(index / a.slices);
  const auto end = static_cast<int>(length_of(a.lengths, b, a.length));
  const int block_first = 16 * warps() * tile, first = block_first + 16 * warp();
  const int key = part * kPartKeys, keys = min(max(end - key, 0), kPartKeys);
  const int key_rows = part_rows(a.length);
  const int row = first + lane() / 4;
  const bool last_part = part + 1 == a.parts;
  const float power = to_power(a);
  const Bias bias(a, a.bias, b, h, row);
  const bool dropout = Bias::kAlone && a.keep != nullptr;
  const auto shared = [&](int turn) {
    return QueriesShared<T, kWidth>(
        shared_memory<T>() +
            turn * QueriesShared<T, kWidth>::size(key_rows, static_cast<int>(blockDim.x / 2)),
        key_rows);
  };
  const auto stage = [&](int turn, int g) {
    const QueriesShared<T, kWidth> to = shared(turn);
    const auto copy_keys = [&](T* rows, const CudaAttentionTensor& x) {
      Side::stage(rows, head_of<T>(x, b, g, h), x.position, a.width, key,
                  (keys + kChunk - 1) / kChunk * kChunk, end);
    };
    const auto copy_queries = [&](T* rows, const CudaAttentionTensor& x) {
      Side::stage(rows, head_of<T>(x, b, g, h), x.position, a.width, block_first, 16 * warps(),
                  end);
    };
    copy_keys(to.k, a.k), copy_keys(to.v, a.v);
    copy_queries(to.q, a.q), copy_queries(to.out_grad, a.out_grad), copy_queries(to.out, a.out);
    commit_copies();
  };
  float next_sum[2];  // log_sum of the group that is being staged
  const auto fetch = [&](int g) {
    const float* const from = a.log_sum + row_of(a, b, h, a.groups, g, a.length);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      next_sum[half] = row + 8 * half < end ? from[row + 8 * half] : 0;
    }
  };
  const int groups = block_first < end ? min(a.groups, end) : 0;

  Logits bias_grad[kPartChunks] = {};
  const auto write = [&](auto* to, int columns, int chunk) {
    using X = std::remove_pointer_t<decltype(to)>;
    const int column = key + chunk * kChunk + lane() % 4 * 2;
    const auto each = [&](auto&& f) {
      X* at = to + row_of(a, b, h, a.length, row, columns) + column;
#pragma unroll
      for (int half = 0; half < 2; ++half, at += 8 * columns) {
#pragma unroll
        for (int i = 0; i < kChunk / 4; ++i) {
          f(at, half, i / 2 * 8 + i % 2, bias_grad[chunk][i / 2][2 * half + i % 2]);
        }
      }
    };
    if (first + 16 <= end && key + (chunk + 1) * kChunk <= columns) {
      each([](X* at, int, int i, float x) { at[i] = narrow<X>(x); });
    } else {
      each([&](X* at, int half, int i, float x) {
        if (row + 8 * half >= a.length || column + i >= columns) return;
        at[i] = narrow<X>(row + 8 * half < end ? x : 0);
      });
    }
  };
  // Writes what dbias, or this slice of it, is.
  const auto leave = [&](int chunk) {
    if constexpr (!Bias::kAlone) {
      const int pitch = pitch_of(a.length);
      write(a.bias_sums + int64_t{slice} * a.batch * a.heads * a.length * pitch, pitch, chunk);
    } else if (a.wide_bias_grad) {
      write(static_cast<float*>(a.bias_grad), a.length, chunk);
    } else {
      write(static_cast<T*>(a.bias_grad), a.length, chunk);
    }
  };
  // The bias of the next chunk, where there are registers for it.
  typename Bias::Raw ahead;
  int g = slice;
  if (g < groups) stage(0, g), fetch(g);
  if (Bias::kAlone && g < groups) bias.fetch(ahead, key, end);
  for (int turn = 0; g < groups; g += a.slices) {
    const float log_sum[2] = {next_sum[0], next_sum[1]};
    wait_for_copies<0>();
    __syncthreads();
    const QueriesShared<T, kWidth> from = shared(turn);
    if (g + a.slices < groups) {
      fetch(g + a.slices);
      if (stages == 2) turn ^= 1, stage(turn, g + a.slices);
    }
    const int corner = 16 * warp() * Side::kStride;
    typename Side::Operand q, out_grad;
    float product[2] = {};
#pragma unroll
    for (int step = 0; step < kWidth / 16; ++step) {
      const int at = corner + 16 * step + by_columns(lane(), Side::kStride);
      uint32_t out[4];
      load_matrix_x4(q[step], from.q + at);
      load_matrix_x4(out_grad[step], from.out_grad + at);
      load_matrix_x4(out, from.out + at);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float left[2], right[2];
        unpack<T>(out_grad[step][i], left[0], left[1]);
        unpack<T>(out[i], right[0], right[1]);
        product[i % 2] -= left[0] * right[0] + left[1] * right[1];
      }
    }
    add_lanes(product);
    if (lane() % 4 == 0) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (row + 8 * half < end) {
          a.delta[row_of(a, b, h, a.groups, g, a.length) + row + 8 * half] = product[half];
        }
      }
    }
    const float delta[2] = {product[0], product[1]};
    const float start[1][4] = {{dropout ? 0 : delta[0], dropout ? 0 : delta[0],
                                dropout ? 0 : delta[1], dropout ? 0 : delta[1]}};
    typename Side::Sums sum = {};
#pragma unroll
    for (int chunk = 0; chunk < kPartChunks; ++chunk) {
      const int rows = chunk * kChunk;
      if (rows >= keys) break;
      Logits x, d;
      if constexpr (Bias::kAlone) {
        bias.set(x, ahead, key + rows, end);
        if (rows + kChunk < keys) bias.fetch(ahead, key + rows + kChunk, end);
      } else {
        bias.fetch(ahead, key + rows, end);
        bias.set(x, ahead, key + rows, end);
      }
      Side::multiply_rows(x, q, from.k + rows * Side::kStride, x);
      Side::multiply_rows(d, out_grad, from.v + rows * Side::kStride, start);
      if (dropout) {
#pragma unroll
        for (int i = 0; i < kChunk / 2; ++i) {
          const int query = row + i / 2 % 2 * 8;
          const int at = key + rows + i / 4 * 8 + lane() % 4 * 2 + i % 2;
          const bool keeps =
              query < end && at < end && a.keep[row_of(a, b, h, a.length, query, a.length) + at];
          float& gradient = d[i / 4][i % 4];
          gradient = (keeps ? gradient * a.kept : 0) + delta[i / 2 % 2];
        }
      }
#pragma unroll
      for (int i = 0; i < kChunk / 2; ++i) {
        float& gradient = x[i / 4][i % 4];
        gradient = power_of_2(gradient * power - log_sum[i / 2 % 2]) * d[i / 4][i % 4];
        bias_grad[chunk][i / 4][i % 4] += gradient;
      }
      if constexpr (Bias::kAlone) leave(chunk);
      Side::add_rows(sum, x, from.k + rows * Side::kStride);
    }
    if (a.parts > 1) {
      float* const sums = a.q_sums + row_of(a, b, h, a.groups, g, a.length) * a.width;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (row + 8 * half >= end) continue;
#pragma unroll
        for (int i = 0; i < kWidth / 8; ++i) {
          const int column = 8 * i + lane() % 4 * 2;
          if (column >= a.width) continue;
          auto* const at = reinterpret_cast<float2*>(sums + (row + 8 * half) * a.width + column);
          if (part > 0) sum[i][2 * half] += at->x, sum[i][2 * half + 1] += at->y;
          *at = {sum[i][2 * half], sum[i][2 * half + 1]};
        }
      }
    }
    if (last_part) {
      Side::store(head_of<T>(a.q_grad, b, g, h), a.q_grad.position, a.width, first, end, a.length,
                  sum, [&](int) { return a.scale; });
    }
    if (Bias::kAlone) {
      g = a.groups;  // there was but one
      break;
    }
    if (stages == 1 && g + a.slices < groups) {
      __syncthreads();
      stage(0, g + a.slices);
    }
  }
  for (; last_part && g < a.groups; g += a.slices) {
    Side::store(head_of<T>(a.q_grad, b, g, h), a.q_grad.position, a.width, first, 0, a.length, {},
                [](int) { return 0.0f; });
  }
#pragma unroll
  for (int chunk = 0; chunk < kPartChunks; ++chunk) {
    if (!Bias::kAlone || slice >= groups || chunk * kChunk >= keys) leave(chunk);
  }
}

/// Of 16 keys each, which a warp has: an operand of the queries serves all.
template <int kWidth>
inline constexpr int kKeyTiles = kWidth == 16 ? 2 : 1;

template <class T, int kWidth>
struct KeysShared {
  struct Stage {
    alignas(16) T q[kBackwardQueries * Rows<T, kWidth>::kStride];
    T out_grad[kBackwardQueries * Rows<T, kWidth>::kStride];
    alignas(16) float log_sum[kBackwardQueries], delta[kBackwardQueries];
  };
  Stage stage[2];
};

/// dk and dv.
template <class T, int kWidth, class Bias>
__global__ void __launch_bounds__(kThreads) keys_kernel(CudaAttentionBackward a, int tiles) {
  using Side = Rows<T, kWidth>;
  constexpr int kTiles = kKeyTiles<kWidth>;
  auto& shared = *shared_memory<KeysShared<T, kWidth>>();
  const Head head(a, tiles);
  const int b = head.b, h = head.h, end = head.end(a);
  const int block_first = head.tile * warps() * 16 * kTiles;
  const int first = block_first + warp() * 16 * kTiles;
  const T* const q = head_of<T>(a.q, b, head.g, h);
  const T* const out_grad = head_of<T>(a.out_grad, b, head.g, h);
  const int64_t rows = row_of(a, b, h, a.groups, head.g, a.length);
  const auto stage = [&](int turn, int query) {
    auto& to = shared.stage[turn];
    Side::stage(to.q, q, a.q.position, a.width, query, kBackwardQueries, end);
    Side::stage(to.out_grad, out_grad, a.out_grad.position, a.width, query, kBackwardQueries, end);
    for (int i = static_cast<int>(threadIdx.x); i < 2 * kBackwardQueries;
         i += static_cast<int>(blockDim.x)) {
      const int at = i % kBackwardQueries, position = query + at;
      const bool sums = i < kBackwardQueries, there = position < end;
      copy_number_async((sums ? to.log_sum : to.delta) + at,
                        (sums ? a.log_sum : a.delta) + rows + (there ? position : 0), there);
    }
    commit_copies();
  };
  const int queries = block_first < end ? end : 0;  // that the block needs
  if (queries > 0) stage(0, 0);
  typename Bias::Transposed bias[kTiles];
  const bool dropout = Bias::kAlone && a.keep != nullptr;
  typename Side::Operand k[kTiles], v[kTiles];
  typename Side::Sums k_grad[kTiles] = {}, v_grad[kTiles] = {};
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    bias[i] = typename Bias::Transposed(a, Bias::kAlone ? a.bias : a.bias_transposed, b, h,
                                        first + lane() / 4 + 16 * i);
    Side::load(k[i], head_of<T>(a.k, b, head.g, h), a.k.position, a.width, first + 16 * i, end);
    Side::load(v[i], head_of<T>(a.v, b, head.g, h), a.v.position, a.width, first + 16 * i, end);
  }
  const int row = first + lane() / 4;
  const float power = to_power(a);
  typename Bias::Transposed::Raw ahead[kTiles];
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    if (Bias::kAlone && first < end) bias[i].fetch(ahead[i], 0, end);
  }
  for (int query = 0, turn = 0; query < queries; query += kBackwardQueries, turn ^= 1) {
    wait_for_copies<0>();
    __syncthreads();
    if (query + kBackwardQueries < queries) stage(turn ^ 1, query + kBackwardQueries);
    if (first >= end) continue;
    const auto& from = shared.stage[turn];
#pragma unroll
    for (int chunk = 0; chunk < kBackwardQueries; chunk += kChunk) {
      if (query + chunk >= queries) break;
      Logits start;
      float2 delta[kChunk / 8];
      float2 log_sum[kChunk / 8];
#pragma unroll
      for (int tile = 0; tile < kChunk / 8; ++tile) {
        const int at = chunk + 8 * tile + lane() % 4 * 2;
        delta[tile] = *reinterpret_cast<const float2*>(from.delta + at);
        start[tile][0] = start[tile][2] = dropout ? 0 : delta[tile].x;
        start[tile][1] = start[tile][3] = dropout ? 0 : delta[tile].y;
        log_sum[tile] = *reinterpret_cast<const float2*>(from.log_sum + at);
      }
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        Logits x, d;
        if constexpr (Bias::kAlone) {
          bias[i].set(x, ahead[i], query + chunk, end);
          if (query + chunk + kChunk < end) bias[i].fetch(ahead[i], query + chunk + kChunk, end);
        } else {
          bias[i].fetch(ahead[i], query + chunk, end);
          bias[i].set(x, ahead[i], query + chunk, end);
        }
        Side::multiply_rows(x, k[i], from.q + chunk * Side::kStride, x);
        Side::multiply_rows(d, v[i], from.out_grad + chunk * Side::kStride, start);
#pragma unroll
        for (int j = 0; j < kChunk / 2; ++j) {
          float& weight = x[j / 4][j % 4];
          const float2& sum = log_sum[j / 4];
          weight = power_of_2(weight * power - (j % 2 == 0 ? sum.x : sum.y));
        }
        if (dropout) {
          Logits kept;
#pragma unroll
          for (int j = 0; j < kChunk / 2; ++j) {
            const int at = row + 16 * i + j / 2 % 2 * 8;
            const int to = query + chunk + j / 4 * 8 + lane() % 4 * 2 + j % 2;
            const bool keeps =
                at < end && to < end && a.keep[row_of(a, b, h, a.length, to, a.length) + at];
            float& gradient = d[j / 4][j % 4];
            kept[j / 4][j % 4] = keeps ? x[j / 4][j % 4] * a.kept : 0;
            gradient =
                (keeps ? gradient * a.kept : 0) + (j % 2 == 0 ? delta[j / 4].x : delta[j / 4].y);
          }
          Side::add_rows(v_grad[i], kept, from.out_grad + chunk * Side::kStride);
        } else {
          Side::add_rows(v_grad[i], x, from.out_grad + chunk * Side::kStride);
        }
#pragma unroll
        for (int j = 0; j < kChunk / 2; ++j) x[j / 4][j % 4] *= d[j / 4][j % 4];
        Side::add_rows(k_grad[i], x, from.q + chunk * Side::kStride);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    Side::store(head_of<T>(a.k_grad, b, head.g, h), a.k_grad.position, a.width, first + 16 * i, end,
                a.length, k_grad[i], [&](int) { return a.scale; });
    Side::store(head_of<T>(a.v_grad, b, head.g, h), a.v_grad.position, a.width, first + 16 * i, end,
                a.length, v_grad[i], [](int) { return 1.0f; });
  }
}

}  // namespace ribo::kernels::attention
