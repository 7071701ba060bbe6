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

#include "common/parallel.h"
#include "common/vec.h"

namespace ribo::kernels {
namespace RIBO_ISA {

constexpr int64_t kChunk = ScanSizes::kChunk;
constexpr int kBlock = ScanSizes::kBlock;

/// What is the same for all chunks of a task, and the scratch memory of its worker.
template <class T>
struct Task {
  const ScanArgs<T>& args;
  int64_t index, b, group, slice;  // the task, its sequence, its group, its slice of that
  int64_t channel, channels;       // the first channel and how many there are
  int64_t width, states, length;   // width and states with their padding
  // [states, width]; a in units of log(2)
  T *a, *h, *da;
  // [width / lanes, kChunk, lanes]
  T *dt, *slope, *drive, *dy, *y, *ddrive, *ddt;
  // [kChunk, states]
  T *B, *C;
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

    T* next = in.scratch + worker * s.scratch();
    for (T** p : {&a, &h, &da}) *p = take(next, states * width);
    for (T** p : {&dt, &slope, &drive, &dy, &y, &ddrive, &ddt}) *p = take(next, kChunk * width);
    for (T** p : {&B, &C}) *p = take(next, kChunk * states);
    for (T** p : {&decays, &dB, &dC}) *p = take(next, kChunk * kBlock * lanes<T>);
    hs = next;
    read_states(in.A, channel, a);
    for (int64_t i = 0; i < states * width; ++i) a[i] *= static_cast<T>(kLog2E);
  }

