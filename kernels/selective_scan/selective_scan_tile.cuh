// What every kernel of the scan is made of.
//
// A block owns up to 32 neighbouring channels of one sequence and one group, a lane of each warp one
// of them (consecutive lanes, consecutive addresses), and walks through a segment of the steps in
// tiles of kSteps. Its kWays warps share the states: warp w has every kWays-th from w on. Within a
// tile the loop over a warp's states is the outer one, so that a thread holds one state and
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
  bool pieces;  // a group's rows start and end where pieces do: of 16 bytes, of kWord for B and C
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

/// A channel's share of shared memory for one state: log2(e) A, and what goes from step to step.
template <class T>
struct alignas(2 * sizeof(T)) Lane {
  T rate, carry;
};

/// Four steps of a state, or of a channel.
template <class T>
struct alignas(16) Quad {
  T v[4];
};
static_assert(kOwn == 4);

/// Bytes of B and C that are copied at a time.
template <class Io>
inline constexpr int kWord = sizeof(Io) < 4 ? 4 : static_cast<int>(sizeof(Io));

/// Elements of Real between the starts of a block's arrays in shared memory, in their order: a Lane
/// for every state and channel; coefficients; `rows` arrays [kLanes, kRow] of steps; tiles of Io.
template <class Io>
struct Shared {
  int64_t lanes, coefficients, rows, tiles;

  /// Bytes.
  __host__ __device__ int64_t size() const {
    return (2 * lanes * kLanes + coefficients * kStateBlock * kRow + rows * kLanes * kRow) *
               static_cast<int64_t>(sizeof(Real<Io>)) +
           tiles * kSteps * kLanes * static_cast<int64_t>(sizeof(Io));
  }
};

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
  int channel;    // of the thread, if it is active; if not, one that exists
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
    length = p.length;
    if (p.lengths) {
      const int64_t given = p.lengths[batch];
      length = given < 0 ? 0 : given < length ? static_cast<int>(given) : length;
    }
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

  /// Where step 0 of x is, of the block's first channel; step t is t * stride(x) on.
  template <class Element>
  __device__ Element* from(const Rows<Element>& x) const {
    return x.data + (batch * x.batch + static_cast<int64_t>(position(0)) * x.step + first);
  }
  /// In bytes.
  template <class Element>
  __device__ int stride(const Rows<Element>& x) const {
    return (p.reverse ? -x.step : x.step) * static_cast<int>(sizeof(Element));
  }

  /// Zeros where the segment reaches behind the sequence.
  __device__ void clear_padding(const Rows<Io>& x) const {
    if (!active) return;
    const int to = min(begin + p.segment_steps, p.length);
    for (int64_t t = max(begin, length) + way; t < to; t += kWays) {
      x.data[batch * x.batch + t * x.step + channel] = narrow<Io>(T{0});
    }
  }

  /// The thread's channel of a tile at its i-th own step.
  __device__ T get(const Io* tile, int i) const { return widen(tile[(own() + i) * kLanes + lane]); }

  /// delta at the thread's own steps after bias and softplus; zero where there is no step, so that
  /// the state passes.
  __device__ Quad<T> step_sizes(const Io* tile, int t0, T bias) const {
    Quad<T> delta;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) delta.v[i] = get(tile, i) + bias;
    if (p.delta_softplus) {
#pragma unroll
      for (int i = 0; i < kOwn; ++i) delta.v[i] = softplus<Io>(delta.v[i]);
    }
#pragma unroll
    for (int i = 0; i < kOwn; ++i) delta.v[i] = t0 + own() + i < end ? delta.v[i] : T{0};
    return delta;
  }

  /// The thread's channel of an array [kLanes, kRow] in shared memory: all its steps, or its own.
  __device__ Quad<T>* steps(T* rows) const { return reinterpret_cast<Quad<T>*>(rows + lane * kRow); }
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
};

/// x some bytes on: with whole bytes a multiply-add makes an address.
template <class Element>
__device__ inline Element* on(Element* x, int count, int bytes) {
  using Byte = std::conditional_t<std::is_const_v<Element>, const char, char>;
  return reinterpret_cast<Element*>(reinterpret_cast<Byte*>(x) +
                                    static_cast<int64_t>(count) * bytes);
}

/// The block's channels of a tensor [B, L, D] on their way to shared memory, a tile at a time. What
/// does not change from tile to tile is worked out once.
template <class Io>
class Incoming {
 public:
  /// Where half of the warps are enough, `turn` says which.
  __device__ Incoming(const Place<Io>& at, const Rows<const Io>& x, int turn)
      : stride_(at.stride(x)), pieces_(x.pieces) {
    const int rank = (static_cast<int>(threadIdx.x) + turn * kCount) % kScanThreads;
    const int step = pieces_ ? rank / kOfRow : at.own();
    const int column = pieces_ ? rank % kOfRow * kPiece : at.lane;
    slot_ = step * kLanes + column;
    from_ = on(at.from(x) + column, step, stride_);
    limit_ = column < at.columns ? at.end - step : kNever;
    mine_ = !pieces_ || kCount >= kScanThreads || rank < kCount;
  }

