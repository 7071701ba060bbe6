// The selective scan on the CPU, without LibTorch. Everything is contiguous.
#pragma once

#include <cstdint>

#include "common/isa.h"

namespace ribo::kernels {

/// The work is split into sequences x groups x slices of a group's channels. A slice is wide enough
/// to share the work on B and C and to read long pieces of a row (64 channels instead of 128: a
/// tenth slower at 16,384 positions), and narrow enough for cores to share one sequence. It does
/// not depend on the instruction set.
struct ScanSizes {
  int64_t batch, length, channels, states, groups;

  static constexpr int64_t kChunk = 32;     // positions between two kept states
  static constexpr int64_t kWidest = 128;   // channels of a slice
  static constexpr int64_t kMultiple = 16;  // a slice is padded to the longest vector
  static constexpr int64_t kBlock = 4;      // states held in registers at once
  static constexpr int64_t kStagger = 80;  // between arrays, lest all start in one set of the cache

  int64_t group_channels() const { return channels / groups; }
  int64_t slices() const { return (group_channels() + kWidest - 1) / kWidest; }  // of one group
  int64_t width() const {
    const int64_t even = (group_channels() + slices() - 1) / slices();
    return (even + kMultiple - 1) / kMultiple * kMultiple;
  }
  int64_t tasks() const { return batch * groups * slices(); }
  int64_t chunks() const { return (length + kChunk - 1) / kChunk; }
  int64_t padded_states() const { return (states + kBlock - 1) / kBlock * kBlock; }

  /// Numbers that the forward pass keeps for the backward pass.
  int64_t kept() const { return tasks() * chunks() * padded_states() * width(); }
  /// Numbers of scratch memory for each worker.
  int64_t scratch() const {
    const int64_t states_of_slice = 3 * padded_states() * width();
    const int64_t largest = (padded_states() / kBlock + 1) * width();
    const int64_t chunk_of_slice = 7 * kChunk * width();
    const int64_t chunk_of_states = 2 * kChunk * padded_states();
    const int64_t chunk_of_vector = (4 * kChunk + 1) * kBlock * kMultiple;
    return states_of_slice + largest + chunk_of_slice + chunk_of_states + chunk_of_vector +
           18 * kStagger;
  }
};

/// Null: not given (lengths always are). The letters are those of selective_scan.h.
template <class T>
struct ScanArgs {
  ScanSizes sizes;
  const T *u, *delta, *A, *B, *C, *D, *z, *delta_bias, *initial_state;
  const int64_t* lengths;
  bool delta_softplus, reverse;
  T* scratch;  // workers() x sizes.scratch()
};

template <class T>
struct ScanForward : ScanArgs<T> {
  T* y = nullptr;
  T* last_state = nullptr;
  T* kept = nullptr;  // sizes.kept(); null where no backward pass follows
};

template <class T>
struct ScanBackward : ScanArgs<T> {
  const T* kept = nullptr;
  const T *dy = nullptr, *dlast_state = nullptr;  // null stands for zeros
  T *du = nullptr, *ddelta = nullptr, *dz = nullptr, *dinitial_state = nullptr;
  // Parts, to be added: [B, D, N], [B, D], [B, D]; [slices, B, L, G, N].
  T *dA = nullptr, *dD = nullptr, *ddelta_bias = nullptr;
  T *dB = nullptr, *dC = nullptr;
};

template <Isa isa>
void scan_forward(const ScanForward<float>& args);
template <Isa isa>
void scan_forward(const ScanForward<double>& args);

template <Isa isa>
void scan_backward(const ScanBackward<float>& args);
template <Isa isa>
void scan_backward(const ScanBackward<double>& args);

/// out [size] = the sum of parts [count, size], from the first to the last.
template <Isa isa>
void scan_add_parts(const float* parts, int64_t count, int64_t size, float* out);
template <Isa isa>
void scan_add_parts(const double* parts, int64_t count, int64_t size, double* out);

}  // namespace ribo::kernels
