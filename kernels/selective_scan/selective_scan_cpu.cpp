// A task is one sequence and one slice of channels. It goes through the sequence in chunks: what
// the chunk needs is brought into scratch memory first, in the order of the scan, vector by vector
// of channels; then blocks of states run over it, their states in registers. Lanes and states that
// pad a slice hold zeros: their decay is 1, their state stays 0, and they add 0 to every sum.
//
// With a = exp(dt A) and g = dLoss/dh, the backward pass goes through the chunks from the end,
// recomputes a chunk's states from the one kept at its start, and then follows
//   g[t] = C[t] dy[t] + a[t+1] g[t+1].
#include "selective_scan/selective_scan_cpu.h"

#include <cstring>
#include <type_traits>

#include "common/parallel.h"
#include "common/vec.h"

namespace ribo::kernels {
namespace RIBO_ISA {

constexpr int64_t kChunk = ScanSizes::kChunk;
constexpr int kBlock = ScanSizes::kBlock;
static_assert(kBlock == 4, "add_lanes() folds eight rows");

/// The largest lane; NaN if one is.
template <class T>
T largest(Vec<T> v) {
  T most = v[0];
  for (int i = 1; i < lanes<T>; ++i) {
    if (most == most && !(v[i] <= most)) most = v[i];
  }
  return most;
}

/// A task with the scratch memory of its worker. Passed by value: for all that g++ knows, a store
/// through one of its pointers could change the others, were they not a copy of one's own.
template <class T>
struct Task {
  ScanArgs<T> args;
  int64_t index, b, group, slice;  // the task, its sequence, its group, its slice of that
  int64_t channel, channels;       // the first channel and how many there are
  int64_t width, states, length;   // width and states with their padding
  bool streams;                    // results are too large for the caches
  // [states, width]; a in units of log(2).
  T *a, *h, *da;
  // [width / lanes, kChunk, lanes]
  T *dt, *slope, *drive, *dy, *y, *ddrive, *ddt;
  // [kChunk, states]
  T *B, *C;
  // [states / kBlock, width / lanes] and [width / lanes]: the largest |a| of a block of states of a
  // vector, and the largest |dt| of a chunk of a vector.
  T *largest_a, *largest_dt;
  // [kChunk + 1 or kChunk, kBlock, lanes]
  T *hs, *decays, *dB, *dC;

  Task(const ScanArgs<T>& in, int64_t task, int worker) : args(in), index(task) {
    const ScanSizes& s = in.sizes;
    slice = task % s.slices();
    group = task / s.slices() % s.groups;
    b = task / s.slices() / s.groups;
    width = s.width();
    states = s.padded_states();
    channel = group * s.group_channels() + slice * width;
    channels = s.group_channels() - slice * width;
    if (channels > width) channels = width;
    length = in.lengths[b];
    streams = too_large_for_caches<T>(s.batch * s.length * s.channels);

    T* next = in.scratch + worker * s.scratch();
    const auto take = [&](T*& p, int64_t count) {
      p = next;
      next += count + ScanSizes::kStagger;
    };
    for (T** p : {&a, &h, &da}) take(*p, states * width);
    for (T** p : {&dt, &slope, &drive, &dy, &y, &ddrive, &ddt}) take(*p, kChunk * width);
    for (T** p : {&B, &C}) take(*p, kChunk * states);
    for (T** p : {&decays, &dB, &dC}) take(*p, kChunk * kBlock * lanes<T>);
    take(hs, (kChunk + 1) * kBlock * lanes<T>);
    take(largest_a, states / kBlock * vectors());
    take(largest_dt, vectors());
    read_states(in.A, channel, a);
    for (int64_t i = 0; i < states * width; ++i) a[i] *= static_cast<T>(kLog2E);
    for (int64_t n = 0; n < states; n += kBlock) {
      for (int64_t v = 0; v < vectors(); ++v) {
        Vec<T> most{}, nan{};  // max() may lose a NaN, a sum does not
        for (int k = 0; k < kBlock; ++k) {
          const Vec<T> x = abs<T>(load(a + (n + k) * width + v * lanes<T>));
          most = max<T>(most, x);
          nan += x * T{0};
        }
        largest_a[n / kBlock * vectors() + v] = largest<T>(most + nan);
      }
    }
  }

