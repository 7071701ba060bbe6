// What every kernel of the scan is made of.
//
// A block owns up to kScanThreads neighbouring channels of one sequence and one group, a thread one
// channel (consecutive lanes, consecutive addresses), and walks through a segment of the steps in
// tiles of kSteps. Within a tile the loop over the states is the outer one: a thread holds one
// state and everything of its channel's kSteps steps in registers, whatever the number of states.
// B and C of the tile lie in shared memory for all of the block's channels. Everything else of a
// tile goes through shared memory only because the block copies it in 16-byte pieces, a tile ahead.
#pragma once

#include <cuda_pipeline.h>

#include "common/cuda.cuh"
#include "selective_scan/selective_scan_cuda.h"

namespace ribo::kernels {

inline constexpr int kSteps = kCudaScanStride;
inline constexpr int kScanThreads = 128;
// States whose B and C are in shared memory at a time.
inline constexpr int kStateBlock = 32;
// Distance of two states' coefficients there: whole 16 bytes, few bank conflicts.
inline constexpr int kRow = kSteps + 4;

/// A tensor [B, L, ...] of Io or const Io; strides in elements.
template <class Io>
struct Rows {
  Io* data;
  int64_t batch;
  int step;
  bool vectors;  // [B, L, D] only: a group's rows start and end at multiples of 16 bytes
};

/// CudaScanProblem with types, and how it is cut into blocks.
template <class Io>
struct Problem {
  int length, channels, groups, states;
  int log_width, tiles;  // 2^log_width channels of a block (a thread each), blocks of a group
  int segments, segment_steps;  // segment_steps is a multiple of kSteps
  int strides;                  // ceil(length / kSteps)
  int log_states;               // 2^log_states >= min(states, kStateBlock)
  bool delta_softplus, reverse;
  const int64_t* lengths;
  Rows<const Io> u, delta, z, B, C;
  const Real<Io>*A, *D, *delta_bias, *initial_state;
  Real<Io>* checkpoints;
};

/// A thread's share of shared memory for one state: log2(e) A, and what goes from step to step.
template <class T>
struct alignas(2 * sizeof(T)) Lane {
  T rate, carry;
};

/// Four steps' coefficients of a state.
template <class T>
struct alignas(16) Quad {
  T v[4];
};

/// Where a block and its thread stand, and how it copies.
template <class Io>
struct Place {
  const Problem<Io>& p;
  int64_t batch;
  int tile, group, segment;
  int columns;  // channels of the block
  int channel;  // of the thread, if it is active; if not, one that exists
  bool active;
  int length, begin, end;  // of the sequence; the segment's steps

  __device__ explicit Place(const Problem<Io>& problem) : p(problem) {
    int64_t block = blockIdx.x;
    tile = static_cast<int>(block % p.tiles), block /= p.tiles;
    group = static_cast<int>(block % p.groups), block /= p.groups;
    segment = static_cast<int>(block % p.segments), batch = block / p.segments;
    const int of_group = p.channels / p.groups, first = tile << p.log_width;
    columns = min(1 << p.log_width, of_group - first);
    active = static_cast<int>(threadIdx.x) < columns;
    channel = group * of_group + first + (active ? static_cast<int>(threadIdx.x) : 0);
    length = p.length;
    if (p.lengths) {
      const int64_t given = p.lengths[batch];
      length = given < 0 ? 0 : given < length ? static_cast<int>(given) : length;
    }
    begin = segment * p.segment_steps;
    end = min(begin + p.segment_steps, length);
  }

  __device__ int width() const { return static_cast<int>(blockDim.x); }

  /// The first step of the segment's last tile; below `begin` if there is no step.
  __device__ int last_tile() const {
    return end > begin ? begin + (end - 1 - begin) / kSteps * kSteps : begin - kSteps;
  }

  /// Steps count from the end in the reverse direction.
  __device__ int position(int t) const { return p.reverse ? length - 1 - t : t; }

  /// Offset of step t in a sequence of x.
  template <class T>
  __device__ int64_t row(const Rows<T>& x, int t) const {
    return static_cast<int64_t>(position(t)) * x.step;
  }

  /// Starts to copy the block's channels at the kSteps steps from t0 to `tile` [kSteps, width] in
  /// shared memory; zeros where there is no step or no channel.
  __device__ void load(const Rows<const Io>& x, int t0, Io* tile) const {
    const Io* const from = x.data + batch * x.batch + channel - (active ? threadIdx.x : 0);
    if (x.vectors) {
      pieces([&](int step, int column) {
        const bool there = t0 + step < end && column < columns;
        const int64_t offset = there ? row(x, t0 + step) + column : 0;
        __pipeline_memcpy_async(tile + step * width() + column, from + offset, 16, there ? 0 : 16);
      });
    } else {
#pragma unroll 1
      for (int step = 0; step < kSteps; ++step) {
        const bool there = t0 + step < end && active;
        tile[step * width() + threadIdx.x] =
            there ? from[row(x, t0 + step) + threadIdx.x] : narrow<Io>(Real<Io>{0});
      }
    }
  }

