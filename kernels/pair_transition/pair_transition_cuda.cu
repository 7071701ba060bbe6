#include <algorithm>

#include "pair_transition/pair_transition_backward.cuh"
#include "pair_transition/pair_transition_cuda.h"
#include "pair_transition/pair_transition_forward.cuh"

namespace ribo::kernels {
namespace {

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

template <class F>
auto with_channels(const CudaTransition& a, F&& f) {
  switch (a.channels) {
    case 16:
      return f(Constant<16>{});
    case 32:
      return f(Constant<32>{});
    default:
      return f(Constant<64>{});
  }
}

// f(Io{}, T{}, channels).
template <class F>
auto with_types(const CudaTransition& a, F&& f) {
  const auto with_io = [&](auto type) {
    return with_channels(a, [&](auto channels) {
      return a.wide ? f(float{}, type, channels) : f(type, type, channels);
    });
  };
  return a.type == CudaTransitionType::bfloat16 ? with_io(__nv_bfloat16{}) : with_io(__half{});
}

int64_t forward_bytes(const CudaTransition& a) {
  return with_types(a, [&](auto, auto type, auto channels) {
    return StagedWeights<decltype(type), channels()>::bytes(a.hidden);
  });
}

// A backward kernel's positions of a tile, its most hidden units, and shared memory.
struct BackwardPlan {
  int64_t positions, hidden, bytes;
};

// f(kSlice, kParts) of BackwardTile: as hidden layers usually need it, four times as wide as the
// channels or less, and as shared memory allows it.
template <class Io, class T, int kChannels, class F>
auto with_tile(const CudaTransition& a, F&& f) {
  if constexpr (kChannels == 64) {
    return BackwardTile<Io, T, kChannels, 2, 2>::kBytes > a.shared_memory
               ? f(Constant<2>{}, Constant<1>{})
               : f(Constant<2>{}, Constant<2>{});
  } else {
    return f(Constant<1>{}, Constant<2>{});
  }
}

// f(Io{}, T{}, the backward kernel, its plan).
template <class F>
auto with_backward(const CudaTransition& a, F&& f) {
  return with_types(a, [&](auto io, auto type, auto channels) {
    using Io = decltype(io);
    using T = decltype(type);
    return with_tile<Io, T, channels()>(a, [&](auto slice, auto parts) {
      using Tile = BackwardTile<Io, T, channels(), slice(), parts()>;
      return f(io, type, transition_backward_kernel<Io, T, channels(), slice(), parts()>,
               BackwardPlan{Tile::kPositions, Tile::kHidden, Tile::kBytes});
    });
  });
}

// Blocks, one a multiprocessor, that take `positions` at a time.
int64_t blocks(const CudaTransition& a, int64_t positions) {
  return std::min<int64_t>(a.multiprocessors, (a.positions + positions - 1) / positions);
}
int64_t backward_blocks(const CudaTransition& a, const BackwardPlan& plan) {
  return std::max<int64_t>(1, blocks(a, plan.positions));
}

Positions positions(const CudaTransition& a) {
  return {static_cast<unsigned>(a.positions), static_cast<int>(a.length), a.lengths};
}
template <class T>
TransitionWeights<T> weights(const CudaTransition& a) {
  return {{a.wide_weights}, a.hidden, a.eps, a.norm_weight, a.norm_bias, a.w1, a.b1, a.w2, a.b2};
}

}  // namespace

bool cuda_transition_takes(const CudaTransition& a) {
  if (a.channels != 16 && a.channels != 32 && a.channels != 64) return false;
  return a.hidden % 16 == 0 && a.positions < int64_t{1} << 31 &&
         forward_bytes(a) <= a.shared_memory &&
         with_backward(a, [&](auto, auto, auto*, const BackwardPlan& plan) {
           return a.hidden <= plan.hidden && plan.bytes <= a.shared_memory;
         });
}

int64_t cuda_transition_scratch(const CudaTransition& a) {
  return with_backward(a, [&](auto, auto, auto*, const BackwardPlan& plan) {
    return backward_blocks(a, plan) * (a.hidden + 1) * (2 * a.channels + 4);
  });
}

cudaError_t cuda_transition_forward(const CudaTransitionForward& a, cudaStream_t stream) {
  return with_types(a, [&](auto io, auto type, auto channels) {
    using Io = decltype(io);
    using T = decltype(type);
    return launch(transition_forward_kernel<Io, T, channels()>, blocks(a, 16 * kForwardParts),
                  kForwardThreads, forward_bytes(a), stream, positions(a), weights<T>(a),
                  static_cast<const Io*>(a.x), static_cast<Io*>(a.y));
  });
}

cudaError_t cuda_transition_backward(const CudaTransitionBackward& a, cudaStream_t stream) {
  int count = 0;
  cudaError_t error =
      with_backward(a, [&](auto io, auto type, auto* kernel, const BackwardPlan& plan) {
        using Io = decltype(io);
        count = static_cast<int>(backward_blocks(a, plan));
        return launch(kernel, count, kBackwardThreads, plan.bytes, stream, positions(a),
                      weights<decltype(type)>(a), static_cast<const Io*>(a.x),
                      static_cast<const Io*>(a.dy), static_cast<Io*>(a.dx), a.scratch);
      });
  if (error != cudaSuccess) return error;
  return with_types(a, [&](auto, auto type, auto channels) {
    using T = decltype(type);
    const TransitionGradients<T> d = {
        {a.wide_weights}, a.d_norm_weight, a.d_norm_bias, a.dw1, a.db1, a.dw2, a.db2};
    error = launch(add_transition_sums_kernel<T, channels()>, int64_t{a.hidden} + 1, kSumsThreads,
                   kSumsThreads * sizeof(float4), stream, a.scratch, count, weights<T>(a), d);
    if (error != cudaSuccess) return error;
    return launch(transition_norm_gradients_kernel<T, channels()>, channels() / 4, kSumsThreads,
                  8 * kSumsThreads * sizeof(float), stream, a.scratch, weights<T>(a), d);
  });
}

}  // namespace ribo::kernels
