// The gradients of the scan.
//
// With dy' = dy silu(z), a = exp(delta A) and g[t] = dLoss/dh[t] = C[t] dy'[t] + a[t+1] g[t+1]:
//   dC = dy' h, dB = g delta u (both summed over the group's channels), d(delta A) = g a h[t-1].
// A warp takes the chunks from the last to the first. It walks through a chunk forwards from its
// checkpoint and keeps the state before each group of steps; then through the groups from the last,
// each once more forwards, with decays and states in registers, and back.
#pragma once

#include "selective_scan/selective_scan_warp.cuh"

namespace ribo::kernels {

/// Gradients of scan_kernel's block, before the sums over blocks.
template <class Io>
struct Parts {
  Rows<Io> du, ddelta, dz;
  Real<Io>* d_initial_state;
  /// [tiles, B, strides, G, kChunk, 2, all states]: dB and dC of each block's channels.
  Real<Io>* coefficients;
  /// [B, segments, N + 2, D]: dA, dD, d(delta_bias).
  Real<Io>* channel;
};

/// Where of [rows, all states] the states of a multiple of kStates are put, so that lanes that
/// write neighbouring rows do so to different banks.
template <class L>
__device__ inline int banked(int row, int state) {
  return row * L::kAllStates + (state + row / 2 * L::kStates) % L::kAllStates;
}

/// Sums over a warp's columns of dB and dC at the steps of a group. `sums` is [kGroup, 2, all
/// states], banked(); `state` the lane's first one.
template <class Io, class L, class = void>
class ColumnSums {
 public:
  using T = Real<Io>;
  __device__ ColumnSums(T* sums, int state) : sums_(sums), state_(state) {}
  /// The lane's states s and s + 1; from the last step to the first.
  __device__ void add(int s, int j, const T* d_b, const T* d_c) {
    T(&values)[8] = values_[s / 2];
    const int i = j % 2 * 4;
    values[i] = d_b[0], values[i + 1] = d_b[1], values[i + 2] = d_c[0], values[i + 3] = d_c[1];
    if (j % 2 == 1) return;
    scatter_sums<8, L::kColumns, 1>(values);
#pragma unroll
    for (int v = 0; v < kMine; ++v) {
      const int mine = static_cast<int>(threadIdx.x) % L::kColumns * kMine + v;
      sums_[banked<L>((j + mine / 4) * 2 + mine / 2 % 2, state_) + s + mine % 2] = values[v];
    }
  }
  __device__ void finish() {}

 private:
  static constexpr int kMine = 8 / L::kColumns;

  T* const sums_;
  const int state_;
  T values_[L::kStates / 2][8];
};

/// Where results are 16 bits wide, with the tensor cores: their TF32 keeps more. A step's numbers
/// are a lane's share of A, and B has ones where it puts their sums over four lanes into columns of
/// the step's own. One exchange adds the other four.
template <class Io, class L>
class ColumnSums<Io, L, std::enable_if_t<sizeof(Io) == 2 && L::kColumns == 8>> {
 public:
  __device__ ColumnSums(float* sums, int state) : sums_(sums), state_(state) {}
  __device__ void add(int s, int j, const float* d_b, const float* d_c) {
    float(&fours)[4] = fours_[s / 2];
    const int row = static_cast<int>(threadIdx.x) % 32 / 4;
    const uint32_t even = row % 2 == 0 ? kOne : 0, odd = kOne - even;
    const uint32_t b[2] = {row / 2 == j ? even : 0, row / 2 == j ? odd : 0};
    mma_16x8x8_tf32(fours, {bits(d_b[0]), bits(d_c[0]), bits(d_b[1]), bits(d_c[1])}, b);
    if (j > 0) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float keep = of_c() ? fours[2 + i] : fours[i], give = of_c() ? fours[i] : fours[2 + i];
      mine_.v[s + i] = keep + __shfl_xor_sync(~0u, give, 4);
    }
  }
  __device__ void finish() {
    const int step = static_cast<int>(threadIdx.x) % 4;
    *reinterpret_cast<Piece<float, L::kStates>*>(sums_ + banked<L>(step * 2 + of_c(), state_)) =
        mine_;
  }

