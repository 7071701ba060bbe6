// What every kernel of the scan is made of.
//
// A warp works alone. It owns neighbouring channels of one sequence and one group, and walks
// through a segment of the steps. A lane has a column (neighbouring channels) and a share of the
// states (neighbouring ones), which it holds in registers. Steps go in groups of as many as lanes
// share a column, and what is asked of a step and channel once - step size, gate, sums over the
// states - each of those lanes does for one step of the group: nothing is done twice, and the rest
// gets it through a piece of shared memory of the warp's own. Only B and C, which all channels of a
// group read, the block's warps bring to shared memory together.
#pragma once

#include <cuda_pipeline.h>

#include "common/mma.cuh"
#include "common/scatter_sums.cuh"
#include "selective_scan/selective_scan_cuda.h"

namespace ribo::kernels {

inline constexpr int kChunk = kCudaScanStride;

/// A tensor [B, L, ...] of Io or const Io; strides in elements.
template <class Io>
struct Rows {
  Io* data;
  int64_t batch;
  int step;
};

/// CudaScanProblem with types, and how it is cut into blocks.
template <class Io>
struct Problem {
  int batch, length, channels, groups, states;
  int tiles;                    // blocks of a group
  int segments, segment_steps;  // segment_steps is a multiple of kChunk
  int strides;                  // ceil(length / kChunk)
  bool delta_softplus, reverse;
  const int64_t* lengths;
  Rows<const Io> u, delta, z, B, C;
  const Real<Io>*A, *D, *delta_bias, *initial_state;
  Real<Io>* checkpoints;
};

/// kCount neighbouring elements, read and written at once.
template <class Io, int kCount, class = void>
struct alignas(kCount * sizeof(Io) < 16 ? kCount * sizeof(Io) : 16) Piece {
  Io v[kCount];
};
/// In registers the narrow types stand in pairs.
template <class Io, int kCount>
struct alignas(kCount * sizeof(Io) < 16
                   ? kCount * sizeof(Io)
                   : 16) Piece<Io, kCount, std::enable_if_t<sizeof(Io) == 2 && kCount % 2 == 0>> {
  union {
    uint32_t pair[kCount / 2];
    Io v[kCount];
  };
};

template <class Io, int kCount>
__device__ inline void unpack(const Piece<Io, kCount>& from, Real<Io> (&to)[kCount]) {
  if constexpr (sizeof(Io) == 2 && kCount % 2 == 0) {
#pragma unroll
    for (int i = 0; i < kCount; i += 2) unpack<Io>(from.pair[i / 2], to[i], to[i + 1]);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = widen(from.v[i]);
  }
}
template <class Io, int kCount>
__device__ inline Piece<Io, kCount> packed(const Real<Io> (&from)[kCount]) {
  Piece<Io, kCount> to;
  if constexpr (sizeof(Io) == 2 && kCount % 2 == 0) {
#pragma unroll
    for (int i = 0; i < kCount; i += 2) to.pair[i / 2] = pack<Io>(from[i], from[i + 1]);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to.v[i] = narrow<Io>(from[i]);
  }
  return to;
}

/// How the lanes of a warp share its channels and states: kShares have a column together.
template <int kShares_, int kStates_, int kOfLane_, int kWarps_>
struct Lanes {
  static constexpr int kShares = kShares_;
  static constexpr int kStates = kStates_;  // of a lane
  static constexpr int kOfLane = kOfLane_;  // channels
  static constexpr int kWarps = kWarps_, kThreads = 32 * kWarps;
  static constexpr int kAllStates = kShares * kStates;
  static constexpr int kColumns = 32 / kShares;
  static constexpr int kOfWarp = kColumns * kOfLane;  // channels
  static constexpr int kOfBlock = kWarps * kOfWarp;
  static constexpr int kGroup = kShares < 8 ? kShares : 8;  // steps
  static constexpr int kGroups = kChunk / kGroup;
};

/// A tensor [B, L, ...] in the order of the scan: step t is at start + t * stride, in bytes.
template <class Io>
struct alignas(16) Track {
  Io* start;
  int stride;