  int64_t chunks() const { return (length + kChunk - 1) / kChunk; }
  int64_t steps(int64_t chunk) const {
    const int64_t left = length - chunk * kChunk;
    return left < kChunk ? left : kChunk;
  }
  /// The row of [B, L] that step t of a chunk is at.
  int64_t row(int64_t chunk, int64_t t) const {
    const int64_t step = chunk * kChunk + t;
    return b * args.sizes.length + (args.reverse ? length - 1 - step : step);
  }
  int64_t vectors() const { return width / lanes<T>; }
  int64_t first_channel(int64_t v) const { return channel + v * lanes<T>; }
  /// How many channels vector v has.
  int lanes_of(int64_t v) const {
    const int64_t left = channels - v * lanes<T>;
    return static_cast<int>(left < 0 ? 0 : left < lanes<T> ? left : lanes<T>);
  }
  /// Where step t of vector v is in scratch memory.
  int64_t at(int64_t v, int64_t t) const { return (v * kChunk + t) * lanes<T>; }
  /// The states kept in front of a chunk.
  int64_t kept(int64_t chunk) const {
    return (index * args.sizes.chunks() + chunk) * states * width;
  }
  /// The parts of dB and dC of a row of [B, L].
  int64_t part(int64_t row) const {
    const ScanSizes& s = args.sizes;
    return ((slice * s.batch * s.length + row) * s.groups + group) * s.states;
  }

  /// f(t, i, n) for each step of a chunk: the n channels of vector v are at i in [B, L, D]. Where
  /// the vector is whole, n is a constant and makes loads and stores plain ones.
  template <class F>
  [[gnu::always_inline]] void each_step(int64_t chunk, int64_t v, F f) const {
    const int64_t row_size = args.sizes.channels, n_steps = steps(chunk);
    const int64_t stride = args.reverse ? -row_size : row_size;
    int64_t i = row(chunk, 0) * row_size + first_channel(v);
    const int n = lanes_of(v);
    if (n == lanes<T>) {
      for (int64_t t = 0; t < n_steps; ++t, i += stride) {
        f(t, i, std::integral_constant<int, lanes<T>>{});
      }
    } else {
      for (int64_t t = 0; t < n_steps; ++t, i += stride) f(t, i, n);
    }
  }

  /// Brings x [B, L, D] of a chunk nearer while others compute, because its rows lie too far apart
  /// for the processor to see them coming: this vector's and block's share of the rows. To the
  /// second-level cache: in the first, rows a power of two apart would push each other out. One
  /// tensor at a time, with a loop between two: a core waits for no more than some 16 lines.
  [[gnu::always_inline]] void prefetch(const T* x, int64_t chunk, int64_t n, int64_t v) const {
    if (!x || chunk < 0 || chunk >= chunks()) return;
    constexpr int64_t kLine = 64 / sizeof(T);
    const int64_t shares = states / kBlock * vectors();
    for (int64_t t = n / kBlock * vectors() + v; t < steps(chunk); t += shares) {
      const T* const first = x + row(chunk, t) * args.sizes.channels + channel;
      for (int64_t c = 0; c < channels; c += kLine) bring_near(first + c);
    }
  }

  /// The same for a block's states of vector v that were kept in front of a chunk.
  [[gnu::always_inline]] void prefetch_kept(const T* states_kept, int64_t chunk, int64_t n,
                                            int64_t v) const {
    if (chunk < 0) return;
    const T* const first = states_kept + kept(chunk) + n * width + v * lanes<T>;
    for (int k = 0; k < kBlock; ++k) bring_near(first + k * width);
  }

