// What every kernel of the scan is made of.
//
// A block owns up to 32 neighbouring channels of one sequence and one group, a lane of each warp
// one of them (consecutive lanes, consecutive addresses), and walks through a segment of the steps
// in tiles of kSteps. Its kWays warps share the states: warp w has every kWays-th from w on. Within
// a tile the loop over a warp's states is the outer one, so that a thread holds one state and
// everything of its channel's kSteps steps in registers, whatever the number of states. What is
// asked of a step and channel once, before and after the states, each thread does for its own
// kOwn steps, and the rest of the block gets it through shared memory.
#pragma once

#include <cuda_pipeline.h>

#include "common/cuda.cuh"
#include "selective_scan/selective_scan_cuda.h"

namespace ribo::kernels {

inline constexpr int kSteps = kCudaScanStride;
inline constexpr int kLanes = 32;
inline constexpr int kWays = 4;
inline constexpr int kScanThreads = kLanes * kWays;
inline constexpr int kOwn = kSteps / kWays;
// States whose B and C are in shared memory at a time.
inline constexpr int kStateBlock = 32;
// Distance of two rows of kSteps numbers there: whole 16 bytes, and no bank conflicts.
inline constexpr int kRow = kSteps + 4;

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
  int segments, segment_steps;  // segment_steps is a multiple of kSteps
  int strides;                  // ceil(length / kSteps)
  int log_words;                // 2^log_words words hold the states of a block of states
  bool delta_softplus, reverse;
  const int64_t* lengths;
  Rows<const Io> u, delta, z, B, C;
  const Real<Io>*A, *D, *delta_bias, *initial_state;
  Real<Io>* checkpoints;
};

/// Four steps of a state, or of a channel.
template <class T>
struct alignas(16) Quad {
  T v[4];
};
static_assert(kOwn == 4);

/// Bytes of B and C that are copied at a time.
inline constexpr int kWord = 8;

/// How a block finds its channels of a tensor [B, L, ...], for all of its threads in shared memory:
/// registers are short. Step t is at start + t * stride, in bytes.
struct alignas(16) Walk {
  const void* start;
  int stride;
};
inline constexpr int kWalks = 10;  // at most of a kernel

/// What a block has in shared memory, in this order: Walks; for every state and channel `lanes`
/// numbers; coefficients; `rows` arrays [kLanes, kRow] of steps; tiles of Io.
template <class Io>
struct Shared {
  int64_t lanes, coefficients, rows, tiles;

  /// Bytes.
  __host__ __device__ int64_t size() const {
    return kWalks * static_cast<int64_t>(sizeof(Walk)) +
           (lanes * kLanes + coefficients * kStateBlock * kRow + rows * kLanes * kRow) *
               static_cast<int64_t>(sizeof(Real<Io>)) +
           tiles * kSteps * kLanes * static_cast<int64_t>(sizeof(Io));
  }
};
__device__ inline Walk* shared_walks() { return shared_memory<Walk>(); }
template <class Io>
__device__ inline Real<Io>* shared_reals() {
  return reinterpret_cast<Real<Io>*>(shared_memory<Walk>() + kWalks);
}

/// Step t of a Walk. With whole bytes a multiply-add makes an address.
template <class Element>
__device__ inline Element* at_step(const Walk& x, int t) {
  using Byte = std::conditional_t<std::is_const_v<Element>, const char, char>;
  void* const start = const_cast<void*>(x.start);
  return reinterpret_cast<Element*>(static_cast<Byte*>(start) + static_cast<int64_t>(t) * x.stride);
}

/// Where a block and its thread stand, and how it copies.
template <class Io>
struct Place {
  using T = Real<Io>;
  static constexpr int kTile = kSteps * kLanes;  // elements
  const Problem<Io>& p;
  int64_t batch;
  int tile, group, segment;
  int first, columns;  // the block's channels
  int lane, way;       // of the thread
  int channel;         // of the thread, if it is active; if not, one that exists
  bool active;
  int length, begin, end;  // of the sequence; the segment's steps

