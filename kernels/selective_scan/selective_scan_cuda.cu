#include <algorithm>

#include "selective_scan/selective_scan_backward.cuh"
#include "selective_scan/selective_scan_cuda.h"
#include "selective_scan/selective_scan_forward.cuh"

namespace ribo::kernels {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class F>
auto with_type(CudaScanIo io, F&& f) {
  switch (io) {
    case CudaScanIo::bfloat16:
      return f(__nv_bfloat16{});
    case CudaScanIo::float16:
      return f(__half{});
    case CudaScanIo::float64:
      return f(double{});
    default:
      return f(float{});
  }
}

// f(Lanes): how a warp's lanes share that many states.
template <class F>
auto with_lanes(int64_t states, F&& f) {
  if (states <= 16) return f(Lanes<4, 4, 2, 4>{});
  if (states <= 64) return f(Lanes<16, 4, 2, 4>{});
  return f(Lanes<32, 8, 2, 2>{});
}

template <class L>
int64_t tiles(const CudaScanProblem& s) {
  return ceil_div(s.channels / s.groups, L::kOfBlock);
}

int64_t strides(const CudaScanProblem& s) { return ceil_div(s.length, kCudaScanStride); }

// [B, strides, G, kChunk, 2, all states]: what a tile of channels adds to dB and dC.
template <class L>
int64_t coefficient_elements(const CudaScanProblem& s) {
  return s.batch * strides(s) * s.groups * kChunk * 2 * L::kAllStates;
}

// [B, segments, N, D] and [B, segments, D] of the chain; what comes behind is aligned.
int64_t chain_elements(const CudaScanProblem& s) {
  return s.segments > 1 ? ceil_div(s.batch * s.segments * (s.states + 1) * s.channels, 4) * 4 : 0;
}

template <class Io>
Rows<const Io> input(const CudaScanRows& x) {
  return {static_cast<const Io*>(x.data), x.batch, static_cast<int>(x.step)};
}
template <class Io>
Rows<Io> output(const CudaScanProblem& s, void* data) {
  return {static_cast<Io*>(data), s.length * s.channels, static_cast<int>(s.channels)};
}

template <class Io, class L>
Problem<Io> typed(const CudaScanProblem& s) {
  using T = Real<Io>;
  Problem<Io> p{};
  p.batch = static_cast<int>(s.batch);
  p.length = static_cast<int>(s.length);
  p.channels = static_cast<int>(s.channels);
  p.groups = static_cast<int>(s.groups);
  p.states = static_cast<int>(s.states);
  p.tiles = static_cast<int>(tiles<L>(s));
  p.strides = static_cast<int>(strides(s));
  p.segments = static_cast<int>(s.segments);
  p.segment_steps = static_cast<int>(ceil_div(strides(s), s.segments)) * kCudaScanStride;
  p.delta_softplus = s.delta_softplus;
  p.reverse = s.reverse;
  p.lengths = s.lengths;
  p.u = input<Io>(s.u);
  p.delta = input<Io>(s.delta);
  p.z = input<Io>(s.z);
  p.B = input<Io>(s.B);
  p.C = input<Io>(s.C);
  p.A = static_cast<const T*>(s.A);
  p.D = static_cast<const T*>(s.D);
  p.delta_bias = static_cast<const T*>(s.delta_bias);
  p.initial_state = static_cast<const T*>(s.initial_state);
  p.checkpoints = static_cast<T*>(s.checkpoints);
  return p;
}

// Whether all rows, of which a group's `of_group` elements lie side by side, start and end at
// multiples of `bytes`.
template <class Io>
bool in_pieces(const Rows<Io>& x, int64_t of_group, int64_t bytes) {
  const auto whole = [&](int64_t elements) {
    return elements * static_cast<int64_t>(sizeof(Io)) % bytes == 0;
  };
  return static_cast<int64_t>(reinterpret_cast<uintptr_t>(x.data)) % bytes == 0 && whole(x.batch) &&
         whole(x.step) && whole(of_group);
}

// f(std::bool_constant): whether a kernel may copy the rows of channels in 16 bytes, and four
// states of B and C at once. Only with few states, so that a warp's channels are more than that.
template <class Io, class L, class F, class... More>
cudaError_t with_alignment(const Problem<Io>& p, F&& f, const More&... more) {
  if constexpr (L::kShares == 4) {
    constexpr int64_t kFour = alignof(Piece<Io, 4>);
    const int64_t of_group = p.channels / p.groups;
    const bool aligned = p.states % 4 == 0 && in_pieces(p.B, p.states, kFour) &&
                         in_pieces(p.C, p.states, kFour) && in_pieces(p.u, of_group, 16) &&
                         in_pieces(p.delta, of_group, 16) && in_pieces(p.z, of_group, 16) &&
                         (in_pieces(more, of_group, 16) && ...);
    if (aligned) return f(std::true_type{});
  }
  return f(std::false_type{});
}

constexpr int kThreads = 256;  // of the kernels that take an element a thread

// Steps one and two of a sequence in segments. `ends` becomes what enters each segment.
template <class Io, class L, bool kBackward>
cudaError_t chain(const Problem<Io>& p, int64_t blocks, const Rows<const Io>& dy,
                  const Real<Io>* first, Real<Io>* ends, cudaStream_t stream) {
  const int64_t elements = static_cast<int64_t>(p.batch) * p.states * p.channels;
  Real<Io>* totals = ends + elements * p.segments;
  const auto segments = [&](auto aligned) {
    return launch(ends_kernel<Io, L, aligned.value, kBackward>, blocks, L::kThreads,
                  sizeof(EndsRoom<Io, L, aligned.value>), stream, p, dy, ends, totals);
  };
  const cudaError_t error = with_alignment<Io, L>(p, segments, dy);
  if (error != cudaSuccess) return error;
  return launch(chain_kernel<Io, kBackward>, ceil_div(elements, kThreads), kThreads, 0, stream, p,
                static_cast<int64_t>(p.batch), first, totals, ends);
}

template <class Io, class L>
cudaError_t forward(const CudaScanForward& s, cudaStream_t stream) {
  using T = Real<Io>;
  const Problem<Io> p = typed<Io, L>(s);
  const int64_t blocks = s.batch * p.segments * p.groups * p.tiles;
  T* starts = nullptr;
  if (p.segments > 1) {
    starts = static_cast<T*>(s.scratch);
    const cudaError_t error =
        chain<Io, L, false>(p, blocks, Rows<const Io>{}, p.initial_state, starts, stream);
    if (error != cudaSuccess) return error;
  }
  const Rows<Io> y = output<Io>(s, s.y), ungated = output<Io>(s, s.ungated);
  const auto scan = [&](auto aligned) {
    return launch(scan_kernel<Io, L, aligned.value>, blocks, L::kThreads,
                  sizeof(ForwardRoom<Io, L, aligned.value>), stream, p, starts, y, ungated,
                  static_cast<T*>(s.last_state));
  };
  return with_alignment<Io, L>(p, scan, y, ungated);
}

template <class Io, class L>
cudaError_t backward(const CudaScanBackward& s, cudaStream_t stream) {
  using T = Real<Io>;
  const Problem<Io> p = typed<Io, L>(s);
  const int64_t blocks = s.batch * p.segments * p.groups * p.tiles;
  const int64_t elements = coefficient_elements<L>(s);
  const Rows<const Io> dy = input<Io>(s.dy);
  const Rows<const Io> ungated = input<Io>({s.ungated, s.length * s.channels, s.channels});
  const T* const d_last_state = static_cast<const T*>(s.d_last_state);
  T* scratch = static_cast<T*>(s.scratch);
  T* carries = nullptr;
  if (p.segments > 1) {
    carries = scratch;
    scratch += chain_elements(s);
    const cudaError_t error = chain<Io, L, true>(p, blocks, dy, d_last_state, carries, stream);
    if (error != cudaSuccess) return error;
  }
  const Parts<Io> parts{output<Io>(s, s.du),
                        output<Io>(s, s.ddelta),
                        output<Io>(s, s.dz),
                        static_cast<T*>(s.d_initial_state),
                        scratch,
                        scratch + p.tiles * elements};
  const auto scan = [&](auto aligned) {
    const auto run = [&](auto kernel) {
      return launch(kernel, blocks, L::kThreads, sizeof(BackwardRoom<Io, L, aligned.value>), stream,
                    p, dy, ungated, carries, d_last_state, parts);
    };
    if constexpr (aligned.value && sizeof(Io) <= 4) {
      constexpr int64_t kBlocks = kBackwardBlocks<Io, L, true>;
      if (blocks <= kBlocks * s.multiprocessors)
        return run(scan_backward_kernel<Io, L, true, true>);
    }
    return run(scan_backward_kernel<Io, L, aligned.value, false>);
  };
  cudaError_t error = with_alignment<Io, L>(p, scan, dy, ungated, parts.du, parts.ddelta, parts.dz);
  if (error != cudaSuccess) return error;
  error = launch(add_coefficients_kernel<Io>, ceil_div(elements, kThreads), kThreads, 0, stream, p,
                 L::kAllStates, parts.coefficients, static_cast<Io*>(s.dB), static_cast<Io*>(s.dC));
  if (error != cudaSuccess) return error;
  return launch(add_channels_kernel<Io>, ceil_div((s.states + 2) * s.channels, kThreads), kThreads,
                0, stream, p, s.batch * s.segments, parts.channel, static_cast<T*>(s.dA),
                static_cast<T*>(s.dD), static_cast<T*>(s.ddelta_bias));
}

}  // namespace