  /// [states, width] <- [.., N] from row `first`; null stands for zeros.
  void read_states(const T* from, int64_t first, T* to) const {
    std::memset(to, 0, sizeof(T) * states * width);
    if (!from) return;
    const int64_t n_states = args.sizes.states;
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t n = 0; n < n_states; ++n) to[n * width + c] = from[(first + c) * n_states + n];
    }
  }
  void write_states(const T* from, int64_t first, T* to) const {
    const int64_t n_states = args.sizes.states;
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t n = 0; n < n_states; ++n) to[(first + c) * n_states + n] = from[n * width + c];
    }
  }
};

/// B, C, dt and drive = dt u of a chunk, and for the backward pass the slope of the softplus.
template <bool backward, class T>
void read_chunk(const Task<T> task, int64_t chunk) {
  const ScanArgs<T>& args = task.args;
  const int64_t n_states = args.sizes.states;
  for (int64_t t = 0; t < task.steps(chunk); ++t) {
    const int64_t from = (task.row(chunk, t) * args.sizes.groups + task.group) * n_states;
    for (int64_t n = 0; n < n_states; ++n) {
      task.B[t * task.states + n] = args.B[from + n];
      task.C[t * task.states + n] = args.C[from + n];
    }
    for (int64_t n = n_states; n < task.states; ++n) {
      task.B[t * task.states + n] = task.C[t * task.states + n] = 0;
    }
  }
  for (int64_t v = 0; v < task.vectors(); ++v) {
    const int64_t c = task.first_channel(v);
    const Vec<T> bias = args.delta_bias ? load(args.delta_bias + c, task.lanes_of(v)) : Vec<T>{};
    Vec<T> most{};
    const auto keep = [&](int64_t t, int64_t i, auto n, Vec<T> dt) {
      most = max<T>(most, abs<T>(dt));
      store<T>(task.dt + task.at(v, t), dt);
      store<T>(task.drive + task.at(v, t), dt * load(args.u + i, n));
    };
    if (args.delta_softplus) {
      task.each_step(chunk, v, [&](int64_t t, int64_t i, auto n) {
        const Vec<T> x = load(args.delta + i, n) + bias, e = exp(-abs<T>(x));
        if constexpr (backward) {
          const Vec<T> r = reciprocal<T>(T{1} + e);
          store<T>(task.slope + task.at(v, t), x < T{0} ? e * r : r);
        }
        keep(t, i, n, max<T>(x, Vec<T>{}) + log1p_unit(e));
      });
    } else {
      task.each_step(chunk, v, [&](int64_t t, int64_t i, auto n) {
        keep(t, i, n, load(args.delta + i, n) + bias);
      });
    }
    task.largest_dt[v] = largest<T>(most);
  }
}

/// decays [steps, kBlock, lanes] = 2^(dt a)
template <bool clamped, class T>
void exponentiate(int64_t steps, int64_t width, const T* a, const T* dt, T* decays) {
  Vec<T> a_[kBlock];
  for (int k = 0; k < kBlock; ++k) a_[k] = load(a + k * width);
  for (int64_t t = 0; t < steps; ++t) {
    const Vec<T> step = load(dt + t * lanes<T>);
    Vec<T> x[kBlock];
    for (int k = 0; k < kBlock; ++k) x[k] = step * a_[k];
    exp2<kBlock, clamped>(x);
    for (int k = 0; k < kBlock; ++k) store<T>(decays + (t * kBlock + k) * lanes<T>, x[k]);
  }
}

/// The decays of the states n onwards of vector v. (NaN in dt needs no care: it is in drive, too.)
template <class T>
void exponentiate(const Task<T>& task, int64_t steps, int64_t n, int64_t v) {
  const T most = task.largest_a[n / kBlock * task.vectors() + v] * task.largest_dt[v];
  const auto f = most < T{126} ? exponentiate<false, T> : exponentiate<true, T>;
  f(steps, task.width, task.a + n * task.width + v * lanes<T>, task.dt + task.at(v, 0),
    task.decays);
}