  __device__ explicit Place(const Problem<Io>& problem) : p(problem) {
    int64_t block = blockIdx.x;
    tile = static_cast<int>(block % p.tiles), block /= p.tiles;
    group = static_cast<int>(block % p.groups), block /= p.groups;
    segment = static_cast<int>(block % p.segments), batch = block / p.segments;
    const int of_group = p.channels / p.groups;
    first = group * of_group + tile * kLanes;
    columns = min(kLanes, of_group - tile * kLanes);
    lane = static_cast<int>(threadIdx.x) % kLanes, way = static_cast<int>(threadIdx.x) / kLanes;
    active = lane < columns;
    channel = first + (active ? lane : 0);
    length = static_cast<int>(length_of(p.lengths, batch, p.length));
    begin = segment * p.segment_steps;
    end = min(begin + p.segment_steps, length);
  }

  /// The first step of the segment's last tile; below `begin` if there is no step.
  __device__ int last_tile() const {
    return end > begin ? begin + (end - 1 - begin) / kSteps * kSteps : begin - kSteps;
  }

  /// The thread's own steps of a tile are this one and the kOwn - 1 after it.
  __device__ int own() const { return way * kOwn; }

  /// Steps count from the end in the reverse direction.
  __device__ int position(int t) const { return p.reverse ? length - 1 - t : t; }

  /// From the block's first channel, or from `column` of a tensor with other rows.
  template <class Element>
  __device__ Walk walk(const Rows<Element>& x, int column) const {
    return {x.data + (batch * x.batch + static_cast<int64_t>(position(0)) * x.step + column),
            (p.reverse ? -x.step : x.step) * static_cast<int>(sizeof(Element))};
  }

  /// Starts to copy the block's channels of `count` tensors, at most kMost, at the kSteps steps
  /// from t0 to `tiles` [count, kSteps, kLanes]; zeros where there is no step or no channel.
  template <bool kPieces, int kMost>
  __device__ void load(const Walk* from, int count, int t0, Io* tiles) const {
    each_piece<kPieces, kMost>(count, [&](int tensor, int step, int column) {
      const bool there = t0 + step < end && column < columns;
      Io* const to = tiles + (tensor * kSteps + step) * kLanes + column;
      const Io* const at = at_step<const Io>(from[tensor], t0 + step) + column;
      if (kPieces) {
        __pipeline_memcpy_async(to, at, 16, there ? 0 : 16);
      } else {
        *to = there ? *at : narrow<Io>(T{0});
      }
    });
  }

  /// Writes `tiles`, into which the block's threads have put values, where there are steps and
  /// channels.
  template <bool kPieces, int kMost>
  __device__ void store(const Walk* to, int count, int t0, const Io* tiles) const {
    using Piece = std::conditional_t<kPieces, uint4, Io>;
    each_piece<kPieces, kMost>(count, [&](int tensor, int step, int column) {
      if (t0 + step >= end || column >= columns) return;
      *reinterpret_cast<Piece*>(at_step<Io>(to[tensor], t0 + step) + column) =
          *reinterpret_cast<const Piece*>(tiles + (tensor * kSteps + step) * kLanes + column);
    });
  }

  /// Zeros where the segment reaches behind the sequence.
  __device__ void clear_padding(const Rows<Io>& x) const {
    if (!active) return;
    const int to = min(begin + p.segment_steps, p.length);
    for (int64_t t = max(begin, length) + way; t < to; t += kWays) {
      x.data[batch * x.batch + t * x.step + channel] = narrow<Io>(T{0});
    }
  }

