#include <algorithm>

#include "pair_transition/pair_transition_backward.cuh"
#include "pair_transition/pair_transition_backward_wgmma.cuh"
#include "pair_transition/pair_transition_cuda.h"
#include "pair_transition/pair_transition_forward.cuh"
#include "pair_transition/pair_transition_forward_wgmma.cuh"

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
  return a.type == CudaNarrow::bfloat16 ? with_io(__nv_bfloat16{}) : with_io(__half{});
}

// Whether a warpgroup's instructions run: where the others have not much less to multiply.
bool takes_wgmma(const CudaTransition& a) {
  return a.capability == 90 && a.channels == 64 && a.hidden > kWgmmaUnits / 2 &&
         a.hidden <= kWgmmaUnits;
}

// Of a kernel: positions of a tile, hidden units that weights are filled up to, bytes of weights
// and of shared memory.
template <class Weights>
struct Plan {
  int64_t positions, units, weights, bytes;
  int threads;
};

// f(Io{}, T{}, channels, the forward kernel, its plan).
template <class F>
auto with_forward(const CudaTransition& a, F&& f) {
  return with_types(a, [&](auto io, auto type, auto channels) {
    using Io = decltype(io);
    using T = decltype(type);
    if constexpr (channels() == 64) {
      if (takes_wgmma(a)) {
        return f(io, type, channels, transition_forward_wgmma_kernel<Io, T>,
                 Plan<WgmmaWeights<T>>{64, kWgmmaUnits, WgmmaWeights<T>::kBytes,
                                       kWgmmaForwardBytes<Io, T>, kWgmmaForwardThreads});
      }
    }
    using Weights = StagedWeights<T, channels()>;
    const int64_t bytes = Weights::bytes(a.hidden);
    return f(io, type, channels, transition_forward_kernel<Io, T, channels()>,
             Plan<Weights>{16 * kForwardParts, a.hidden, bytes,
                           bytes + kForwardAhead<Io, channels()>, kForwardThreads});
  });
}

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

// f(Io{}, T{}, channels, the backward kernel, its plan).
template <class F>
auto with_backward(const CudaTransition& a, F&& f) {
  return with_types(a, [&](auto io, auto type, auto channels) {
    using Io = decltype(io);
    using T = decltype(type);
    if constexpr (channels() == 64) {
      if (takes_wgmma(a)) {
        using Tile = WgmmaBackwardTile<Io, T>;
        return f(io, type, channels, transition_backward_wgmma_kernel<Io, T>,
                 Plan<WgmmaWeights<T>>{Tile::kPositions, kWgmmaUnits, WgmmaWeights<T>::kBytes,
                                       Tile::kBytes, Tile::kThreads});
      }
    }
    return with_tile<Io, T, channels()>(a, [&](auto slice, auto parts) {
      using Tile = BackwardTile<Io, T, channels(), slice(), parts()>;
      using Weights = typename Tile::Weights;
      return f(io, type, channels, transition_backward_kernel<Io, T, channels(), slice(), parts()>,
               Plan<Weights>{Tile::kPositions, Tile::kHidden, Weights::bytes(Tile::kHidden),
                             Tile::kBytes, kBackwardThreads});
    });
  });
}

// Blocks, one a multiprocessor, that take `positions` at a time.
int64_t blocks(const CudaTransition& a, int64_t positions) {
  return std::min<int64_t>(a.multiprocessors, (a.positions + positions - 1) / positions);
}
int64_t backward_blocks(const CudaTransition& a, int64_t positions) {
  return std::max<int64_t>(1, blocks(a, positions));
}

Positions positions(const CudaTransition& a) {
  return {static_cast<unsigned>(a.positions), static_cast<int>(a.length), a.lengths};
}
template <class T>
TransitionWeights<T> weights(const CudaTransition& a) {
  return {{a.wide_weights}, a.hidden, a.eps, a.norm_weight, a.norm_bias, a.w1, a.b1, a.w2, a.b2};
}