  __device__ Io* operator()(int t, int64_t column) const {
    using Byte = std::conditional_t<std::is_const_v<Io>, const char, char>;
    int64_t offset;
#ifdef __CUDACC__
    // As one multiply-add; the compiler would make it four of the widened stride.
    asm("mul.wide.s32 %0, %1, %2;" : "=l"(offset) : "r"(t), "r"(stride));
#else
    offset = static_cast<int64_t>(t) * stride;
#endif
    Io* const to = reinterpret_cast<Io*>(reinterpret_cast<Byte*>(start + column) + offset);
#ifdef __CUDACC__
    __builtin_assume(__isGlobal(to));  // no less where `start` comes from shared memory
#endif
    return to;
  }
};

/// Where a lane stands, and how it reads and writes. kAligned: the columns of all tensors are
/// aligned Pieces, and whole.
template <class Io, class L, bool kAligned>
struct Spot {
  using T = Real<Io>;
  static constexpr int kOfLane = L::kOfLane;
  using Own = Piece<Io, kOfLane>;

  const Problem<Io>& p;
  int64_t batch;
  int tile, group, segment;
  int warp, column, share;
  int channel, channels;   // the lane's first one, and how many there are; maybe none
  int copied_channel;      // the lane's first one where the warp's channels are copied in 16 bytes
  int length, begin, end;  // of the sequence; the segment's steps

  __device__ explicit Spot(const Problem<Io>& problem) : p(problem) {
    int64_t block = blockIdx.x;
    tile = static_cast<int>(block % p.tiles), block /= p.tiles;
    group = static_cast<int>(block % p.groups), block /= p.groups;
    segment = static_cast<int>(block % p.segments), batch = block / p.segments;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    warp = static_cast<int>(threadIdx.x) / 32;
    column = lane % L::kColumns, share = lane / L::kColumns;
    const int of_group = p.channels / p.groups;
    const int first = tile * L::kOfBlock + warp * L::kOfWarp, rank = first + column * kOfLane;
    channels = min(max(of_group - rank, 0), kOfLane);
    channel = group * of_group + (channels > 0 ? rank : 0);
    const int copied = first + lane % kOfRow * kPiece;
    copied_channel = group * of_group + (copied < of_group ? copied : 0);
    length = static_cast<int>(length_of(p.lengths, batch, p.length));
    begin = segment * p.segment_steps;
    end = min(begin + p.segment_steps, length);
  }

  /// Channel i of the lane, if it has that; if not, one that exists.
  __device__ int channel_of(int i) const { return channel + (i < channels ? i : 0); }
  /// The lane's first state.
  __device__ int state() const { return share * L::kStates; }
  /// The last chunk of the segment, which has steps.
  __device__ int last_chunk() const { return begin + (end - 1 - begin) / kChunk * kChunk; }
  /// The groups of the chunk at t0 in which there are steps.
  __device__ int groups(int t0) const {
    return min(L::kGroups, (end - t0 + L::kGroup - 1) / L::kGroup);
  }
  /// The lane's step of a group.
  __device__ int own() const { return share % L::kGroup; }

  template <class Element>
  __device__ Track<Element> track(const Rows<Element>& x) const {
    const int first = p.reverse ? length - 1 : 0;
    return {x.data + (batch * x.batch + static_cast<int64_t>(first) * x.step),
            (p.reverse ? -x.step : x.step) * static_cast<int>(sizeof(Element))};
  }
  /// The column at step t, or the last one before `end`.
  __device__ Own read(const Track<const Io>& x, int t) const {
    const Io* const from = x(min(t, end - 1), channel);
    if constexpr (kAligned) {
      return *reinterpret_cast<const Own*>(from);
    } else {
      Own own;
#pragma unroll
      for (int i = 0; i < kOfLane; ++i) own.v[i] = from[i < channels ? i : 0];
      return own;
    }
  }
  /// Starts to copy the warp's columns at the kChunk steps from t0 on, as read() reads them, to
  /// to(k) [kGroup][kColumns] for each group k.
  template <class F>
  __device__ void copy(const Track<const Io>& x, int t0, F&& to) const {
    if constexpr (kAligned) {
      const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
      for (int i = 0; i < kChunk; i += 32 / kOfRow) {
        const int step = i + lane / kOfRow;
        if (32 / kOfRow > kChunk && step >= kChunk) break;
        __pipeline_memcpy_async(
            &to(step / L::kGroup)[step % L::kGroup][lane % kOfRow * (kPiece / kOfLane)],
            x(min(t0 + step, end - 1), copied_channel), 16);
      }
    } else if (share < L::kGroup) {
#pragma unroll 1
      for (int k = 0; k < L::kGroups; ++k) {
        to(k)[share][column] = read(x, t0 + k * L::kGroup + share);
      }
    }
  }
  /// Writes step t, if it lies before `limit`.
  __device__ void write(const Track<Io>& x, int t, int limit, const T (&values)[kOfLane]) const {
    const Own own = packed<Io>(values);
    put(x(t, channel), own, t < limit);
  }
  /// Where the steps end that the lane writes, of a tensor that may be missing.
  __device__ int limit(const void* tensor) const {
    return tensor && channels > 0 && share < L::kGroup ? end : begin;
  }
  /// Zeros where the segment reaches behind the sequence.
  __device__ void clear_padding(const Rows<Io>& x) const {
    if (share >= L::kGroup) return;
    const int to = min(begin + p.segment_steps, p.length);
    for (int t = max(begin, length) + own(); t < to; t += L::kGroup) {
      put(x.data + (batch * x.batch + static_cast<int64_t>(t) * x.step + channel), Own{},
          channels > 0);
    }
  }