/// A block of states of one vector of channels through a chunk: h from its start to its end, and
/// where they are wanted, every h on the way and y += C h.
template <bool with_states, bool with_y, class T>
void run_block(int64_t steps, int64_t width, int64_t states, const T* decays, const T* drive,
               const T* B, const T* C, const T* start, T* end, T* hs, T* y) {
  Vec<T> h[kBlock];
  for (int k = 0; k < kBlock; ++k) {
    h[k] = load(start + k * width);
    if constexpr (with_states) store<T>(hs + k * lanes<T>, h[k]);
  }
  for (int64_t t = 0; t < steps; ++t) {
    const Vec<T> in = load(drive + t * lanes<T>);
    Vec<T> out{};
    for (int k = 0; k < kBlock; ++k) {
      h[k] = load(decays + (t * kBlock + k) * lanes<T>) * h[k] + in * B[t * states + k];
      if constexpr (with_states) store<T>(hs + ((t + 1) * kBlock + k) * lanes<T>, h[k]);
      if constexpr (with_y) out += h[k] * C[t * states + k];
    }
    if constexpr (with_y) store<T>(y + t * lanes<T>, load(y + t * lanes<T>) + out);
  }
  if (end) {
    for (int k = 0; k < kBlock; ++k) store<T>(end + k * width, h[k]);
  }
}

/// The states n onwards of vector v from a chunk's last step to its first. g comes as a[t+1] g[t+1]
/// of the step behind the chunk and leaves as that of the chunk's first step.
template <class T>
void differentiate_block(const Task<T> task, int64_t steps, int64_t n, int64_t v, T* g) {
  const T *dt = task.dt + task.at(v, 0), *drive = task.drive + task.at(v, 0),
          *dy = task.dy + task.at(v, 0), *B = task.B + n, *C = task.C + n;
  T *ddrive = task.ddrive + task.at(v, 0), *ddt = task.ddt + task.at(v, 0);
  const int64_t width = task.width, states = task.states, at = n * width + v * lanes<T>;
  Vec<T> a_[kBlock], da_[kBlock], g_[kBlock], h[kBlock];
  for (int k = 0; k < kBlock; ++k) {
    a_[k] = load(task.a + at + k * width);
    da_[k] = load(task.da + at + k * width);
    g_[k] = load(g + at + k * width);
    h[k] = load(task.hs + (steps * kBlock + k) * lanes<T>);
  }
  for (int64_t t = steps - 1; t >= 0; --t) {
    const Vec<T> step = load(dt + t * lanes<T>), in = load(drive + t * lanes<T>),
                 out = load(dy + t * lanes<T>);
    Vec<T> din = load(ddrive + t * lanes<T>), dstep = load(ddt + t * lanes<T>);
    for (int k = 0; k < kBlock; ++k) {
      const int64_t i = (t * kBlock + k) * lanes<T>;
      g_[k] += out * C[t * states + k];
      store<T>(task.dC + i, load(task.dC + i) + out * h[k]);
      h[k] = load(task.hs + i);
      store<T>(task.dB + i, load(task.dB + i) + g_[k] * in);
      din += g_[k] * B[t * states + k];
      g_[k] *= load(task.decays + i);
      const Vec<T> d = g_[k] * h[k];  // dLoss/d(dt A)
      dstep += d * a_[k];
      da_[k] += d * step;
    }
    store<T>(ddrive + t * lanes<T>, din);
    store<T>(ddt + t * lanes<T>, dstep);
  }
  for (int k = 0; k < kBlock; ++k) {
    store<T>(task.da + at + k * width, da_[k]);
    store<T>(g + at + k * width, g_[k]);
  }
}

/// Halves of a and of b, quarters and so on, as `step` says, added: a's in the lanes where theirs
/// came first, b's in the others.
template <int step, class T>
[[gnu::always_inline]] inline Vec<T> fold(Vec<T> a, Vec<T> b) {
  exchange<T, step>(a, b, std::make_integer_sequence<int, lanes<T>>{});
  return a + b;
}