template <class Io, class T, int kChannels, class Weights>
cudaError_t fold_weights(const CudaTransition& a, const Plan<Weights>& plan, cudaStream_t stream) {
  constexpr int kWarps = kFoldThreads / 32;
  return launch(fold_transition_weights_kernel<Io, T, kChannels, Weights>,
                (plan.units + kChannels + kWarps - 1) / kWarps, kFoldThreads, 0, stream,
                weights<T>(a), static_cast<int>(plan.units), static_cast<void*>(a.scratch));
}

}  // namespace

bool cuda_transition_takes(const CudaTransition& a) {
  if (a.channels != 16 && a.channels != 32 && a.channels != 64) return false;
  const auto fits = [&](auto, auto, auto, auto*, const auto& plan) {
    return a.hidden <= plan.units && plan.bytes <= a.shared_memory;
  };
  return a.hidden % 16 == 0 && a.positions < int64_t{1} << 31 && with_forward(a, fits) &&
         with_backward(a, fits);
}

int64_t cuda_transition_forward_scratch(const CudaTransition& a) {
  return with_forward(
      a, [&](auto, auto, auto, auto*, const auto& plan) -> int64_t { return plan.weights / 4; });
}

int64_t cuda_transition_backward_scratch(const CudaTransition& a) {
  return with_backward(a, [&](auto, auto, auto, auto*, const auto& plan) -> int64_t {
    return plan.weights / 4 +
           backward_blocks(a, plan.positions) * (a.hidden + 1) * (2 * a.channels + 4);
  });
}

cudaError_t cuda_transition_forward(const CudaTransitionForward& a, cudaStream_t stream) {
  return with_forward(a, [&](auto io, auto type, auto channels, auto* kernel, const auto& plan) {
    using Io = decltype(io);
    const cudaError_t error = fold_weights<Io, decltype(type), channels()>(a, plan, stream);
    if (error != cudaSuccess) return error;
    return launch(takes_wgmma(a), kernel, blocks(a, plan.positions), plan.threads, plan.bytes,
                  stream, positions(a), static_cast<const void*>(a.scratch), a.hidden, a.eps,
                  static_cast<const Io*>(a.x), static_cast<Io*>(a.y));
  });
}

cudaError_t cuda_transition_backward(const CudaTransitionBackward& a, cudaStream_t stream) {
  return with_backward(a, [&](auto io, auto type, auto channels, auto* kernel, const auto& plan) {
    using Io = decltype(io);
    using T = decltype(type);
    const bool early = takes_wgmma(a);
    const auto count = static_cast<int>(backward_blocks(a, plan.positions));
    float* const sums = a.scratch + plan.weights / 4;
    const TransitionGradients<T> d = {
        {a.wide_weights}, a.d_norm_weight, a.d_norm_bias, a.dw1, a.db1, a.dw2, a.db2};
    cudaError_t error = fold_weights<Io, T, channels()>(a, plan, stream);
    if (error != cudaSuccess) return error;
    error =
        launch(early, kernel, count, plan.threads, plan.bytes, stream, positions(a),
               static_cast<const void*>(a.scratch), a.hidden, a.eps, static_cast<const Io*>(a.x),
               static_cast<const Io*>(a.dy), static_cast<Io*>(a.dx), sums);
    if (error != cudaSuccess) return error;
    error =
        launch(early, add_transition_sums_kernel<Io, T, channels()>, int64_t{a.hidden} + 1,
               kSumsThreads, kSumsThreads * sizeof(float4), stream, sums, count, weights<T>(a), d);
    if (error != cudaSuccess) return error;
    return launch(early, transition_norm_gradients_kernel<Io, T, channels()>, channels() / 4,
                  kNormThreads, 8 * kNormThreads * sizeof(float), stream, sums, weights<T>(a), d);
  });
}

}  // namespace ribo::kernels