  /// delta after bias and softplus at step t; zero where there is no step, so that the state
  /// passes.
  __device__ void step_sizes(const Own& raw, int t, const T (&bias)[kOfLane],
                             T (&delta)[kOfLane]) const {
    unpack(raw, delta);
#pragma unroll
    for (int i = 0; i < kOfLane; ++i) {
      delta[i] += bias[i];
      // Both, and no branch: what the processor does meanwhile must not end here.
      const T soft = softplus<Io>(delta[i]);
      delta[i] = p.delta_softplus ? soft : delta[i];
      delta[i] = t < end ? delta[i] : T{0};
    }
  }

  /// Index of (row n, the lane's channel i) of the outer-th [rows, D].
  __device__ int64_t by_row(int64_t outer, int64_t rows, int64_t n, int i) const {
    return (outer * rows + n) * p.channels + channel_of(i);
  }
  /// Index of the state n of the lane's channel i in [B, D, N].
  __device__ int64_t by_channel(int n, int i) const {
    return (batch * p.channels + channel_of(i)) * p.states + n;
  }
  /// The sequence's checkpoints, [N, D] at the step t / kChunk.
  __device__ Track<T> checkpoints() const {
    return {p.checkpoints + by_row(batch * p.strides, p.states, 0, 0) - channel,
            p.states * p.channels * static_cast<int>(sizeof(T))};
  }
  /// Keeps the lane's states before the chunk at t0.
  __device__ void keep(const Track<T>& checkpoints, int t0,
                       const T (&h)[kOfLane][L::kStates]) const {
    T* const to = checkpoints(t0 / kChunk, state() * p.channels + channel);
#pragma unroll
    for (int s = 0; s < L::kStates; ++s) {
      Piece<T, kOfLane> piece;
#pragma unroll
      for (int i = 0; i < kOfLane; ++i) piece.v[i] = h[i][s];
      put(to + static_cast<int64_t>(s) * p.channels, piece, channels > 0 && state() + s < p.states);
    }
  }
  /// What keep() has kept.
  __device__ void kept(const Track<T>& checkpoints, int t0, T (&h)[kOfLane][L::kStates]) const {
    const T* const from = checkpoints(t0 / kChunk, state() * p.channels + channel);
#pragma unroll
    for (int s = 0; s < L::kStates; ++s) {
      Piece<T, kOfLane> piece{};
      const T* const row = from + static_cast<int64_t>(s) * p.channels;
      if (state() + s < p.states) {
        if constexpr (kAligned) {
          piece = *reinterpret_cast<const Piece<T, kOfLane>*>(row);
        } else {
#pragma unroll
          for (int i = 0; i < kOfLane; ++i) piece.v[i] = row[i < channels ? i : 0];
        }
      }
#pragma unroll
      for (int i = 0; i < kOfLane; ++i) h[i][s] = piece.v[i];
    }
  }
  /// f(i, s, n) for the states that the lane has: channel i, its s-th state, number n.
  template <class F>
  __device__ void each_state(F&& f) const {
#pragma unroll
    for (int i = 0; i < kOfLane; ++i) {
#pragma unroll
      for (int s = 0; s < L::kStates; ++s) {
        if (i < channels && state() + s < p.states) f(i, s, state() + s);
      }
    }
  }

