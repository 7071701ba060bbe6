// The scan itself, and what cutting a sequence into segments needs.
#pragma once

#include "selective_scan/selective_scan_warp.cuh"

namespace ribo::kernels {

/// What a block has in shared memory.
template <class Io, class L, bool kAligned>
struct ForwardRoom {
  /// delta, then delta u, of a step and column.
  using Drive = Piece<Real<Io>, 2 * L::kOfLane>;
  /// A group of steps of u, delta and z.
  struct Group {
    alignas(16) Piece<Io, L::kOfLane> u[L::kGroup][L::kColumns];
    Piece<Io, L::kOfLane> delta[L::kGroup][L::kColumns], z[L::kGroup][L::kColumns];
  };

  // Of this chunk and the next.
  alignas(16) typename Coefficients<Io, L, kAligned>::Turned coefficients[2];
  Group groups[L::kWarps][2][L::kGroups];
  typename Coefficients<Io, L, kAligned>::Copied copied;  // of the next chunk
  Drive drives[L::kWarps][2][L::kGroup][L::kColumns];     // of this group and the next
};

/// The sums over the lanes that share a column, of a value for each step of a group: a lane gets
/// that of its own step.
template <class L, class T>
__device__ inline T own_sum(T (&value)[L::kGroup]) {
#pragma unroll
  for (int mask = L::kColumns * L::kGroup; mask < 32; mask *= 2) {
#pragma unroll
    for (int j = 0; j < L::kGroup; ++j) value[j] += __shfl_xor_sync(~0u, value[j], mask);
  }
  scatter_sums<L::kGroup, L::kGroup, L::kColumns>(value);
  return value[0];
}

/// y and the last state, from `starts` [B, segments, N, D], the state before each segment; where
/// that is null, there is one segment and it starts from initial_state. `ungated` gets y before the
/// gate, if it is given.
template <class Io, class L, bool kAligned>
__global__ void __launch_bounds__(L::kThreads, sizeof(Io) <= 4 && L::kStates <= 4 ? 4 : 1)
    scan_kernel(const Problem<Io> p, const Real<Io>* starts, const Rows<Io> y,
                const Rows<Io> ungated, Real<Io>* last_state) {
  using T = Real<Io>;
  constexpr int kOfLane = L::kOfLane, kStates = L::kStates, kGroup = L::kGroup;
  using Own = Piece<Io, kOfLane>;
  const Spot<Io, L, kAligned> at(p);
  auto& room = *shared_memory<ForwardRoom<Io, L, kAligned>>();
  using Drive = typename ForwardRoom<Io, L, kAligned>::Drive;

  T h[kOfLane][kStates] = {}, rate[kOfLane][kStates] = {}, skip[kOfLane], bias[kOfLane];
  at.each_state([&](int i, int s, int n) {
    if (starts) {
      h[i][s] = starts[at.by_row(at.batch * p.segments + at.segment, p.states, n, i)];
    } else if (p.initial_state) {
      h[i][s] = p.initial_state[at.by_channel(n, i)];
    }
    rate[i][s] = p.A[static_cast<int64_t>(at.channel + i) * p.states + n] * static_cast<T>(kLog2E);
  });
#pragma unroll
  for (int i = 0; i < kOfLane; ++i) {
    skip[i] = p.D ? p.D[at.channel_of(i)] : T{0};
    bias[i] = p.delta_bias ? p.delta_bias[at.channel_of(i)] : T{0};
  }

  if (at.end > at.begin) {
    const bool gated = p.z.data;
    const Track<const Io> of_u = at.track(p.u), of_delta = at.track(p.delta);
    const Track<const Io> of_z = at.track(p.z);
    const Track<const Io> of_b_or_c = at.track(Coefficients<Io, L, kAligned>::tensor(p));
    const Track<T> checkpoints = at.checkpoints();
    const Track<Io> of_y = at.track(y), of_ungated = at.track(ungated);
    const int y_limit = at.limit(y.data), ungated_limit = at.limit(ungated.data);
    auto& groups = room.groups[at.warp];
    const Coefficients<Io, L, kAligned> copies(at, room.copied);
    const auto copy = [&](int t0, int parity) {
      auto& to = groups[parity];
      at.copy(of_u, t0, [&](int k) { return to[k].u; });
      at.copy(of_delta, t0, [&](int k) { return to[k].delta; });
      if (gated) at.copy(of_z, t0, [&](int k) { return to[k].z; });
    };
    // What a group asks of a lane's own step.
    struct Mine {
      Own u, z;
      int t;
    };
    const auto prepare = [&](int t0, const typename ForwardRoom<Io, L, kAligned>::Group& group,
                             Drive& drive) {
      const Mine mine{group.u[at.own()][at.column], group.z[at.own()][at.column], t0 + at.own()};
      T delta[kOfLane], u[kOfLane];
      at.step_sizes(group.delta[at.own()][at.column], mine.t, bias, delta);
      unpack(mine.u, u);
#pragma unroll
      for (int i = 0; i < kOfLane; ++i) {
        drive.v[i] = delta[i], drive.v[kOfLane + i] = delta[i] * u[i];
      }
      return mine;
    };
    const auto finish = [&](T(&out)[kOfLane][kGroup], const Mine& mine) {
      T u[kOfLane], z[kOfLane], total[kOfLane], gated_total[kOfLane];
      unpack(mine.u, u);
      unpack(mine.z, z);
#pragma unroll
      for (int i = 0; i < kOfLane; ++i) {
        total[i] = own_sum<L>(out[i]) + skip[i] * u[i];
        // No branch, and without a gate a factor of one.
        gated_total[i] = total[i] * (gated ? z[i] : T{1}) * sigmoid(gated ? z[i] : T(1e9));
      }
      at.write(of_ungated, mine.t, ungated_limit, total);
      at.write(of_y, mine.t, y_limit, gated_total);
    };

    // u, delta and z come a group ahead of B and C: each group is prepared while the one before it
    // is worked on.
    copy(at.begin, 1);
    copy(at.begin + kGroup, 0);
    copies.fetch(of_b_or_c, at.begin);
    __pipeline_commit();
    __pipeline_wait_prior(0);
    copies.turn(of_b_or_c, at.begin, room.coefficients[0]);
    __syncthreads();
    Drive* const drives = &room.drives[at.warp][0][at.own()][at.column];
    const Drive* const read_drives = &room.drives[at.warp][0][0][at.column];
    Mine mine = prepare(at.begin, groups[1][0], *drives), before{mine.u, mine.z, at.end};
    T out[kOfLane][kGroup] = {};
    int parity = 0;
    for (int t0 = at.begin; t0 < at.end; t0 += kChunk, parity ^= 1) {
      __syncwarp();
      copy(t0 + kChunk + kGroup, parity ^ 1);
      copies.fetch(of_b_or_c, t0 + kChunk);
      __pipeline_commit();
      if (p.checkpoints) at.keep(checkpoints, t0, h);
      const T* coefficients = &room.coefficients[parity][0][0][at.state()];
      const int groups_here = at.groups(t0);
#pragma unroll 1
      for (int k = 0; k < groups_here; ++k) {
        __syncwarp();
        T done[kOfLane][kGroup];
#pragma unroll
        for (int i = 0; i < kOfLane; ++i) {
#pragma unroll
          for (int j = 0; j < kGroup; ++j) done[i][j] = out[i][j], out[i][j] = 0;
        }
        Drive drive_of_next;
        const Mine next = prepare(t0 + (k + 1) * kGroup, groups[parity][k], drive_of_next);
#pragma unroll
        for (int j = 0; j < kGroup; ++j) {
          const Drive drive = read_drives[(k % 2 * kGroup + j) * L::kColumns];
          using States = Piece<T, kStates>;
          const T* const row = coefficients + (k * kGroup + j) * L::kAllStates;
          const States b = *reinterpret_cast<const States*>(row);
          const States c = *reinterpret_cast<const States*>(row + kChunk * L::kAllStates);
#pragma unroll
          for (int s = 0; s < kStates; ++s) {
#pragma unroll
            for (int i = 0; i < kOfLane; ++i) {
              h[i][s] =
                  power_of_2(drive.v[i] * rate[i][s]) * h[i][s] + drive.v[kOfLane + i] * b.v[s];
              out[i][j] += c.v[s] * h[i][s];
            }
          }
        }
        finish(done, before);
        before = mine, mine = next;
        drives[(k + 1) % 2 * kGroup * L::kColumns] = drive_of_next;
      }
      __pipeline_wait_prior(0);
      copies.turn(of_b_or_c, t0 + kChunk, room.coefficients[parity ^ 1]);
      __syncthreads();
    }
    finish(out, before);
  }
  at.clear_padding(y);
  if (at.segment == p.segments - 1) {
    at.each_state([&](int i, int s, int n) { last_state[at.by_channel(n, i)] = h[i][s]; });
  }
}

/// What a block of ends_kernel has in shared memory.
template <class Io, class L, bool kAligned>
struct EndsRoom {
  using T = Real<Io>;
  template <class Element>
  using Tile = Piece<Element, L::kOfLane>[L::kGroup][L::kColumns];
  struct Group {
    alignas(16) Tile<Io> drive, delta, z;
    Tile<T> deltas, xs;
  };