  static T* take(T*& next, int64_t count) {
    T* const p = next;
    next += count;
    return p;
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
  /// How many channels vector v has.
  int lanes_of(int64_t v) const {
    const int64_t left = channels - v * lanes<T>;
    return static_cast<int>(left < 0 ? 0 : left < lanes<T> ? left : lanes<T>);
  }
  int64_t at(int64_t v, int64_t t) const { return (v * kChunk + t) * lanes<T>; }
  /// The states kept in front of a chunk.
  int64_t kept(int64_t chunk) const {
    return (index * args.sizes.chunks() + chunk) * states * width;
  }

  /// Where the parts of dB and dC of a row of [B, L] are.
  int64_t part(int64_t row) const {
    const ScanSizes& s = args.sizes;
    return ((slice * s.batch * s.length + row) * s.groups + group) * s.states;
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

  /// Fills B, C, dt, slope, drive of a chunk.
  void read(int64_t chunk, bool backward) {
    const ScanSizes& s = args.sizes;
    const int64_t n_steps = steps(chunk);
    for (int64_t t = 0; t < n_steps; ++t) {
      const int64_t from = (row(chunk, t) * s.groups + group) * s.states;
      for (int64_t n = 0; n < states; ++n) {
        B[t * states + n] = n < s.states ? args.B[from + n] : T{0};
        C[t * states + n] = n < s.states ? args.C[from + n] : T{0};
      }
    }
    for (int64_t v = 0; v < vectors(); ++v) {
      const int64_t c = channel + v * lanes<T>;
      const int n = lanes_of(v);
      const Vec<T> bias = args.delta_bias ? load(args.delta_bias + c, n) : Vec<T>{};
      for (int64_t t = 0; t < n_steps; ++t) {
        const int64_t from = row(chunk, t) * s.channels + c;
        Vec<T> x = load(args.delta + from, n) + bias;
        if (args.delta_softplus) {
          const Vec<T> e = exp(-abs<T>(x)), r = T{1} / (T{1} + e);
          if (backward) store<T>(slope + at(v, t), x < T{0} ? e * r : r);
          x = max<T>(x, Vec<T>{}) + log1p_unit(e);
        }
        store<T>(dt + at(v, t), x);
        store<T>(drive + at(v, t), x * load(args.u + from, n));
      }
    }
  }
};

template <class T>
[[gnu::always_inline]] inline Vec<T> silu(Vec<T> x) {
  return x * sigmoid<T>(x);
}

/// A block of states of one vector of channels through a chunk: h onwards, y += C h.
template <class T>
void run_block(int64_t steps, int64_t width, int64_t states, const T* a, T* h, const T* dt,
               const T* drive, const T* B, const T* C, T* y) {
  Vec<T> a_[kBlock], h_[kBlock];
  for (int k = 0; k < kBlock; ++k) {
    a_[k] = load(a + k * width);
    h_[k] = load(h + k * width);
  }
  for (int64_t t = 0; t < steps; ++t) {
    const Vec<T> step = load(dt + t * lanes<T>), in = load(drive + t * lanes<T>);
    Vec<T> out = load(y + t * lanes<T>);
    for (int k = 0; k < kBlock; ++k) {
      h_[k] = exp2(step * a_[k]) * h_[k] + in * B[t * states + k];
      out += h_[k] * C[t * states + k];
    }
    store<T>(y + t * lanes<T>, out);
  }
  for (int k = 0; k < kBlock; ++k) store<T>(h + k * width, h_[k]);
}

/// The same, keeping every state and decay; y only where it is wanted.
template <bool with_y, class T>
void recompute_block(int64_t steps, int64_t width, int64_t states, const T* a, const T* h,
                     const T* dt, const T* drive, const T* B, const T* C, T* y, T* hs, T* decays) {
  Vec<T> a_[kBlock], h_[kBlock];
  for (int k = 0; k < kBlock; ++k) {
    a_[k] = load(a + k * width);
    h_[k] = load(h + k * width);
    store<T>(hs + k * lanes<T>, h_[k]);
  }
  for (int64_t t = 0; t < steps; ++t) {
    const Vec<T> step = load(dt + t * lanes<T>), in = load(drive + t * lanes<T>);
    Vec<T> out{};
    for (int k = 0; k < kBlock; ++k) {
      const Vec<T> decay = exp2(step * a_[k]);
      h_[k] = decay * h_[k] + in * B[t * states + k];
      store<T>(decays + (t * kBlock + k) * lanes<T>, decay);
      store<T>(hs + ((t + 1) * kBlock + k) * lanes<T>, h_[k]);
      if constexpr (with_y) out += h_[k] * C[t * states + k];
    }
    if constexpr (with_y) store<T>(y + t * lanes<T>, load(y + t * lanes<T>) + out);
  }
}

/// From the last step to the first. g comes as a[t+1] g[t+1] of the step behind the chunk and
/// leaves as that of the chunk's first step.
template <class T>
void differentiate_block(const Task<T>& task, int64_t steps, int64_t n, int64_t v, T* g) {
  const int64_t width = task.width, states = task.states;
  const T *dts = task.dt + task.at(v, 0), *drives = task.drive + task.at(v, 0),
          *dys = task.dy + task.at(v, 0);
  T *ddrives = task.ddrive + task.at(v, 0), *ddts = task.ddt + task.at(v, 0);
  const int64_t at = n * width + v * lanes<T>;
  Vec<T> a_[kBlock], da_[kBlock], g_[kBlock];
  for (int k = 0; k < kBlock; ++k) {
    a_[k] = load(task.a + at + k * width);
    da_[k] = load(task.da + at + k * width);
    g_[k] = load(g + at + k * width);
  }
  for (int64_t t = steps - 1; t >= 0; --t) {
    const Vec<T> step = load(dts + t * lanes<T>), in = load(drives + t * lanes<T>),
                 dy = load(dys + t * lanes<T>);
    Vec<T> ddrive = load(ddrives + t * lanes<T>), ddt = load(ddts + t * lanes<T>);
    for (int k = 0; k < kBlock; ++k) {
      const int64_t i = (t * kBlock + k) * lanes<T>;
      g_[k] += dy * task.C[t * states + n + k];
      store<T>(task.dC + i, load(task.dC + i) + dy * load(task.hs + i + kBlock * lanes<T>));
      store<T>(task.dB + i, load(task.dB + i) + g_[k] * in);
      ddrive += g_[k] * task.B[t * states + n + k];
      g_[k] *= load(task.decays + i);
      const Vec<T> d = g_[k] * load(task.hs + i);  // dLoss/d(dt A)
      ddt += d * a_[k];
      da_[k] += d * step;
    }
    store<T>(ddrives + t * lanes<T>, ddrive);
    store<T>(ddts + t * lanes<T>, ddt);
  }
  for (int k = 0; k < kBlock; ++k) {
    store<T>(task.da + at + k * width, da_[k]);
    store<T>(g + at + k * width, g_[k]);
  }
}

template <class T>
void forward_task(const ScanForward<T>& args, int64_t index, int worker) {
  Task<T> task(args, index, worker);
  const ScanSizes& s = args.sizes;
  const int64_t state_row = task.b * s.channels + task.channel;
  task.read_states(args.initial_state, state_row, task.h);
  for (int64_t chunk = 0; chunk < task.chunks(); ++chunk) {
    const int64_t steps = task.steps(chunk);
    if (args.kept) {
      std::memcpy(args.kept + task.kept(chunk), task.h, sizeof(T) * task.states * task.width);
    }
    task.read(chunk, false);
    std::memset(task.y, 0, sizeof(T) * kChunk * task.width);
    for (int64_t n = 0; n < task.states; n += kBlock) {
      for (int64_t v = 0; v < task.vectors(); ++v) {
        const int64_t at = n * task.width + v * lanes<T>;
        run_block<T>(steps, task.width, task.states, task.a + at, task.h + at,
                     task.dt + task.at(v, 0), task.drive + task.at(v, 0), task.B + n, task.C + n,
                     task.y + task.at(v, 0));
      }
    }
    for (int64_t v = 0; v < task.vectors(); ++v) {
      const int64_t c = task.channel + v * lanes<T>;
      const int n = task.lanes_of(v);
      const Vec<T> skip = args.D ? load(args.D + c, n) : Vec<T>{};
      for (int64_t t = 0; t < steps; ++t) {
        const int64_t i = task.row(chunk, t) * s.channels + c;
        Vec<T> y = load(task.y + task.at(v, t)) + skip * load(args.u + i, n);
        if (args.z) y *= silu<T>(load(args.z + i, n));
        store<T>(args.y + i, y, n);
      }
    }
  }
  task.write_states(task.h, state_row, args.last_state);
  for (int64_t t = task.length; t < s.length; ++t) {
    std::memset(args.y + (task.b * s.length + t) * s.channels + task.channel, 0,
                sizeof(T) * task.channels);
  }
}

/// dy in front of the gate, and the sums over states at zero.
template <class T>
void start_chunk(const ScanBackward<T>& args, const Task<T>& task, int64_t chunk) {
  std::memset(task.y, 0, sizeof(T) * kChunk * task.width);
  std::memset(task.ddrive, 0, sizeof(T) * kChunk * task.width);
  std::memset(task.ddt, 0, sizeof(T) * kChunk * task.width);
  for (int64_t v = 0; v < task.vectors(); ++v) {
    const int64_t c = task.channel + v * lanes<T>;
    const int n = task.lanes_of(v);
    for (int64_t t = 0; t < task.steps(chunk); ++t) {
      const int64_t i = task.row(chunk, t) * args.sizes.channels + c;
      Vec<T> dy = args.dy ? load(args.dy + i, n) : Vec<T>{};
      if (args.z) dy *= silu<T>(load(args.z + i, n));
      store<T>(task.dy + task.at(v, t), dy);
    }
  }
}

/// From the sums over states to the gradients of u, delta, z, D and delta_bias.
template <class T>
void finish_chunk(const ScanBackward<T>& args, const Task<T>& task, int64_t chunk) {
  for (int64_t v = 0; v < task.vectors(); ++v) {
    const int64_t c = task.channel + v * lanes<T>, parts = task.b * args.sizes.channels + c;
    const int n = task.lanes_of(v);
    const Vec<T> skip = args.D ? load(args.D + c, n) : Vec<T>{};
    Vec<T> dskip{}, dbias{};
    for (int64_t t = 0; t < task.steps(chunk); ++t) {
      const int64_t i = task.row(chunk, t) * args.sizes.channels + c, at = task.at(v, t);
      const Vec<T> u = load(args.u + i, n), dy = load(task.dy + at),
                   ddrive = load(task.ddrive + at);
      Vec<T> ddelta = ddrive * u + load(task.ddt + at) * static_cast<T>(1 / kLog2E);
      if (args.delta_softplus) ddelta *= load(task.slope + at);
      store<T>(args.ddelta + i, ddelta, n);
      store<T>(args.du + i, ddrive * load(task.dt + at) + skip * dy, n);
      dbias += ddelta;
      dskip += dy * u;
      if (args.z) {
        const Vec<T> z = load(args.z + i, n), gate = sigmoid<T>(z);
        const Vec<T> y = load(task.y + at) + skip * u;
        const Vec<T> above = args.dy ? load(args.dy + i, n) : Vec<T>{};
        store<T>(args.dz + i, above * y * gate * (T{1} + z * (T{1} - gate)), n);
      }
    }
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
    for (T* out : {args.dB, args.dC}) {
      std::memset(out + task.part(row), 0, sizeof(T) * s.states);
    }
  }
}

template <class T>
void backward_task(const ScanBackward<T>& args, int64_t index, int worker) {
  Task<T> task(args, index, worker);
  const ScanSizes& s = args.sizes;
  const int64_t state_row = task.b * s.channels + task.channel;
  std::memset(task.da, 0, sizeof(T) * task.states * task.width);
  for (T* out : {args.dD, args.ddelta_bias}) {
    if (out) std::memset(out + state_row, 0, sizeof(T) * task.channels);
  }
  T* const g = task.h;
  task.read_states(args.dlast_state, state_row, g);
  for (int64_t chunk = task.chunks() - 1; chunk >= 0; --chunk) {
    const int64_t steps = task.steps(chunk);
    task.read(chunk, true);
    start_chunk<T>(args, task, chunk);
    for (int64_t n = 0; n < task.states; n += kBlock) {
      std::memset(task.dB, 0, sizeof(T) * kChunk * kBlock * lanes<T>);
      std::memset(task.dC, 0, sizeof(T) * kChunk * kBlock * lanes<T>);
      for (int64_t v = 0; v < task.vectors(); ++v) {
        const int64_t at = n * task.width + v * lanes<T>;
        const auto recompute = args.z ? recompute_block<true, T> : recompute_block<false, T>;
        recompute(steps, task.width, task.states, task.a + at, args.kept + task.kept(chunk) + at,
                  task.dt + task.at(v, 0), task.drive + task.at(v, 0), task.B + n, task.C + n,
                  task.y + task.at(v, 0), task.hs, task.decays);
        differentiate_block<T>(task, steps, n, v, g);
      }
      for (int64_t t = 0; t < steps; ++t) {
        const int64_t part = task.part(task.row(chunk, t)) + n;
        for (int64_t k = 0; k < kBlock && n + k < s.states; ++k) {
          const int64_t i = (t * kBlock + k) * lanes<T>;
          args.dB[part + k] = sum<T>(load(task.dB + i));
          args.dC[part + k] = sum<T>(load(task.dC + i));
        }
      }
    }
    finish_chunk<T>(args, task, chunk);
  }
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