 private:
  // Elements of 16 bytes, and how many of these a row of the warp's channels has.
  static constexpr int kPiece = 16 / sizeof(Io);
  static constexpr int kOfRow = L::kOfWarp < kPiece ? 1 : L::kOfWarp / kPiece;

  template <class Element>
  __device__ void put(Element* to, const Piece<Element, kOfLane>& own, bool there) const {
    if constexpr (kAligned) {
      if (there) *reinterpret_cast<Piece<Element, kOfLane>*>(to) = own;
    } else {
#pragma unroll
      for (int i = 0; i < kOfLane; ++i) {
        if (there && i < channels) to[i] = own.v[i];
      }
    }
  }
};

/// B and C [B, L, G, N] of the group, a chunk of steps at a time, as [2, kChunk, all states] of
/// Real. A thread answers for neighbouring numbers. kAligned: they are copied as they are, ahead of
/// time.
template <class Io, class L, bool kAligned>
class Coefficients {
  using T = Real<Io>;
  static constexpr int kOfThread = 2 * kChunk * L::kAllStates / L::kThreads;
  static constexpr int kAtOnce = 4;
  static_assert(kOfThread % kAtOnce == 0 && L::kAllStates % kOfThread == 0);
  using Copy = Piece<Io, kAtOnce>;

 public:
  using Copied = Copy[kAligned ? L::kThreads : 1][kOfThread / kAtOnce];
  using Turned = T[2][kChunk][L::kAllStates];

  __device__ Coefficients(const Spot<Io, L, kAligned>& at, Copied& copied)
      : at_(at),
        mine_(copied[kAligned ? threadIdx.x : 0]),
        step_(static_cast<int>(threadIdx.x) * kOfThread / L::kAllStates % kChunk),
        state_(static_cast<int>(threadIdx.x) * kOfThread % L::kAllStates) {}

  /// The tensor that this thread answers for.
  __device__ static Rows<const Io> tensor(const Problem<Io>& p) {
    // Not one of two structures, which the compiler would put into memory to choose from.
    return {of_c() ? p.C.data : p.B.data, of_c() ? p.C.batch : p.B.batch,
            of_c() ? p.C.step : p.B.step};
  }
  /// Whether that is C, not B.
  __device__ static bool of_c() { return static_cast<int>(threadIdx.x) >= L::kThreads / 2; }

  /// Starts to copy the chunk at t0 of it.
  __device__ void fetch(const Track<const Io>& tensor, int t0) const {
    if constexpr (kAligned) {
      const Io* const from = tensor(t0 + step_, first());
#pragma unroll
      for (int i = 0; i < kOfThread; i += kAtOnce) {
        constexpr int kBytes = alignof(Copy), kPiece = kBytes / sizeof(Io);
        const bool real = there(t0) && state_ + i < at_.p.states;
#pragma unroll
        for (int j = 0; j < kAtOnce; j += kPiece) {
          __pipeline_memcpy_async(mine_[i / kAtOnce].v + j, from + i + j, kBytes,
                                  real ? 0 : kBytes);
        }
      }
    }
  }
  /// What has arrived of the chunk at t0.
  __device__ void turn(const Track<const Io>& tensor, int t0, Turned& to) const {
    auto* const mine =
        reinterpret_cast<Piece<T, kAtOnce>*>(to) + threadIdx.x * (kOfThread / kAtOnce);
    const Io* const from = tensor(t0 + step_, first());
#pragma unroll 4
    for (int i = 0; i < kOfThread / kAtOnce; ++i) {
      Piece<T, kAtOnce> values;
      if constexpr (kAligned) {
        unpack(mine_[i], values.v);
      } else {
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
          const int n = i * kAtOnce + j;
          values.v[j] = there(t0) && state_ + n < at_.p.states ? widen(from[n]) : T{0};
        }
      }
      mine[i] = values;
    }
  }

 private:
  __device__ bool there(int t0) const { return t0 + step_ < at_.end && t0 + step_ >= at_.begin; }
  __device__ int first() const { return at_.group * at_.p.states + state_; }

  const Spot<Io, L, kAligned>& at_;
  Copy (&mine_)[kOfThread / kAtOnce];
  const int step_, state_;
};

}  // namespace ribo::kernels
