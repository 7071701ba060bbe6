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

int64_t tiles(const CudaScanProblem& s) { return ceil_div(s.channels / s.groups, kLanes); }

int64_t strides(const CudaScanProblem& s) { return ceil_div(s.length, kCudaScanStride); }

// [B, strides, G, N, kLanes]: what a tile of channels adds to dB and dC.
int64_t coefficient_elements(const CudaScanProblem& s) {
  return s.batch * strides(s) * s.groups * s.states * kLanes;
}

// [B, segments, N, D] and [B, segments, D] of the chain.
int64_t chain_elements(const CudaScanProblem& s) {
  return s.segments > 1 ? s.batch * s.segments * (s.states + 1) * s.channels : 0;
}

template <class Io>
Rows<const Io> input(const CudaScanRows& x) {
  return {static_cast<const Io*>(x.data), x.batch, static_cast<int>(x.step)};
}
template <class Io>
Rows<Io> output(const CudaScanProblem& s, void* data) {
  return {static_cast<Io*>(data), s.length * s.channels, static_cast<int>(s.channels)};
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

template <class Io>
Problem<Io> typed(const CudaScanProblem& s) {
  using T = Real<Io>;
  Problem<Io> p{};
  p.batch = static_cast<int>(s.batch);
  p.length = static_cast<int>(s.length);
  p.channels = static_cast<int>(s.channels);
  p.groups = static_cast<int>(s.groups);
  p.states = static_cast<int>(s.states);
  p.tiles = static_cast<int>(tiles(s));
  p.strides = static_cast<int>(strides(s));
  constexpr int64_t kOfWord = kWord / static_cast<int64_t>(sizeof(Io));
  while (kOfWord << p.log_words < std::min<int64_t>(s.states, kStateBlock)) ++p.log_words;
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

// f(std::bool_constant): whether a kernel may copy B, C and the rows of channels in pieces.
template <class Io, class F, class... More>
cudaError_t with_pieces(const Problem<Io>& p, F&& f, const More&... more) {
  const int64_t of_group = p.channels / p.groups;
  const bool pieces = in_pieces(p.B, p.states, kWord) && in_pieces(p.C, p.states, kWord) &&
                      in_pieces(p.u, of_group, 16) && in_pieces(p.delta, of_group, 16) &&
                      in_pieces(p.z, of_group, 16) && (in_pieces(more, of_group, 16) && ...);
  return pieces ? f(std::true_type{}) : f(std::false_type{});
}

constexpr int kThreads = 256;  // of the kernels that take an element a thread

// Steps one and two of a sequence in segments. `ends` becomes what enters each segment.
template <class Io, bool kBackward>
cudaError_t chain(const Problem<Io>& p, int64_t batch, int64_t blocks, const Rows<const Io>& dy,
                  const Real<Io>* first, Real<Io>* ends, cudaStream_t stream) {
  const int64_t elements = batch * p.states * p.channels;
  Real<Io>* totals = ends + elements * p.segments;
  const auto segments = [&](auto pieces) {
    return launch(segment_kernel<Io, decltype(pieces)::value, kBackward>, blocks, kScanThreads,
                  segment_shared<Io>(p.states).size(), stream, p, dy, ends, totals);
  };
  const cudaError_t error = with_pieces(p, segments, dy);
  if (error != cudaSuccess) return error;
  return launch(chain_kernel<Io, kBackward>, ceil_div(elements, kThreads), kThreads, 0, stream, p,
                batch, first, totals, ends);
}

template <class Io>
cudaError_t forward(const CudaScanForward& s, cudaStream_t stream) {
  using T = Real<Io>;
  const Problem<Io> p = typed<Io>(s);
  const int64_t blocks = s.batch * p.segments * p.groups * p.tiles;
  T* starts = nullptr;
  if (p.segments > 1) {
    starts = static_cast<T*>(s.scratch);
    const cudaError_t error =
        chain<Io, false>(p, s.batch, blocks, Rows<const Io>{}, p.initial_state, starts, stream);
    if (error != cudaSuccess) return error;
  }
  const Rows<Io> y = output<Io>(s, s.y), ungated = output<Io>(s, s.ungated);
  const auto scan = [&](auto pieces) {
    return launch(scan_kernel<Io, decltype(pieces)::value>, blocks, kScanThreads,
                  forward_shared<Io>(p.states).size(), stream, p, starts, y, ungated,
                  static_cast<T*>(s.last_state));
  };
  return with_pieces(p, scan, y, ungated);
}

template <class Io>
cudaError_t backward(const CudaScanBackward& s, cudaStream_t stream) {
  using T = Real<Io>;
  const Problem<Io> p = typed<Io>(s);
  const int64_t blocks = s.batch * p.segments * p.groups * p.tiles;
  const int64_t elements = coefficient_elements(s);
  const Rows<const Io> dy = input<Io>(s.dy);
  const Rows<const Io> ungated = input<Io>({s.ungated, s.length * s.channels, s.channels});
  const T* const d_last_state = static_cast<const T*>(s.d_last_state);
  T* scratch = static_cast<T*>(s.scratch);
  T* carries = nullptr;
  if (p.segments > 1) {
    carries = scratch;
    scratch += chain_elements(s);
    const cudaError_t error =
        chain<Io, true>(p, s.batch, blocks, dy, d_last_state, carries, stream);
    if (error != cudaSuccess) return error;
  }
  const Parts<Io> parts{output<Io>(s, s.du),
                        output<Io>(s, s.ddelta),
                        output<Io>(s, s.dz),
                        static_cast<T*>(s.d_initial_state),
                        scratch,
                        scratch + p.tiles * elements};
  const auto scan = [&](auto pieces) {
    return launch(scan_backward_kernel<Io, decltype(pieces)::value>, blocks, kScanThreads,
                  backward_shared<Io>(p.states).size(), stream, p, dy, ungated, carries,
                  d_last_state, parts);
  };
  cudaError_t error = with_pieces(p, scan, dy, ungated, parts.du, parts.ddelta, parts.dz);
  if (error != cudaSuccess) return error;
  error = launch(add_coefficients_kernel<Io>, ceil_div(elements, kThreads), kThreads, 0, stream, p,
                 parts.coefficients, static_cast<Io*>(s.dB), static_cast<Io*>(s.dC));
  if (error != cudaSuccess) return error;
  return launch(add_channels_kernel<Io>, ceil_div((s.states + 2) * s.channels, kThreads), kThreads,
                0, stream, p, s.batch * s.segments, parts.channel, static_cast<T*>(s.dA),
                static_cast<T*>(s.dD), static_cast<T*>(s.ddelta_bias));
}

}  // namespace

int64_t cuda_scan_segments(const CudaScanProblem& s, int multiprocessors) {
  // Segments cost a second pass through all exponentials: worth it where half of the GPU idles.
  const int64_t blocks = s.batch * s.groups * tiles(s);
  if (blocks == 0 || blocks >= multiprocessors) return 1;
  const int64_t wanted = ceil_div(4 * multiprocessors, blocks);
  return std::max<int64_t>(1, std::min(wanted, strides(s) / 2));
}

int64_t cuda_scan_scratch(const CudaScanProblem& s, bool backward) {
  if (!backward) return chain_elements(s);
  return chain_elements(s) + tiles(s) * coefficient_elements(s) +
         s.batch * s.segments * (s.states + 2) * s.channels;
}

int64_t cuda_scan_shared(const CudaScanProblem& s) {
  return with_type(s.io, [&](auto io) {
    return std::max(forward_shared<decltype(io)>(s.states).size(),
                    backward_shared<decltype(io)>(s.states).size());
  });
}

cudaError_t cuda_scan_forward(const CudaScanForward& scan, cudaStream_t stream) {
  return with_type(scan.io, [&](auto io) { return forward<decltype(io)>(scan, stream); });
}

cudaError_t cuda_scan_backward(const CudaScanBackward& scan, cudaStream_t stream) {
  return with_type(scan.io, [&](auto io) { return backward<decltype(io)>(scan, stream); });
}

}  // namespace ribo::kernels