 private:
  static_assert(L::kGroup == 4);
  static constexpr uint32_t kOne = 0x3f800000;
  // TF32 drops the last bits. bfloat16 results don't notice, float16's would.
  __device__ static uint32_t bits(float x) {
    return __float_as_uint(x) + (std::is_same_v<Io, __half> ? 0x1000 : 0);
  }
  __device__ static bool of_c() { return threadIdx.x & 4; }

  float* const sums_;
  const int state_;
  float fours_[L::kStates / 2][4] = {};
  Piece<float, L::kStates> mine_;
};

/// What a warp of the backward pass has of a group of steps in shared memory.
template <class Io, class L>
struct GroupDesk {
  using T = Real<Io>;
  template <class Element, int kCount>
  using Tile = Piece<Element, kCount>[L::kGroup][L::kColumns];

  Tile<T, 2 * L::kOfLane> drives;  // delta, delta u
  Tile<T, L::kOfLane> d_scans;     // dy'
  /// The state before the group; a lane reads what it wrote. Later what own_sums() adds.
  Piece<T, L::kOfLane> start[L::kStates > L::kGroup ? L::kStates : L::kGroup][32];
  alignas(16) T sums[L::kGroup][2][L::kAllStates];  // of dB and dC over the warp's channels
  alignas(16) Tile<Io, L::kOfLane> u[2];            // of this chunk and the next
  Tile<Io, L::kOfLane> delta[2], dy, z, ungated;
};

/// What it has.
template <class Io, class L>
struct Desk {
  using T = Real<Io>;
  GroupDesk<Io, L> groups[L::kGroups];
  Piece<T, L::kOfLane> skip[L::kColumns], bias[L::kColumns];
  /// Parts of dD and of d(delta_bias); a lane reads what it wrote.
  Piece<T, 2 * L::kOfLane> channel_sums[32];
};

/// The tensors of which a block has a Track.
enum Tracked { kOfB, kOfC, kOfU, kOfDelta, kOfDy, kOfZ, kOfUngated, kTracked };

/// What a block has.
template <class Io, class L, bool kAligned>
struct BackwardRoom {
  using T = Real<Io>;
  Track<const Io> in[kTracked];
  Track<Io> of_du, of_ddelta, of_dz;
  Track<T> checkpoints, parts;
  alignas(16) typename Coefficients<Io, L, kAligned>::Turned coefficients;
  typename Coefficients<Io, L, kAligned>::Copied copied;
  Desk<Io, L> desks[L::kWarps];
};

/// own_sum() of each of a column's channels, through shared memory: half of the exchanges' time.
/// Nobody needs what is in `rows` [kGroup].
template <class L, class T>
__device__ inline Piece<T, L::kOfLane> own_sums(Piece<T, L::kOfLane> (*rows)[32],
                                                const T (&values)[L::kOfLane][L::kGroup]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int column = lane % L::kColumns, own = lane / L::kColumns % L::kGroup;
  Piece<T, L::kOfLane> total{};
#pragma unroll
  for (int j = 0; j < L::kGroup; ++j) {
#pragma unroll
    for (int i = 0; i < L::kOfLane; ++i) total.v[i] = values[i][j];
    rows[j][(lane + j * L::kColumns) % 32] = total;  // lanes read rows of their own: other banks
  }
  __syncwarp();
  total = rows[own][(column + own * L::kColumns) % 32];
#pragma unroll
  for (int share = 1; share < L::kShares; ++share) {
    const auto more = rows[own][(column + (share + own) * L::kColumns) % 32];
#pragma unroll
    for (int i = 0; i < L::kOfLane; ++i) total.v[i] += more.v[i];
  }
  __syncwarp();
  return total;
}

/// Blocks of the backward pass that a multiprocessor has at once, and the states that a lane walks
/// through at once. kFew: there are no more blocks; four states take registers, but reads are
/// fewer.
template <class Io, class L, bool kFew>
inline constexpr int kBackwardBlocks = L::kGroup > 4 || sizeof(Io) > 4 ? 1
                                       : kFew                          ? 2
                                       : sizeof(Io) == 4               ? 3
                                                                       : 4;
