#include <algorithm>

#include "pair_transition/pair_transition_cuda.h"
#include "pair_transition/pair_transition_forward.cuh"

namespace ribo::kernels {
namespace {

// f(Io{}, T{}, integral_constant<int, channels>{}).
template <class F>
auto with_types(const CudaTransition& a, F&& f) {
  const auto with_channels = [&](auto io, auto type) {
    switch (a.channels) {
      case 16:
        return f(io, type, std::integral_constant<int, 16>{});
      case 32:
        return f(io, type, std::integral_constant<int, 32>{});
      case 64:
        return f(io, type, std::integral_constant<int, 64>{});
      default:
        return f(io, type, std::integral_constant<int, 128>{});
    }
  };
  const auto with_io = [&](auto type) {
    return a.wide ? with_channels(float{}, type) : with_channels(type, type);
  };
  return a.type == CudaTransitionType::bfloat16 ? with_io(__nv_bfloat16{}) : with_io(__half{});
}

Positions positions(const CudaTransition& a) {
  return {static_cast<int>(a.positions), static_cast<int>(a.length), a.lengths};
}
TransitionWeights weights(const CudaTransition& a) {
  return {a.hidden, a.eps, a.norm_weight, a.norm_bias, a.w1, a.b1, a.w2, a.b2};
}

// Blocks, one a multiprocessor, for warps that take `rows` positions at a time.
int64_t blocks(const CudaTransition& a, int64_t rows) {
  return std::min<int64_t>(a.multiprocessors, (a.positions + rows - 1) / rows);
}

}  // namespace

bool cuda_transition_takes(const CudaTransition& a) {
  return (a.channels == 16 || a.channels == 32 || a.channels == 64 || a.channels == 128) &&
         a.hidden % 16 == 0 && a.positions < int64_t{1} << 31 &&
         with_types(a, [&](auto, auto type, auto channels) {
           return StagedWeights<decltype(type), channels()>::bytes(a.hidden) <= a.shared_memory;
         });
}

cudaError_t cuda_transition_forward(const CudaTransitionForward& a, cudaStream_t stream) {
  return with_types(a, [&](auto io, auto type, auto channels) {
    using Io = decltype(io);
    return launch(transition_forward_kernel<Io, decltype(type), channels()>,
                  blocks(a, 16 * kForwardParts<channels()>), kForwardThreads<channels()>,
                  StagedWeights<decltype(type), channels()>::bytes(a.hidden), stream, positions(a),
                  weights(a), static_cast<const Io*>(a.x), static_cast<Io*>(a.y));
  });
}

}  // namespace ribo::kernels
