#include <algorithm>

#include "attention/attention_backward.cuh"
#include "attention/attention_bias.cuh"
#include "attention/attention_cuda.h"
#include "attention/attention_forward.cuh"

namespace ribo::kernels {
namespace {

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

template <class X>
struct Type {
  using type = X;
};

// f(T{}, width, Type<how the bias is read>): the width that kernels are laid out for.
template <class F>
auto with_types(const CudaAttention& a, F&& f) {
  const auto with_bias = [&](auto type, auto width) {
    using T = decltype(type);
    if (a.groups == 1) {
      return a.wide_bias ? f(type, width, Type<attention::GivenBias<float>>{})
                         : f(type, width, Type<attention::GivenBias<T>>{});
    }
    if constexpr (std::is_same_v<T, __nv_bfloat16>) {
      if (!a.wide_bias) return f(type, width, Type<attention::ArrangedBias<T>>{});
    }
    return f(type, width, Type<attention::ArrangedBias<float>>{});
  };
  const auto with_width = [&](auto type) {
    return a.width <= 16   ? with_bias(type, Constant<16>{})
           : a.width <= 32 ? with_bias(type, Constant<32>{})
                           : with_bias(type, Constant<64>{});
  };
  return a.type == CudaNarrow::bfloat16 ? with_width(__nv_bfloat16{}) : with_width(__half{});
}

// f(X{}), what the bias is stored in.
template <class F>
auto with_bias(CudaNarrow type, bool wide, F&& f) {
  if (wide) return f(float{});
  return type == CudaNarrow::bfloat16 ? f(__nv_bfloat16{}) : f(__half{});
}

constexpr int divide_up(int n, int by) { return (n + by - 1) / by; }

// How `units` of each of `sets` are shared out: by blocks of so many warps, `tiles` a set. Blocks
// are large, as a set's other side is read by each, unless a GPU would have few of them.
struct Shares {
  int warps, tiles;
  Shares(int units, int64_t sets, int multiprocessors) {
    tiles = divide_up(units, attention::kMaxWarps);
    while (tiles < units && sets * tiles < 2 * int64_t{multiprocessors}) ++tiles;
    warps = divide_up(units, tiles);
    tiles = divide_up(units, warps);
  }
};

int64_t all_heads(const CudaAttention& a) { return int64_t{a.batch} * a.heads * a.groups; }

Shares query_shares(const CudaAttention& a) {
  return {divide_up(a.length, 16), all_heads(a), a.multiprocessors};
}

template <class T, int kWidth>
int64_t query_bytes(const CudaAttention& a, const Shares& shares) {
  using Shared = attention::QueriesShared<T, kWidth>;
  return Shared::size(attention::part_rows(a.length), 16 * shares.warps) *
         static_cast<int64_t>(sizeof(T));
}

}  // namespace

bool cuda_attention_takes(const CudaAttention& a) {
  if (a.width < 8 || a.width > 64 || a.width % 8 != 0) return false;
  if (a.length < 1 || a.length >= 1 << 20 || all_heads(a) * a.length >= int64_t{1} << 31) {
    return false;
  }
  return with_types(a, [&](auto type, auto width, auto) {
    return query_bytes<decltype(type), width()>(a, query_shares(a)) <= a.shared_memory;
  });
}

void cuda_attention_plan(CudaAttentionBackward& a) {
  a.parts = divide_up(a.length, attention::kPartKeys);
  const int64_t blocks = int64_t{a.batch} * a.heads * query_shares(a).tiles;
  a.slices = static_cast<int>(std::clamp<int64_t>(
      2 * int64_t{a.multiprocessors} / std::max<int64_t>(1, blocks), 1, std::max(1, a.groups)));
}

int cuda_attention_pitch(int length) { return attention::pitch_of(length); }

int64_t cuda_attention_arranged(int length) { return attention::Arrangement<float>(length).size(); }

cudaError_t cuda_attention_bias(const CudaAttentionBias& a, cudaStream_t stream) {
  const auto blocks = static_cast<int>(cuda_attention_arranged(a.length) / attention::kBiasThreads);
  return with_bias(a.type, a.wide_from, [&](auto from) {
    using From = decltype(from);
    const auto run = [&](auto* kernel) {
      return launch(kernel, int64_t{a.batch} * a.heads * blocks, attention::kBiasThreads, 0, stream,
                    a, blocks);
    };
    return a.wide_to ? run(attention::bias_kernel<From, float>)
                     : run(attention::bias_kernel<From, __nv_bfloat16>);
  });
}

cudaError_t cuda_attention_forward(const CudaAttentionForward& a, cudaStream_t stream) {
  return with_types(a, [&](auto type, auto width, auto bias) {
    using T = decltype(type);
    const Shares shares(divide_up(a.length, 16), all_heads(a), a.multiprocessors);
    return launch(attention::forward_kernel<T, width(), typename decltype(bias)::type>,
                  all_heads(a) * shares.tiles, 32 * shares.warps,
                  sizeof(attention::ForwardShared<T, width()>), stream, a, shares.tiles);
  });
}

cudaError_t cuda_attention_backward(const CudaAttentionBackward& a, cudaStream_t stream) {
  return with_types(a, [&](auto type, auto width, auto bias) {
    using T = decltype(type);
    // First, as it finds delta.
    const Shares queries = query_shares(a);
    const int64_t group = query_bytes<T, width()>(a, queries);
    const int stages = a.groups > a.slices && 2 * group <= a.shared_memory ? 2 : 1;
    cudaError_t error = cudaSuccess;
    for (int part = 0; part < a.parts && error == cudaSuccess; ++part) {
      error = launch(attention::queries_kernel<T, width(), typename decltype(bias)::type>,
                     int64_t{a.batch} * a.slices * a.heads * queries.tiles, 32 * queries.warps,
                     stages * group, stream, a, queries.tiles, part, stages);
    }
    if (error != cudaSuccess) return error;
    if (a.groups > 1) {
      error = with_bias(a.type, a.wide_bias_grad, [&](auto x) {
        const int64_t rows = int64_t{a.batch} * a.heads * a.length;
        constexpr int kRows = attention::kBiasThreads / 32;
        return launch(attention::add_bias_kernel<decltype(x)>, (rows + kRows - 1) / kRows,
                      attention::kBiasThreads, 0, stream, a);
      });
      if (error != cudaSuccess) return error;
    }
    const Shares keys(divide_up(a.length, 16 * attention::kKeyTiles<width()>), all_heads(a),
                      a.multiprocessors);
    return launch(attention::keys_kernel<T, width(), typename decltype(bias)::type>,
                  all_heads(a) * keys.tiles, 32 * keys.warps,
                  sizeof(attention::KeysShared<T, width()>), stream, a, keys.tiles);
  });
}

}  // namespace ribo::kernels