  /// Starts to copy the kSteps steps from t0 to `tile` [kSteps, kLanes]; zeros where there is no
  /// step or no channel.
  __device__ void fetch(int t0, Io* tile) const {
    if (!mine_) return;
    if (pieces_) {
#pragma unroll
      for (int i = 0; i < kCount; i += kScanThreads) {
        const int t = t0 + i / kOfRow;
        __pipeline_memcpy_async(tile + (slot_ + i * kPiece),
                                on(from_, t, stride_), 16, t < limit_ ? 0 : 16);
      }
    } else {
#pragma unroll 1
      for (int i = 0; i < kOwn; ++i) {
        const int t = t0 + i;
        tile[slot_ + i * kLanes] = t < limit_ ? *on(from_, t, stride_) : narrow<Io>(Real<Io>{0});
      }
    }
  }

 private:
  static constexpr int kPiece = 16 / sizeof(Io), kOfRow = kLanes / kPiece, kCount = kSteps * kOfRow;
  static constexpr int kNever = -(1 << 30);

  const Io* from_;
  int stride_, slot_, limit_;
  bool pieces_, mine_;
};

/// A thread's channel of a tensor [B, L, D] that is written.
template <class Io>
class Outgoing {
 public:
  __device__ Outgoing(const Place<Io>& at, const Rows<Io>& x) : stride_(at.stride(x)) {
    to_ = on(at.from(x) + at.lane, at.own(), stride_);
    limit_ = at.active ? at.end - at.own() : -1;
  }

  /// Writes values(i) at the thread's i-th own step of the tile at t0, if it is there.
  template <class F>
  __device__ void store(int t0, F&& values) const {
    Io* const to = on(to_, t0, stride_);
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const Io value = narrow<Io>(values(i));
      if (t0 + i < limit_) *on(to, i, stride_) = value;
    }
  }

 private:
  Io* to_;
  int stride_, limit_;
};

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

/// B or C or both (kTensors = 2), a block of states at a time: copied as they are, ahead of time,
/// and then turned. The coefficient of state n0 + n at step t0 + i is at [tensor][n][i] of `turned`,
/// in rows of kRow.
template <class Io, int kTensors>
class Coefficients {
  using T = Real<Io>;

 public:
  static constexpr int kElements = kTensors * kStateBlock * kRow;    // of Real, turned
  static constexpr int kCopied = kTensors * kSteps * kStateBlock;    // of Io
  static constexpr int kTiles = kCopied / (kSteps * kLanes);         // the room that takes

  __device__ Coefficients(const Place<Io>& at, const Rows<const Io>& first,
                          const Rows<const Io>& second, T* turned, Io* copied)
      : log_(at.p.log_words), states_(at.p.states), end_(at.end), turned_(turned), copied_(copied) {
    state_ = (static_cast<int>(threadIdx.x) & ((1 << log_) - 1)) * kOfWord;
#pragma unroll
    for (int i = 0; i < kTensors; ++i) {
      const Rows<const Io>& x = i == 0 ? first : second;
      from_[i] = at.from(x) - at.first + (at.group * states_ + state_);
      stride_[i] = at.stride(x);
      words_[i] = x.pieces;
    }
  }

  /// Starts to copy the states from n0 at the steps from t0; what was copied before has been turned.
  __device__ void fetch(int t0, int n0) const {
    const int rows = kScanThreads >> log_, row = static_cast<int>(threadIdx.x) >> log_;
#pragma unroll
    for (int i = 0; i < kTensors; ++i) {
      for (int step = row; step < kSteps; step += rows) {
        const Io* const from = on(from_[i] + n0, t0 + step, stride_[i]);
        Io* const to = copied_ + ((i * kSteps + step) * kStateBlock + state_);
        const bool there = t0 + step < end_ && n0 + state_ < states_;
        if (words_[i]) {
          __pipeline_memcpy_async(to, from, kWord<Io>, there ? 0 : kWord<Io>);
        } else {
#pragma unroll
          for (int j = 0; j < kOfWord; ++j) {
            to[j] = there && n0 + state_ + j < states_ ? from[j] : narrow<Io>(T{0});
          }
        }
      }
    }
  }

  /// What has arrived. Nobody may still be reading what was turned before.
  __device__ void turn() const {
    constexpr int kQuads = kSteps / 4;
    const int log = log_ + (kOfWord == 2 ? 1 : 0), states = 1 << log;
    const int n = static_cast<int>(threadIdx.x) & (states - 1);
    for (int i = static_cast<int>(threadIdx.x) >> log; i < kTensors * kQuads;
         i += kScanThreads >> log) {
      const Io* const from = copied_ + i * 4 * kStateBlock + n;
      Quad<T> four;
#pragma unroll
      for (int j = 0; j < 4; ++j) four.v[j] = widen(from[j * kStateBlock]);
      reinterpret_cast<Quad<T>*>(turned_ + (i / kQuads * kStateBlock + n) * kRow)[i % kQuads] = four;
    }
  }

 private:
  static constexpr int kOfWord = kWord<Io> / static_cast<int>(sizeof(Io));

  const Io* from_[kTensors];  // of the thread's states at step 0
  int stride_[kTensors], log_, state_, states_, end_;
  bool words_[kTensors];
  T* const turned_;
  Io* const copied_;
};

}  // namespace ribo::kernels