/// out[0][k] and out[1][k] = the sums of row k of first and second [kBlock, lanes].
template <class T>
[[gnu::always_inline]] inline void add_lanes(const T* first, const T* second, T (&out)[2][kBlock]) {
  Vec<T> v[2 * kBlock];
  for (int k = 0; k < kBlock; ++k) {
    v[k] = load(first + k * lanes<T>);
    v[k + kBlock] = load(second + k * lanes<T>);
  }
  if constexpr (lanes<T> >= 2 * kBlock) {
    constexpr int n = lanes<T>;
    for (int k = 0; k < 4; ++k) v[k] = fold<n / 2, T>(v[k], v[k + 4]);
    for (int k = 0; k < 2; ++k) v[k] = fold<n / 4, T>(v[k], v[k + 2]);
    v[0] = fold<n / 8, T>(v[0], v[1]);
    T sums[n];
    store<T>(sums, n > 8 ? fold<1, T>(v[0], v[0]) : v[0]);
    for (int k = 0; k < 2 * kBlock; ++k) out[k / kBlock][k % kBlock] = sums[k * (n / 8)];
  } else {
    for (int k = 0; k < 2 * kBlock; ++k) out[k / kBlock][k % kBlock] = sum<T>(v[k]);
  }
}

/// y of a chunk, with skip and gate.
template <class T>
void write_y(const ScanForward<T> args, const Task<T> task, int64_t chunk) {
  for (int64_t v = 0; v < task.vectors(); ++v) {
    const int64_t c = task.first_channel(v);
    const Vec<T> skip = args.D ? load(args.D + c, task.lanes_of(v)) : Vec<T>{};
    const auto y = [&](int64_t t, int64_t i, auto n) {
      return load(task.y + task.at(v, t)) + skip * load(args.u + i, n);
    };
    if (args.z) {
      task.each_step(chunk, v, [&](int64_t t, int64_t i, auto n) {
        const Vec<T> z = load(args.z + i, n);
        store<T>(args.y + i, y(t, i, n) * z * sigmoid<T>(z), n, task.streams);
      });
    } else {
      task.each_step(chunk, v, [&](int64_t t, int64_t i, auto n) {
        store<T>(args.y + i, y(t, i, n), n, task.streams);
      });
    }
  }
}

template <class T>
void forward_task(const ScanForward<T>& args, int64_t index, int worker) {
  const Task<T> task(args, index, worker);
  const ScanSizes& s = args.sizes;
  const int64_t state_row = task.b * s.channels + task.channel;
  task.read_states(args.initial_state, state_row, task.h);
  for (int64_t chunk = 0; chunk < task.chunks(); ++chunk) {
    const int64_t steps = task.steps(chunk);
    if (args.kept) {
      std::memcpy(args.kept + task.kept(chunk), task.h, sizeof(T) * task.states * task.width);
    }
    read_chunk<false, T>(task, chunk);
    std::memset(task.y, 0, sizeof(T) * kChunk * task.width);
    for (int64_t n = 0; n < task.states; n += kBlock) {
      for (int64_t v = 0; v < task.vectors(); ++v) {
        const int64_t at = n * task.width + v * lanes<T>;
        task.prefetch(args.u, chunk + 1, n, v);
        exponentiate<T>(task, steps, n, v);
        for (const T* x : {args.delta, args.z}) task.prefetch(x, chunk + 1, n, v);
        run_block<false, true, T>(steps, task.width, task.states, task.decays,
                                  task.drive + task.at(v, 0), task.B + n, task.C + n, task.h + at,
                                  task.h + at, nullptr, task.y + task.at(v, 0));
      }
    }
    write_y<T>(args, task, chunk);
  }
  finish_streams();
  task.write_states(task.h, state_row, args.last_state);
  for (int64_t t = task.length; t < s.length; ++t) {
    std::memset(args.y + (task.b * s.length + t) * s.channels + task.channel, 0,
                sizeof(T) * task.channels);
  }
}