template <bool kFew>
inline constexpr int kAtOnce = kFew ? 4 : 2;

/// `carries` [B, segments, N, D]: the gradient that enters each segment from behind; where that is
/// null, there is one segment and `d_last_state` [B, D, N] enters (null: zero). `ungated`: y before
/// the gate, wanted where there is one.
template <class Io, class L, bool kAligned, bool kFew>
__global__ void __launch_bounds__(L::kThreads, kBackwardBlocks<Io, L, kFew>)
    scan_backward_kernel(const Problem<Io> p, const Rows<const Io> dy, const Rows<const Io> ungated,
                         const Real<Io>* carries, const Real<Io>* d_last_state,
                         const Parts<Io> out) {
  using T = Real<Io>;
  constexpr int kOfLane = L::kOfLane, kStates = L::kStates, kGroup = L::kGroup;
  constexpr int kAtOnce = kernels::kAtOnce<kFew>;
  const Spot<Io, L, kAligned> at(p);
  auto& room = *shared_memory<BackwardRoom<Io, L, kAligned>>();
  Desk<Io, L>& desk = room.desks[at.warp];
  constexpr int kSums = kChunk * 2 * L::kAllStates;  // of a chunk for dB and dC
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t outer = at.batch * p.segments + at.segment;

  T g[kOfLane][kStates] = {}, rate[kOfLane][kStates] = {}, d_rate[kOfLane][kStates] = {};
  at.each_state([&](int i, int s, int n) {
    if (carries) {
      g[i][s] = carries[at.by_row(outer, p.states, n, i)];
    } else if (d_last_state) {
      g[i][s] = d_last_state[at.by_channel(n, i)];
    }
    rate[i][s] = p.A[static_cast<int64_t>(at.channel + i) * p.states + n] * static_cast<T>(kLog2E);
  });
#pragma unroll
  for (int i = 0; i < kOfLane; ++i) {
    desk.skip[at.column].v[i] = p.D ? p.D[at.channel_of(i)] : T{0};
    desk.bias[at.column].v[i] = p.delta_bias ? p.delta_bias[at.channel_of(i)] : T{0};
  }
  desk.channel_sums[lane] = {};

  if (at.end > at.begin) {
    if (threadIdx.x == 0) {
      room.in[kOfB] = at.track(p.B), room.in[kOfC] = at.track(p.C);
      room.in[kOfU] = at.track(p.u), room.in[kOfDelta] = at.track(p.delta);
      room.in[kOfDy] = at.track(dy), room.in[kOfZ] = at.track(p.z);
      room.in[kOfUngated] = at.track(ungated);
      room.of_du = at.track(out.du), room.of_ddelta = at.track(out.ddelta);
      room.of_dz = at.track(out.dz);
      room.checkpoints = at.checkpoints();
      const int64_t part = static_cast<int64_t>(at.tile) * p.batch + at.batch;
      room.parts = {out.coefficients + (part * p.strides * p.groups + at.group) * kSums,
                    p.groups * kSums * static_cast<int>(sizeof(T))};
    }
    __syncthreads();
    const int last = at.last_chunk();
    const int limit = at.limit(&room);
    const Coefficients<Io, L, kAligned> copies(at, room.copied);
    const auto fetch = [&](int t0, int into) {
      if (t0 < at.begin) return;
      at.copy(room.in[kOfU], t0, [&](int k) { return desk.groups[k].u[into]; });
      at.copy(room.in[kOfDelta], t0, [&](int k) { return desk.groups[k].delta[into]; });
      at.copy(room.in[kOfDy], t0, [&](int k) { return desk.groups[k].dy; });
      if (p.z.data) {
        at.copy(room.in[kOfZ], t0, [&](int k) { return desk.groups[k].z; });
        at.copy(room.in[kOfUngated], t0, [&](int k) { return desk.groups[k].ungated; });
      }
      copies.fetch(room.in[copies.of_c() ? kOfC : kOfB], t0);
      __pipeline_commit();
    };
    fetch(last, 0);
    int parity = 0;
    for (int t0 = last; t0 >= at.begin; t0 -= kChunk, parity ^= 1) {
      const int groups = at.groups(t0);
      T h[kOfLane][kStates];
      at.kept(room.checkpoints, t0, h);
      __pipeline_wait_prior(0);
      __syncwarp();
      copies.turn(room.in[copies.of_c() ? kOfC : kOfB], t0, room.coefficients);
#pragma unroll 2
      for (int k = 0; k < groups; ++k) {
        const int t = t0 + k * kGroup + at.own();
        auto& group = desk.groups[k];
        T delta[kOfLane], u[kOfLane], d_scan[kOfLane];
        at.step_sizes(group.delta[parity][at.own()][at.column], t, desk.bias[at.column].v, delta);
        unpack(group.u[parity][at.own()][at.column], u);
        unpack(group.dy[at.own()][at.column], d_scan);
        if (p.z.data) {
          T z[kOfLane], d_z[kOfLane];
          unpack(group.z[at.own()][at.column], z);
          unpack(group.ungated[at.own()][at.column], d_z);
#pragma unroll
          for (int i = 0; i < kOfLane; ++i) {
            const T s = sigmoid(z[i]);
            d_scan[i] *= s;
            d_z[i] *= d_scan[i] * (1 + z[i] * (1 - s));
            d_scan[i] *= z[i];
          }
          at.write(room.of_dz, t, limit, d_z);
        }
        Piece<T, 2 * kOfLane> drive;
        Piece<T, kOfLane> of_scan;
#pragma unroll
        for (int i = 0; i < kOfLane; ++i) {
          drive.v[i] = delta[i], drive.v[kOfLane + i] = delta[i] * u[i];
          of_scan.v[i] = t < at.end && i < at.channels ? d_scan[i] : T{0};
        }
        group.drives[at.own()][at.column] = drive;
        group.d_scans[at.own()][at.column] = of_scan;
      }
      // B and C are there, and the sums of the chunk before have been read.
      __syncthreads();
      fetch(t0 - kChunk, parity ^ 1);

      const T* const coefficients = &room.coefficients[0][0][at.state()];
      // h after step j of group k.
      const auto advance = [&](int k, int j) {
        const auto drive = desk.groups[k].drives[j][at.column];
        const auto b = *reinterpret_cast<const Piece<T, kStates>*>(
            coefficients + (k * kGroup + j) * L::kAllStates);
#pragma unroll
        for (int s = 0; s < kStates; ++s) {
#pragma unroll
          for (int i = 0; i < kOfLane; ++i) {
            h[i][s] = power_of_2(drive.v[i] * rate[i][s]) * h[i][s] + drive.v[kOfLane + i] * b.v[s];
          }
        }
      };
      const auto leave = [&](int k) {
#pragma unroll
        for (int s = 0; s < kStates; ++s) {
          Piece<T, kOfLane> start;
#pragma unroll
          for (int i = 0; i < kOfLane; ++i) start.v[i] = h[i][s];
          desk.groups[k].start[s][lane] = start;
        }
      };
      leave(0);
#pragma unroll 1
      for (int k = 1; k < groups; ++k) {
#pragma unroll
        for (int j = 0; j < kGroup; ++j) advance(k - 1, j);
        leave(k);
      }
#pragma unroll 1
      for (int k = groups - 1; k >= 0; --k) {
        auto& group = desk.groups[k];
        ColumnSums<Io, L> sums(&group.sums[0][0][0], at.state());
        T d_x[kOfLane][kGroup] = {}, d_decay[kOfLane][kGroup] = {};
#pragma unroll
        for (int s0 = 0; s0 < kStates; s0 += kAtOnce) {
          T decay[kGroup][kAtOnce][kOfLane], state[kGroup + 1][kAtOnce][kOfLane];
#pragma unroll
          for (int s = 0; s < kAtOnce; ++s) {
            const auto start = group.start[s0 + s][lane];
#pragma unroll
            for (int i = 0; i < kOfLane; ++i) state[0][s][i] = start.v[i];
          }
          const T* const of_b = coefficients + k * kGroup * L::kAllStates + s0;
          const T* const of_c = of_b + kChunk * L::kAllStates;
          using Few = Piece<T, kAtOnce>;
#pragma unroll
          for (int j = 0; j < kGroup; ++j) {
            const auto drive = group.drives[j][at.column];
            const auto b = *reinterpret_cast<const Few*>(of_b + j * L::kAllStates);
#pragma unroll
            for (int s = 0; s < kAtOnce; ++s) {
#pragma unroll
              for (int i = 0; i < kOfLane; ++i) {
                decay[j][s][i] = power_of_2(drive.v[i] * rate[i][s0 + s]);
                state[j + 1][s][i] =
                    decay[j][s][i] * state[j][s][i] + drive.v[kOfLane + i] * b.v[s];
              }
            }
          }
          if (!kFew) __syncwarp();  // or the compiler reads ahead what then has no registers
#pragma unroll
          for (int j = kGroup - 1; j >= 0; --j) {
            const auto drive = group.drives[j][at.column];
            const auto d_scan = group.d_scans[j][at.column];
            const auto b = *reinterpret_cast<const Few*>(of_b + j * L::kAllStates);
            const auto c = *reinterpret_cast<const Few*>(of_c + j * L::kAllStates);
            T d_b[kAtOnce] = {}, d_c[kAtOnce] = {};
#pragma unroll
            for (int s = 0; s < kAtOnce; ++s) {
#pragma unroll
              for (int i = 0; i < kOfLane; ++i) {
                T& carry = g[i][s0 + s];
                carry += c.v[s] * d_scan.v[i];
                d_x[i][j] += carry * b.v[s];
                d_b[s] += carry * drive.v[kOfLane + i];
                d_c[s] += state[j + 1][s][i] * d_scan.v[i];
                carry *= decay[j][s][i];
                const T d_exponent = carry * state[j][s][i];
                d_decay[i][j] += d_exponent * rate[i][s0 + s];
                d_rate[i][s0 + s] += d_exponent * drive.v[i];
              }
            }
#pragma unroll
            for (int s = 0; s < kAtOnce; s += 2) sums.add(s0 + s, j, d_b + s, d_c + s);
          }
        }
        sums.finish();

        const int t = t0 + k * kGroup + at.own();
        const auto drive = group.drives[at.own()][at.column];
        const auto d_scan = group.d_scans[at.own()][at.column];
        T u[kOfLane], raw[kOfLane], d_u[kOfLane], d_delta[kOfLane];
        unpack(group.u[parity][at.own()][at.column], u);
        unpack(group.delta[parity][at.own()][at.column], raw);
        const auto skip = desk.skip[at.column], bias = desk.bias[at.column];
        const auto of_x = own_sums<L>(group.start, d_x);
        const auto of_decay = own_sums<L>(group.start, d_decay);
        auto channel_sums = desk.channel_sums[lane];
#pragma unroll
        for (int i = 0; i < kOfLane; ++i) {
          d_u[i] = drive.v[i] * of_x.v[i] + skip.v[i] * d_scan.v[i];
          channel_sums.v[i] += d_scan.v[i] * u[i];
          d_delta[i] = u[i] * of_x.v[i] + of_decay.v[i] * static_cast<T>(1 / kLog2E);
          d_delta[i] *= sigmoid(p.delta_softplus ? raw[i] + bias.v[i] : T(1e9));
          channel_sums.v[kOfLane + i] += t < at.end ? d_delta[i] : T{0};
        }
        desk.channel_sums[lane] = channel_sums;
        at.write(room.of_du, t, limit, d_u);
        at.write(room.of_ddelta, t, limit, d_delta);
      }

      __syncthreads();
      // The block's sums.
      using Sums = Piece<T, 4>;
      constexpr int kOfGroup = kSums / L::kGroups;
#pragma unroll
      for (int n = 0; n < kSums / 4; n += L::kThreads) {
        const int i = (n + static_cast<int>(threadIdx.x)) * 4;
        const int row = i % kOfGroup / L::kAllStates, state = i % L::kAllStates;
        const int from = banked<L>(row, state / L::kStates * L::kStates) + state % L::kStates;
        Sums total{};
#pragma unroll
        for (int w = 0; w < L::kWarps; ++w) {
          const T* const sums = &room.desks[w].groups[i / kOfGroup].sums[0][0][0];
          const Sums more = *reinterpret_cast<const Sums*>(sums + from);
#pragma unroll
          for (int v = 0; v < 4; ++v) total.v[v] += more.v[v];
        }
        *reinterpret_cast<Sums*>(room.parts(t0 / kChunk, i)) = total;
      }
    }
  }

  T* const d_channel = out.channel + outer * (p.states + 2) * p.channels + at.channel;
#pragma unroll
  for (int i = 0; i < 2 * kOfLane; ++i) {
    T sum = desk.channel_sums[lane].v[i];
#pragma unroll
    for (int mask = L::kColumns; mask < L::kColumns * kGroup; mask *= 2)
      sum += __shfl_xor_sync(~0u, sum, mask);
    const int row = p.states + i / kOfLane, channel = i % kOfLane;
    if (channel < at.channels && at.share == 0) {
      d_channel[static_cast<int64_t>(row) * p.channels + channel] = sum;
    }
  }
  at.each_state([&](int i, int s, int n) {
    d_channel[static_cast<int64_t>(n) * p.channels + i] = d_rate[i][s];
    if (out.d_initial_state && at.segment == 0) {
      out.d_initial_state[at.by_channel(n, i)] = g[i][s];
    }
  });
  at.clear_padding(out.du);
  at.clear_padding(out.ddelta);
  if (p.z.data) at.clear_padding(out.dz);
}