int64_t cuda_scan_segments(const CudaScanProblem& s, bool backward) {
  return with_lanes(s.states, [&](auto lanes) -> int64_t {
    const int64_t blocks = s.batch * s.groups * tiles<decltype(lanes)>(s);
    if (blocks == 0) return 1;
    // Two blocks a multiprocessor. Segments cost a second pass through all exponentials, which are
    // most of the forward pass: worth it there where two thirds of the GPU's warps are missing.
    const int64_t wanted = 2 * s.multiprocessors / blocks;
    if (wanted < (backward ? 2 : 3)) return 1;
    return std::max<int64_t>(1, std::min(wanted, strides(s) / 2));
  });
}

int64_t cuda_scan_scratch(const CudaScanProblem& s, bool backward) {
  if (!backward) return chain_elements(s);
  return with_lanes(s.states, [&](auto lanes) {
    using L = decltype(lanes);
    return chain_elements(s) + tiles<L>(s) * coefficient_elements<L>(s) +
           s.batch * s.segments * (s.states + 2) * s.channels;
  });
}

int64_t cuda_scan_shared(const CudaScanProblem& s) {
  return with_type(s.io, [&](auto io) {
    return with_lanes(s.states, [&](auto lanes) {
      // The largest, where rows are aligned.
      return static_cast<int64_t>(
          sizeof(BackwardRoom<decltype(io), decltype(lanes), lanes.kShares == 4>));
    });
  });
}

cudaError_t cuda_scan_forward(const CudaScanForward& scan, cudaStream_t stream) {
  return with_type(scan.io, [&](auto io) {
    return with_lanes(scan.states, [&](auto lanes) {
      return forward<decltype(io), decltype(lanes)>(scan, stream);
    });
  });
}

cudaError_t cuda_scan_backward(const CudaScanBackward& scan, cudaStream_t stream) {
  return with_type(scan.io, [&](auto io) {
    return with_lanes(scan.states, [&](auto lanes) {
      return backward<decltype(io), decltype(lanes)>(scan, stream);
    });
  });
}

}  // namespace ribo::kernels