  /// Writes what the block's threads have put into `tile`, where there are steps and channels.
  __device__ void store(const Rows<Io>& x, int t0, const Io* tile) const {
    Io* const to = x.data + batch * x.batch + channel - (active ? threadIdx.x : 0);
    if (x.vectors) {
      pieces([&](int step, int column) {
        if (t0 + step >= end || column >= columns) return;
        *reinterpret_cast<uint4*>(to + row(x, t0 + step) + column) =
            *reinterpret_cast<const uint4*>(tile + step * width() + column);
      });
    } else if (active) {
#pragma unroll 1
      for (int step = 0; step < min(kSteps, end - t0); ++step) {
        to[row(x, t0 + step) + threadIdx.x] = tile[step * width() + threadIdx.x];
      }
    }
  }

  /// Zeros where the segment reaches behind the sequence.
  __device__ void clear_padding(const Rows<Io>& x) const {
    if (!active) return;
    const int to = min(begin + p.segment_steps, p.length);
    for (int64_t t = max(begin, length); t < to; ++t) {
      x.data[batch * x.batch + t * x.step + channel] = narrow<Io>(Real<Io>{0});
    }
  }

  /// The thread's channel of a tile.
  __device__ Real<Io> get(const Io* tile, int step) const {
    return widen(tile[step * width() + threadIdx.x]);
  }
  __device__ void put(Io* tile, int step, Real<Io> x) const {
    tile[step * width() + threadIdx.x] = narrow<Io>(x);
  }

  /// delta after bias and softplus; zero where there is no step, so that the state passes.
  __device__ void step_sizes(const Io* tile, int t0, Real<Io> (&delta)[kSteps]) const {
    const Real<Io> bias = p.delta_bias ? p.delta_bias[channel] : Real<Io>{0};
#pragma unroll
    for (int i = 0; i < kSteps; ++i) delta[i] = get(tile, i) + bias;
    if (p.delta_softplus) {
#pragma unroll
      for (int i = 0; i < kSteps; ++i) delta[i] = softplus(delta[i]);
    }
#pragma unroll
    for (int i = 0; i < kSteps; ++i) delta[i] = i < end - t0 ? delta[i] : Real<Io>{0};
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
  /// f(step, column) for this thread's share of a tile's 16-byte pieces.
  template <class F>
  __device__ void pieces(F&& f) const {
    constexpr int kPiece = 16 / sizeof(Io), kLog = kPiece == 8 ? 3 : kPiece == 4 ? 2 : 1;
    const int log_row = p.log_width - kLog;
    const int step = static_cast<int>(threadIdx.x) >> log_row;
    const int column = (static_cast<int>(threadIdx.x) & ((1 << log_row) - 1)) * kPiece;
#pragma unroll
    for (int i = 0; i < kSteps; i += kPiece) f(i + step, column);
  }
};

/// B or C or both (kTensors = 2), read a block of states ahead. In shared memory the coefficient of
/// state n0 + n at step t0 + i is at [tensor][n][i], in rows of kRow.
template <class Io, int kTensors>
class Coefficients {
 public:
  static constexpr int kElements = kTensors * kStateBlock * kRow;

  __device__ Coefficients(const Place<Io>& place, const Rows<const Io>& first,
                          const Rows<const Io>& second)
      : place_(place), first_(first), second_(second) {}

  /// Starts to read the states from n0 at the steps from t0.
  __device__ void fetch(int t0, int n0) {
    t0_ = t0, n0_ = n0;
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (row(j) < kRows) ahead_[j] = element(row(j));
    }
  }

  /// Writes what fetch() began. Nobody may still be reading `shared`.
  __device__ void store(Real<Io>* shared) const {
    Real<Io>* const to = shared + state() * kRow;
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (row(j) < kRows) to[slot(row(j))] = widen(ahead_[j]);
    }
#pragma unroll 1
    for (int j = kAhead; row(j) < kRows; ++j) to[slot(row(j))] = widen(element(row(j)));
  }

 private:
  static constexpr int kRows = kTensors * kSteps;  // a row: one step of one tensor
  // Reads in flight: all that 128 threads need for 16 states of B and C.
  static constexpr int kAhead = 4;

  // Threads stand in rows of a power of two, at least the number of states.
  __device__ int state() const {
    return static_cast<int>(threadIdx.x) & ((1 << place_.p.log_states) - 1);
  }
  __device__ int row(int j) const {
    return static_cast<int>((threadIdx.x + j * blockDim.x) >> place_.p.log_states);
  }
  __device__ Io element(int row) const {
    const Rows<const Io>& x = kTensors == 1 || row < kSteps ? first_ : second_;
    const int t = t0_ + row % kSteps, n = n0_ + state();
    if (t >= place_.end || n >= place_.p.states) return narrow<Io>(Real<Io>{0});
    return x.data[place_.batch * x.batch + place_.row(x, t) + (place_.group * place_.p.states + n)];
  }
  __device__ static int slot(int row) { return row / kSteps * (kStateBlock * kRow) + row % kSteps; }

  const Place<Io>& place_;
  const Rows<const Io>&first_, &second_;
  Io ahead_[kAhead];
  int t0_ = 0, n0_ = 0;
};

}  // namespace ribo::kernels