/// dB and dC [B, L, G, N] from the blocks' parts. A thread is one element of a part.
template <class Io>
__global__ void add_coefficients_kernel(const Problem<Io> p, int all_states, const Real<Io>* parts,
                                        Io* dB, Io* dC) {
  const int64_t of_stride = static_cast<int64_t>(p.groups) * kChunk * 2 * all_states;
  const int64_t count = static_cast<int64_t>(p.batch) * p.strides * of_stride;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const int n = static_cast<int>(i % all_states);
  int64_t row = i / all_states;
  Io* const gradient = row % 2 == 0 ? dB : dC;
  row /= 2;
  const int step = static_cast<int>(row % kChunk);
  row /= kChunk;
  const int64_t group = row % p.groups, stride = row / p.groups, b = stride / p.strides;
  const int64_t t = stride % p.strides * kChunk + step;
  if (t >= p.length || n >= p.states) return;
  const int64_t length = length_of(p.lengths, b, p.length);
  Real<Io> sum = 0;
  if (t < length) {
#pragma unroll 8
    for (int tile = 0; tile < p.tiles; ++tile) sum += parts[tile * count + i];
  }
  const int64_t position = t < length && p.reverse ? length - 1 - t : t;
  gradient[((b * p.length + position) * p.groups + group) * p.states + n] = narrow<Io>(sum);
}

/// dA [D, N], dD and d(delta_bias) [D] from the parts [count, N + 2, D]. A thread is one (row, d).
template <class Io>
__global__ void add_channels_kernel(const Problem<Io> p, int64_t count, const Real<Io>* parts,
                                    Real<Io>* dA, Real<Io>* dD, Real<Io>* d_bias) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t rows = p.states + 2, d = i % p.channels, n = i / p.channels;
  if (n >= rows) return;
  Real<Io> sum = 0;
#pragma unroll 16
  for (int64_t part = 0; part < count; ++part) sum += parts[(part * rows + n) * p.channels + d];
  if (n < p.states) {
    dA[d * p.states + n] = sum;
  } else if (Real<Io>* const to = n == p.states ? dD : d_bias) {
    to[d] = sum;
  }
}

}  // namespace ribo::kernels
