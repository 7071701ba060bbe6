#include <algorithm>

#include "outer_product_mean/outer_product_mean_backward.cuh"
#include "outer_product_mean/outer_product_mean_cuda.h"
#include "outer_product_mean/outer_product_mean_forward.cuh"

namespace ribo::kernels {
namespace {

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

template <class F>
auto with_sizes(const CudaOuterProduct& a, F&& f) {
  const auto with_channels = [&](auto width) {
    return a.channels == 32 ? f(width, Constant<32>{}) : f(width, Constant<64>{});
  };
  return a.width == 16 ? with_channels(Constant<16>{}) : with_channels(Constant<32>{});
}

// f(Io{}, T{}, width, channels)
template <class F>
auto with_types(const CudaOuterProduct& a, F&& f) {
  const auto with_io = [&](auto type) {
    return with_sizes(a, [&](auto width, auto channels) {
      return a.wide ? f(float{}, type, width, channels) : f(type, type, width, channels);
    });
  };
  return a.type == CudaNarrow::bfloat16 ? with_io(__nv_bfloat16{}) : with_io(__half{});
}

// Of a multiprocessor, as shared memory allows it.
constexpr int64_t kBackwardBlocks = 2;

}  // namespace

bool cuda_outer_product_takes(const CudaOuterProduct& a) {
  return (a.width == 16 || a.width == 32) && (a.channels == 32 || a.channels == 64) &&
         int64_t{a.batch} * a.length * a.length < int64_t{1} << 31;
}

void cuda_outer_product_plan(CudaOuterProductBackward& a) {
  constexpr int kPiece = outer_product::kPiece;
  a.pieces = std::max(1, (a.length + kPiece - 1) / kPiece);
  const int64_t blocks = kBackwardBlocks * a.multiprocessors;
  a.slices = static_cast<int>(std::clamp<int64_t>(
      blocks / std::max<int64_t>(1, int64_t{a.batch} * a.pieces), 1, std::max(1, a.length)));
}

cudaError_t cuda_outer_product_forward(const CudaOuterProductForward& a, cudaStream_t stream) {
  return with_types(a, [&](auto io, auto type, auto width, auto channels) {
    using Io = decltype(io);
    using T = decltype(type);
    return launch(outer_product::forward_kernel<Io, T, width(), channels()>,
                  int64_t{a.batch} * a.length, outer_product::kThreads, 0, stream, a);
  });
}

cudaError_t cuda_outer_product_backward(const CudaOuterProductBackward& a, cudaStream_t stream) {
  return with_types(a, [&](auto io, auto type, auto width, auto channels) {
    using Io = decltype(io);
    using T = decltype(type);
    using Block = outer_product::BackwardBlock<Io, T, width(), channels()>;
    const cudaError_t error =
        launch(outer_product::backward_kernel<Io, T, width(), channels()>,
               int64_t{a.batch} * a.slices * a.pieces, outer_product::kBackwardThreads,
               sizeof(typename Block::Shared), stream, a);
    if (error != cudaSuccess) return error;
    const int values = a.batch * a.length * a.width;
    const auto share = [](int n, int each) { return (n + each - 1) / each; };
    const int b_blocks = share(values, 4 * outer_product::kAddColumns);
    const int a_blocks = a.real_a ? share(values, 8 * outer_product::kAddThreads) : 0;
    return launch(outer_product::add_kernel<T>, int64_t{b_blocks} + 1 + a_blocks,
                  outer_product::kAddThreads, outer_product::kAddThreads * sizeof(float4), stream,
                  a, b_blocks);
  });
}

}  // namespace ribo::kernels