  /// The thread's channel of a tile at its own steps. All are read before any is used: nothing
  /// waits for one after the other.
  __device__ Quad<T> get(const Io* tile) const {
    Quad<T> own_steps;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) own_steps.v[i] = widen(tile[(own() + i) * kLanes + lane]);
    return own_steps;
  }
  __device__ void put(Io* tile, const Quad<T>& values) const {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) tile[(own() + i) * kLanes + lane] = narrow<Io>(values.v[i]);
  }

  /// delta at the thread's own steps after bias and softplus; zero where there is no step, so that
  /// the state passes.
  __device__ Quad<T> step_sizes(const Io* tile, int t0, T bias) const {
    Quad<T> delta = get(tile);
#pragma unroll
    for (int i = 0; i < kOwn; ++i) delta.v[i] += bias;
    if (p.delta_softplus) {
#pragma unroll
      for (int i = 0; i < kOwn; ++i) delta.v[i] = softplus<Io>(delta.v[i]);
    }
#pragma unroll
    for (int i = 0; i < kOwn; ++i) delta.v[i] = t0 + own() + i < end ? delta.v[i] : T{0};
    return delta;
  }

  /// The thread's channel of an array [kLanes, kRow] in shared memory: all its steps, or its own.
  __device__ Quad<T>* steps(T* rows) const {
    return reinterpret_cast<Quad<T>*>(rows + lane * kRow);
  }
  __device__ Quad<T>& own_steps(T* rows) const { return steps(rows)[way]; }
  __device__ void read(T* rows, T (&values)[kSteps]) const {
#pragma unroll
    for (int q = 0; q < kSteps / 4; ++q) {
      const Quad<T> four = steps(rows)[q];
#pragma unroll
      for (int i = 0; i < 4; ++i) values[4 * q + i] = four.v[i];
    }
  }
  /// Leaves a warp's values for sum(); `ways` are kWays arrays.
  __device__ void leave(T* ways, const T (&values)[kSteps]) const {
#pragma unroll
    for (int q = 0; q < kSteps / 4; ++q) {
      Quad<T> four;
#pragma unroll
      for (int i = 0; i < 4; ++i) four.v[i] = values[4 * q + i];
      steps(ways + way * kLanes * kRow)[q] = four;
    }
  }
  /// The sum over the warps at the thread's own steps.
  __device__ Quad<T> sum(T* ways) const {
    Quad<T> total = own_steps(ways);
#pragma unroll
    for (int w = 1; w < kWays; ++w) {
      const Quad<T> more = own_steps(ways + w * kLanes * kRow);
#pragma unroll
      for (int i = 0; i < 4; ++i) total.v[i] += more.v[i];
    }
    return total;
  }
  /// The sum over the warps of a number a thread, for the first one; `rows` is an array.
  __device__ T sum_of_ways(T value, T* rows) const {
    __syncthreads();
    rows[lane * kRow + way] = value;
    __syncthreads();
    T total = 0;
#pragma unroll
    for (int w = 0; w < kWays; ++w) total += rows[lane * kRow + w];
    return total;
  }

  /// Index of (row n, channel) of the outer-th [rows, D].
  __device__ int64_t by_row(int64_t outer, int64_t rows, int64_t n) const {
    return (outer * rows + n) * p.channels + channel;
  }
  /// Index of the state n in [B, D, N].
  __device__ int64_t by_channel(int n) const {
    return (batch * p.channels + channel) * p.states + n;
  }

 private:
  /// f(tensor, step, column) for this thread's share of `count` tiles, in pieces of 16 bytes or of
  /// an element.
  template <bool kPieces, int kMost, class F>
  __device__ static void each_piece(int count, F&& f) {
    constexpr int kPiece = kPieces ? 16 / sizeof(Io) : 1;
    constexpr int kOfRow = kLanes / kPiece, kOfTile = kSteps * kOfRow;
#pragma unroll
    for (int i = 0; i < kMost * kOfTile; i += kScanThreads) {
      const int piece = i + static_cast<int>(threadIdx.x);
      if (piece < count * kOfTile) {
        f(piece / kOfTile, piece % kOfTile / kOfRow, piece % kOfRow * kPiece);
      }
    }
  }
};