/// dy in front of the gate, and the sums over states at zero.
template <class T>
void start_chunk(const ScanBackward<T> args, const Task<T> task, int64_t chunk) {
  for (T* sum : {task.y, task.ddrive, task.ddt}) {
    std::memset(sum, 0, sizeof(T) * kChunk * task.width);
  }
  for (int64_t v = 0; v < task.vectors(); ++v) {
    task.each_step(chunk, v, [&](int64_t t, int64_t i, auto n) {
      Vec<T> dy = args.dy ? load(args.dy + i, n) : Vec<T>{};
      if (args.z) {
        const Vec<T> z = load(args.z + i, n);
        dy *= z * sigmoid<T>(z);
      }
      store<T>(task.dy + task.at(v, t), dy);
    });
  }
}

/// From the sums over states to the gradients of u, delta, z, D and delta_bias.
template <class T>
void finish_chunk(const ScanBackward<T> args, const Task<T> task, int64_t chunk) {
  for (int64_t v = 0; v < task.vectors(); ++v) {
    const int64_t c = task.first_channel(v), parts = task.b * args.sizes.channels + c;
    const Vec<T> skip = args.D ? load(args.D + c, task.lanes_of(v)) : Vec<T>{};
    Vec<T> dskip{}, dbias{};
    task.each_step(chunk, v, [&](int64_t t, int64_t i, auto n) {
      const int64_t at = task.at(v, t);
      const Vec<T> u = load(args.u + i, n), dy = load(task.dy + at),
                   ddrive = load(task.ddrive + at);
      Vec<T> ddelta = ddrive * u + load(task.ddt + at) * static_cast<T>(1 / kLog2E);
      if (args.delta_softplus) ddelta *= load(task.slope + at);
      store<T>(args.ddelta + i, ddelta, n, task.streams);
      store<T>(args.du + i, ddrive * load(task.dt + at) + skip * dy, n, task.streams);
      dbias += ddelta;
      dskip += dy * u;
      if (args.z) {
        const Vec<T> z = load(args.z + i, n), gate = sigmoid<T>(z),
                     y = load(task.y + at) + skip * u;
        const Vec<T> above = args.dy ? load(args.dy + i, n) : Vec<T>{};
        store<T>(args.dz + i, above * y * gate * (T{1} + z * (T{1} - gate)), n, task.streams);
      }
    });
    const int n = task.lanes_of(v);
    if (args.dD) store<T>(args.dD + parts, load(args.dD + parts, n) + dskip, n);
    if (args.ddelta_bias) {
      store<T>(args.ddelta_bias + parts, load(args.ddelta_bias + parts, n) + dbias, n);
    }
  }
}

template <class T>
void zero_padding(const ScanBackward<T>& args, const Task<T>& task) {
  const ScanSizes& s = args.sizes;
  for (int64_t t = task.length; t < s.length; ++t) {
    const int64_t row = task.b * s.length + t;
    for (T* out : {args.du, args.ddelta, args.dz}) {
      if (out) std::memset(out + row * s.channels + task.channel, 0, sizeof(T) * task.channels);
    }
    for (T* out : {args.dB, args.dC}) std::memset(out + task.part(row), 0, sizeof(T) * s.states);
  }
}

/// A block of states of all vectors through a chunk.
template <class T>
void backward_block(const ScanBackward<T>& args, const Task<T>& task, int64_t chunk, int64_t n,
                    T* g) {
  const int64_t steps = task.steps(chunk);
  const T* const start = args.kept + task.kept(chunk);
  for (T* sum : {task.dB, task.dC}) std::memset(sum, 0, sizeof(T) * kChunk * kBlock * lanes<T>);
  for (int64_t v = 0; v < task.vectors(); ++v) {
    const int64_t at = n * task.width + v * lanes<T>;
    task.prefetch(args.u, chunk - 1, n, v);
    task.prefetch_kept(args.kept, chunk - 1, n, v);
    exponentiate<T>(task, steps, n, v);
    for (const T* x : {args.delta, args.z}) task.prefetch(x, chunk - 1, n, v);
    const auto recompute = args.z ? run_block<true, true, T> : run_block<true, false, T>;
    recompute(steps, task.width, task.states, task.decays, task.drive + task.at(v, 0), task.B + n,
              task.C + n, start + at, nullptr, task.hs, task.y + task.at(v, 0));
    task.prefetch(args.dy, chunk - 1, n, v);
    differentiate_block<T>(task, steps, n, v, g);
  }
  const int64_t left = args.sizes.states - n, count = left < kBlock ? left : kBlock;
  for (int64_t t = 0; t < steps; ++t) {
    const int64_t part = task.part(task.row(chunk, t)) + n;
    T sums[2][kBlock];
    add_lanes<T>(task.dB + t * kBlock * lanes<T>, task.dC + t * kBlock * lanes<T>, sums);
    for (int64_t k = 0; k < count; ++k) {
      args.dB[part + k] = sums[0][k];
      args.dC[part + k] = sums[1][k];
    }
  }
}