  alignas(16) typename Coefficients<Io, L, kAligned>::Turned coefficients;
  typename Coefficients<Io, L, kAligned>::Copied copied;
  Group groups[L::kWarps][L::kGroups];
};

/// Step one of three where there are several segments. Every segment on its own, from zero: forward
/// the state after it; backward, from its end, the gradient with respect to the state before it.
/// ends [B, segments, N, D]; totals [B, segments, D]: the sum of delta, whose exp(A total) is how
/// much of what comes in goes out.
template <class Io, class L, bool kAligned, bool kBackward>
__global__ void __launch_bounds__(L::kThreads, sizeof(Io) <= 4 ? 4 : 1)
    ends_kernel(const Problem<Io> p, const Rows<const Io> dy, Real<Io>* ends, Real<Io>* totals) {
  using T = Real<Io>;
  constexpr int kOfLane = L::kOfLane, kStates = L::kStates, kGroup = L::kGroup;
  const Spot<Io, L, kAligned> at(p);
  auto& room = *shared_memory<EndsRoom<Io, L, kAligned>>();
  auto& groups = room.groups[at.warp];
  T h[kOfLane][kStates] = {}, rate[kOfLane][kStates] = {}, total[kOfLane] = {}, bias[kOfLane];
  at.each_state([&](int i, int s, int n) {
    rate[i][s] = p.A[static_cast<int64_t>(at.channel + i) * p.states + n] * static_cast<T>(kLog2E);
  });
#pragma unroll
  for (int i = 0; i < kOfLane; ++i) bias[i] = p.delta_bias ? p.delta_bias[at.channel_of(i)] : T{0};

  const bool gated = kBackward && p.z.data;
  const Track<const Io> of_drive = at.track(kBackward ? dy : p.u), of_delta = at.track(p.delta);
  const Track<const Io> of_z = at.track(p.z);
  const Track<const Io> coefficients = at.track(Coefficients<Io, L, kAligned>::tensor(p));
  const Coefficients<Io, L, kAligned> copies(at, room.copied);
  const auto fetch = [&](int t0) {
    if (t0 < at.begin || t0 >= at.end) return;
    at.copy(of_drive, t0, [&](int k) { return groups[k].drive; });
    at.copy(of_delta, t0, [&](int k) { return groups[k].delta; });
    if (gated) at.copy(of_z, t0, [&](int k) { return groups[k].z; });
    copies.fetch(coefficients, t0);
    __pipeline_commit();
  };
  const int first = kBackward ? at.last_chunk() : at.begin, stride = kBackward ? -kChunk : kChunk;
  fetch(first);
  for (int t0 = first; t0 >= at.begin && t0 < at.end; t0 += stride) {
    __pipeline_wait_prior(0);
    __syncthreads();
    copies.turn(coefficients, t0, room.coefficients);
#pragma unroll
    for (int k = 0; k < L::kGroups; ++k) {
      auto& group = groups[k];
      const int t = t0 + k * kGroup + at.own();
      Piece<T, kOfLane> delta, x;
      at.step_sizes(group.delta[at.own()][at.column], t, bias, delta.v);
      unpack(group.drive[at.own()][at.column], x.v);
      T z[kOfLane];
      unpack(group.z[at.own()][at.column], z);
#pragma unroll
      for (int i = 0; i < kOfLane; ++i) {
        total[i] += delta.v[i];
        if (!kBackward) x.v[i] *= delta.v[i];
        x.v[i] *= (gated ? z[i] : T{1}) * sigmoid(gated ? z[i] : T(1e9));  // no branch
        x.v[i] = t < at.end ? x.v[i] : T{0};
      }
      group.deltas[at.own()][at.column] = delta;
      group.xs[at.own()][at.column] = x;
    }
    __syncthreads();
    fetch(t0 + stride);
    const int count = at.groups(t0);
#pragma unroll 1
    for (int step = 0; step < count; ++step) {
      const int k = kBackward ? count - 1 - step : step;
      Piece<T, kOfLane> deltas[kGroup], xs[kGroup];
      Piece<T, kStates> ws[kGroup];
#pragma unroll
      for (int i = 0; i < kGroup; ++i) {
        const int j = kBackward ? kGroup - 1 - i : i;
        deltas[i] = groups[k].deltas[j][at.column], xs[i] = groups[k].xs[j][at.column];
        ws[i] = *reinterpret_cast<const Piece<T, kStates>*>(
            &room.coefficients[kBackward][k * kGroup + j][at.state()]);
      }
#pragma unroll
      for (int i = 0; i < kGroup; ++i) {
#pragma unroll
        for (int s = 0; s < kStates; ++s) {
#pragma unroll
          for (int c = 0; c < kOfLane; ++c) {
            const T decay = power_of_2(deltas[i].v[c] * rate[c][s]), add = xs[i].v[c] * ws[i].v[s];
            h[c][s] = kBackward ? decay * (h[c][s] + add) : decay * h[c][s] + add;
          }
        }
      }
    }
  }

  const int64_t outer = at.batch * p.segments + at.segment;
#pragma unroll
  for (int i = 0; i < kOfLane; ++i) {
#pragma unroll
    for (int mask = L::kColumns; mask < L::kColumns * kGroup; mask *= 2) {
      total[i] += __shfl_xor_sync(~0u, total[i], mask);
    }
    if (i < at.channels && at.share == 0) totals[at.by_row(outer, 1, 0, i)] = total[i];
  }
  at.each_state([&](int i, int s, int n) { ends[at.by_row(outer, p.states, n, i)] = h[i][s]; });
}

/// Step two: replaces each segment's end by what enters the segment. `first` [B, D, N] enters the
/// first one (backward: the last one); null stands for zero. A thread is one (b, n, d).
template <class Io, bool kBackward>
__global__ void chain_kernel(const Problem<Io> p, int64_t batch, const Real<Io>* first,
                             const Real<Io>* totals, Real<Io>* ends) {
  using T = Real<Io>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int d = static_cast<int>(i % p.channels), n = static_cast<int>(i / p.channels % p.states);
  const int64_t b = i / p.channels / p.states;
  if (b >= batch) return;
  const T rate = p.A[static_cast<int64_t>(d) * p.states + n] * static_cast<T>(kLog2E);
  T h = first ? first[(b * p.channels + d) * p.states + n] : T{0};
  for (int j = 0; j < p.segments; ++j) {
    const int64_t outer = b * p.segments + (kBackward ? p.segments - 1 - j : j);
    T& end = ends[(outer * p.states + n) * p.channels + d];
    const T next = power_of_2(totals[outer * p.channels + d] * rate) * h + end;
    end = h;
    h = next;
  }
}

}  // namespace ribo::kernels