template <class P>
__device__ inline void exchange(P*& a, P*& b) {
  P* const c = a;
  a = b, b = c;
}

/// f(i) for i = 0 ... kSteps - 1, or the steps of the first `quads` quads where not kFull; from the
/// last to the first where kDown. Unrolled, so that i may index registers.
template <bool kFull, bool kDown, class F>
__device__ inline void each_step(int quads, F&& f) {
#pragma unroll
  for (int j = 0; j < kSteps / 4; ++j) {
    const int q = kDown ? kSteps / 4 - 1 - j : j;
    if (kFull || q < quads) {
#pragma unroll
      for (int i = 0; i < 4; ++i) f(4 * q + (kDown ? 3 - i : i));
    }
  }
}

/// Tensors [B, L, G, N], a block of states at a time: copied as they are, ahead of time, and then
/// turned. The coefficient of state n0 + n at step t0 + i is at [tensor][n][i] of `turned`, in rows
/// of kRow.
template <class Io, int kTensors>
class Coefficients {
  using T = Real<Io>;

 public:
  static constexpr int kElements = kTensors * kStateBlock * kRow;  // of Real, turned
  static constexpr int kCopied = kTensors * kSteps * kStateBlock;  // of Io
  static constexpr int kTiles = kCopied / (kSteps * kLanes);       // the room that takes

  /// `walks` of the tensors, from the group's first state.
  __device__ Coefficients(const Place<Io>& place, const Walk* walks, T* turned, Io* copied)
      : place_(place), walks_(walks), turned_(turned), copied_(copied) {}

  /// Starts to copy the states from n0 at the steps from t0; what was copied before has been
  /// turned.
  template <bool kPieces>
  __device__ void fetch(int t0, int n0) const {
    constexpr int kThreads = kScanThreads / kTensors;  // of a tensor
    const int tensor = static_cast<int>(threadIdx.x) / kThreads;
    const int rank = static_cast<int>(threadIdx.x) % kThreads, log = place_.p.log_words;
    const int n = (rank & ((1 << log) - 1)) * kOfWord;
    const int count = place_.p.states - n0 - n, limit = count > 0 ? place_.end : 0;
    const Walk x = walks_[tensor];
    for (int step = rank >> log; step < kSteps; step += kThreads >> log) {
      const bool there = t0 + step < limit;
      const Io* const from = at_step<const Io>(x, t0 + step) + (n0 + n);
      Io* const to = copied_ + ((tensor * kSteps + step) * kStateBlock + n);
      if (kPieces) {
        __pipeline_memcpy_async(to, from, kWord, there ? 0 : kWord);
      } else {
#pragma unroll
        for (int j = 0; j < kOfWord; ++j) {
          to[j] = there && j < count ? from[j] : narrow<Io>(T{0});
        }
      }
    }
  }

  /// What has arrived. Nobody may still be reading what was turned before.
  __device__ void turn() const {
    constexpr int kQuads = kSteps / 4;
    const int log = place_.p.log_words + kLogOfWord, states = 1 << log;
    const int n = static_cast<int>(threadIdx.x) & (states - 1);
    for (int i = static_cast<int>(threadIdx.x) >> log; i < kTensors * kQuads;
         i += kScanThreads >> log) {
      const Io* const from = copied_ + i * 4 * kStateBlock + n;
      Quad<T> four;
#pragma unroll
      for (int j = 0; j < 4; ++j) four.v[j] = widen(from[j * kStateBlock]);
      reinterpret_cast<Quad<T>*>(turned_ + (i / kQuads * kStateBlock + n) * kRow)[i % kQuads] =
          four;
    }
  }

 private:
  static constexpr int kLogOfWord = sizeof(Io) == 2 ? 2 : sizeof(Io) == 4 ? 1 : 0;
  static constexpr int kOfWord = 1 << kLogOfWord;

  const Place<Io>& place_;
  const Walk* const walks_;
  T* const turned_;
  Io* const copied_;
};

}  // namespace ribo::kernels