template <class T>
void backward_task(const ScanBackward<T>& args, int64_t index, int worker) {
  const Task<T> task(args, index, worker);
  const int64_t state_row = task.b * args.sizes.channels + task.channel;
  std::memset(task.da, 0, sizeof(T) * task.states * task.width);
  for (T* out : {args.dD, args.ddelta_bias}) {
    if (out) std::memset(out + state_row, 0, sizeof(T) * task.channels);
  }
  T* const g = task.h;
  task.read_states(args.dlast_state, state_row, g);
  for (int64_t chunk = task.chunks() - 1; chunk >= 0; --chunk) {
    read_chunk<true, T>(task, chunk);
    start_chunk<T>(args, task, chunk);
    for (int64_t n = 0; n < task.states; n += kBlock) backward_block<T>(args, task, chunk, n, g);
    finish_chunk<T>(args, task, chunk);
  }
  finish_streams();
  task.write_states(task.da, state_row, args.dA);
  if (args.dinitial_state) task.write_states(g, state_row, args.dinitial_state);
  zero_padding<T>(args, task);
}

template <class T>
void forward(const ScanForward<T>& args) {
  parallel(args.sizes.tasks(),
           [&](int64_t task, int worker) { forward_task<T>(args, task, worker); });
}

template <class T>
void backward(const ScanBackward<T>& args) {
  parallel(args.sizes.tasks(),
           [&](int64_t task, int worker) { backward_task<T>(args, task, worker); });
}

template <class T>
void add_parts(const T* parts, int64_t count, int64_t size, T* out) {
  constexpr int64_t kPiece = 4096;
  parallel((size + kPiece - 1) / kPiece, [&](int64_t piece, int) {
    const int64_t from = piece * kPiece, to = from + kPiece < size ? from + kPiece : size;
    std::memset(out + from, 0, sizeof(T) * static_cast<size_t>(to - from));
    for (int64_t p = 0; p < count; ++p) {
      for (int64_t i = from; i < to; ++i) out[i] += parts[p * size + i];
    }
  });
}

}  // namespace RIBO_ISA

template <>
void scan_forward<Isa::RIBO_ISA>(const ScanForward<float>& args) {
  RIBO_ISA::forward<float>(args);
}
template <>
void scan_forward<Isa::RIBO_ISA>(const ScanForward<double>& args) {
  RIBO_ISA::forward<double>(args);
}

template <>
void scan_backward<Isa::RIBO_ISA>(const ScanBackward<float>& args) {
  RIBO_ISA::backward<float>(args);
}
template <>
void scan_backward<Isa::RIBO_ISA>(const ScanBackward<double>& args) {
  RIBO_ISA::backward<double>(args);
}

template <>
void scan_add_parts<Isa::RIBO_ISA>(const float* parts, int64_t count, int64_t size, float* out) {
  RIBO_ISA::add_parts<float>(parts, count, size, out);
}
template <>
void scan_add_parts<Isa::RIBO_ISA>(const double* parts, int64_t count, int64_t size, double* out) {
  RIBO_ISA::add_parts<double>(parts, count, size, out);
}

}  // namespace ribo::kernels
