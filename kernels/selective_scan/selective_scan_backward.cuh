// The gradients of the scan.
//
// With dy' = dy silu(z), a = exp(delta A) and g[t] = dLoss/dh[t] = C[t] dy'[t] + a[t+1] g[t+1]:
//   dC = dy' h, dB = g delta u (both summed over the group's channels), d(delta A) = g a h[t-1].
// The states are recomputed a tile at a time from the checkpoints, forwards; then the tile is
// walked through backwards.
#pragma once

#include "selective_scan/selective_scan_tile.cuh"

namespace ribo::kernels {

/// Gradients of scan_kernel's block, before the sums over blocks.
template <class Io>
struct Parts {
  Rows<Io> du, ddelta, dz;
  Real<Io>* d_initial_state;
  /// [2, tiles, B, L, G, N]: dB, then dC, of each block's channels.
  Real<Io>* coefficients;
  /// [B, segments, N + 2, D]: dA, dD, d(delta_bias).
  Real<Io>* channel;
};

/// Distance of two states' sums in shared memory: no bank conflicts.
inline constexpr int kSumRow = 2 * kSteps + 1;

/// Bytes of shared memory: a Lane for every thread and state, B and C, each warp's sums for dB and
/// dC, two tiles of u, delta, z and dy.
template <class Io>
int64_t backward_shared(int64_t width, int64_t states) {
  const int64_t sums = width / 32 * (states < kStateBlock ? states : kStateBlock) * kSumRow;
  const int64_t reals = 2 * width * states + 2 * kStateBlock * kRow + (sums + 3) / 4 * 4;
  return reals * static_cast<int64_t>(sizeof(Real<Io>)) +
         2 * 4 * kSteps * width * static_cast<int64_t>(sizeof(Io));
}

/// Lane i gets the sum of value[i] over the warp. Each exchange halves what a lane answers for: 31
/// in all, where one sum after the other would take 160.
template <int kCount, class T>
__device__ inline T warp_sums(T (&value)[32]) {
  if constexpr (kCount == 1) {
    return value[0];
  } else {
    constexpr int kHalf = kCount / 2;
    const bool upper = threadIdx.x & kHalf;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const T keep = upper ? value[i + kHalf] : value[i];
      const T give = upper ? value[i] : value[i + kHalf];
      value[i] = keep + __shfl_xor_sync(~0u, give, kHalf);
    }
    return warp_sums<kHalf>(value);
  }
}

/// `carries` [B, segments, N, D]: the gradient that enters each segment from behind; where that is
/// null, there is one segment and `d_last_state` [B, D, N] enters (null: zero).
template <class Io>
__global__ void __launch_bounds__(kScanThreads, sizeof(Real<Io>) == 4 ? 3 : 1)
    scan_backward_kernel(const Problem<Io> p, int64_t batch, const Rows<const Io> dy,
                         const Real<Io>* carries, const Real<Io>* d_last_state,
                         const Parts<Io> out) {
  using T = Real<Io>;
  const Place<Io> at(p);
  const int width = at.width(), tile = kSteps * width;
  Lane<T>* const lane = shared_memory<Lane<T>>() + threadIdx.x;
  T* const shared = shared_memory<T>() + 2 * p.states * width;
  T* const sums = shared + Coefficients<Io, 2>::kElements;  // [warps, states of a block, kSumRow]
  const int warps = width / 32, sum_rows = min(p.states, kStateBlock);
  Io* current = reinterpret_cast<Io*>(sums + (warps * sum_rows * kSumRow + 3) / 4 * 4);
  Io* next = current + 4 * tile;  // u, delta, z, dy
  const int64_t outer = at.batch * p.segments + at.segment;
  // Rows of p.channels: dA, dD, d(delta_bias) so far.
  T* const d_channel = out.channel + at.by_row(outer, p.states + 2, 0);

  for (int n = 0; n < p.states; ++n) {
    T g = 0;
    if (at.active && carries) {
      g = carries[at.by_row(outer, p.states, n)];
    } else if (at.active && d_last_state) {
      g = d_last_state[at.by_channel(n)];
    }
    lane[n * width] = {p.A[at.channel * p.states + n] * static_cast<T>(kLog2E), g};
  }
  if (at.active) {
    for (int n = 0; n < p.states + 2; ++n) d_channel[static_cast<int64_t>(n) * p.channels] = 0;
  }

  Coefficients<Io, 2> coefficients(at, p.B, p.C);
  const auto fetch = [&](int t0) {
    if (t0 < at.begin) return;
    at.load(p.u, t0, next);
    at.load(p.delta, t0, next + tile);
    if (p.z.data) at.load(p.z, t0, next + 2 * tile);
    at.load(dy, t0, next + 3 * tile);
    __pipeline_commit();
    coefficients.fetch(t0, 0);
  };
  fetch(at.last_tile());
  for (int t0 = at.last_tile(); t0 >= at.begin; t0 -= kSteps) {
    Io* const arrived = next;
    next = current, current = arrived;
    Io *const u = current, *const z = current + 2 * tile, *const d_y = current + 3 * tile;
    coefficients.store(shared);
    __pipeline_wait_prior(0);
    __syncthreads();
    T delta[kSteps], x[kSteps], d_scan[kSteps];  // x = delta u, d_scan = dy'
    at.step_sizes(current + tile, t0, delta);
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      x[i] = delta[i] * at.get(u, i);
      d_scan[i] = at.get(d_y, i);
    }
    if (p.z.data) {
#pragma unroll
      for (int i = 0; i < kSteps; ++i) d_scan[i] *= at.get(z, i) * sigmoid(at.get(z, i));
    }

    // Sums over the states: the scan's output, dLoss/dx, and log2(e) times the part of dLoss/ddelta
    // that comes through the decay.
    T scanned[kSteps] = {}, d_x[kSteps] = {}, d_decay[kSteps] = {};
    const T* start = p.checkpoints + at.by_row(at.batch * p.strides + t0 / kSteps, p.states, 0);
    T next_start = at.active ? start[0] : T{0};
    for (int n0 = 0; n0 < p.states; n0 += kStateBlock) {
      if (n0 > 0) {
        coefficients.store(shared);
        __syncthreads();
      }
      const int to = min(n0 + kStateBlock, p.states);
      if (to < p.states) {
        coefficients.fetch(t0, to);
      } else {
        fetch(t0 - kSteps);
      }
      for (int n = n0; n < to; ++n) {
        const Quad<T>* b = reinterpret_cast<const Quad<T>*>(shared + (n - n0) * kRow);
        const Quad<T>* c = reinterpret_cast<const Quad<T>*>(shared + (kStateBlock + n - n0) * kRow);
        auto [rate, g] = lane[n * width];
        const int64_t row = static_cast<int64_t>(n) * p.channels;
        const T h0 = next_start;
        if (at.active && n + 1 < p.states) next_start = start[row + p.channels];
        T d_rate = at.active ? d_channel[row] : T{0};
        T decay[kSteps], value[2 * kSteps];  // value: first the states, then dB and dC
        T h = h0;
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
          decay[i] = power_of_2(delta[i] * rate);
          h = decay[i] * h + x[i] * b[i / 4].v[i % 4];
          value[kSteps + i] = h;
          scanned[i] += c[i / 4].v[i % 4] * h;
        }
#pragma unroll
        for (int i = kSteps - 1; i >= 0; --i) {
          g += c[i / 4].v[i % 4] * d_scan[i];
          d_x[i] += g * b[i / 4].v[i % 4];
          value[i] = g * x[i];
          value[kSteps + i] *= d_scan[i];
          g *= decay[i];
          const T d_exponent = g * (i > 0 ? value[kSteps + i - 1] : h0);
          d_decay[i] += d_exponent * rate;
          d_rate += d_exponent * delta[i];
        }
        lane[n * width].carry = g;
        if (at.active) d_channel[row] = d_rate;
        const int warp = static_cast<int>(threadIdx.x) / 32;
        sums[(warp * sum_rows + n - n0) * kSumRow + threadIdx.x % 32] = warp_sums<32>(value);
      }
      __syncthreads();

      // The block's sums go out; the next store of B and C does not touch them.
#pragma unroll 1
      for (int i = static_cast<int>(threadIdx.x); i < 2 * kSteps << p.log_states; i += width) {
        const int n = i & ((1 << p.log_states) - 1), row = i >> p.log_states;
        const int step = row % kSteps, tensor = row / kSteps;
        if (n >= to - n0 || t0 + step >= at.end) continue;
        T sum = 0;
        for (int warp = 0; warp < warps; ++warp) sum += sums[(warp * sum_rows + n) * kSumRow + row];
        const int64_t to_row =
            ((tensor * p.tiles + at.tile) * batch + at.batch) * p.length + at.position(t0 + step);
        out.coefficients[(to_row * p.groups + at.group) * p.states + n0 + n] = sum;
      }
    }

    const T skip = p.D ? p.D[at.channel] : T{0};
    const T bias = p.delta_bias ? p.delta_bias[at.channel] : T{0};
    T d_skip = 0, d_bias = 0;
    if (p.z.data) {
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        const T z_i = at.get(z, i), s = sigmoid(z_i), ungated = scanned[i] + skip * at.get(u, i);
        at.put(z, i, at.get(d_y, i) * ungated * s * (1 + z_i * (1 - s)));
      }
    }
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const T u_i = at.get(u, i);
      d_decay[i] = u_i * d_x[i] + d_decay[i] * static_cast<T>(1 / kLog2E);
      d_skip += d_scan[i] * u_i;
      at.put(u, i, delta[i] * d_x[i] + skip * d_scan[i]);
    }
    if (p.delta_softplus) {
#pragma unroll
      for (int i = 0; i < kSteps; ++i) d_decay[i] *= sigmoid(at.get(current + tile, i) + bias);
    }
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      d_bias += i < at.end - t0 ? d_decay[i] : T{0};
      at.put(current + tile, i, d_decay[i]);
    }
    if (at.active) {
      d_channel[static_cast<int64_t>(p.states) * p.channels] += d_skip;
      d_channel[static_cast<int64_t>(p.states + 1) * p.channels] += d_bias;
    }
    __syncthreads();
    at.store(out.du, t0, u);
    at.store(out.ddelta, t0, current + tile);
    if (p.z.data) at.store(out.dz, t0, z);
  }

  at.clear_padding(out.du);
  at.clear_padding(out.ddelta);
  if (p.z.data) at.clear_padding(out.dz);
  if (out.d_initial_state && at.active && at.segment == 0) {
    for (int n = 0; n < p.states; ++n) {
      out.d_initial_state[at.by_channel(n)] = lane[n * width].carry;
    }
  }
}

/// dB and dC [B, L, G, N] from the blocks' parts. A thread is one element of dB, then of dC.
template <class Io>
__global__ void add_coefficients_kernel(const Problem<Io> p, int64_t batch, const Real<Io>* parts,
                                        Io* dB, Io* dC) {
  const int64_t row = static_cast<int64_t>(p.groups) * p.states, count = batch * p.length * row;
  int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= 2 * count) return;
  const int64_t tensor = i / count;
  i %= count;
  const int64_t position = i / row % p.length, b = i / row / p.length;
  Real<Io> sum = 0;
  if (!p.lengths || position < p.lengths[b]) {
    for (int tile = 0; tile < p.tiles; ++tile) sum += parts[(tensor * p.tiles + tile) * count + i];
  }
  (tensor == 0 ? dB : dC)[i] = narrow<Io>(sum);
}

/// dA [D, N], dD and d(delta_bias) [D] from the parts [count, N + 2, D]. A thread is one (row, d).
template <class Io>
__global__ void add_channels_kernel(const Problem<Io> p, int64_t count, const Real<Io>* parts,
                                    Real<Io>* dA, Real<Io>* dD, Real<Io>* d_bias) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t rows = p.states + 2, d = i % p.channels, n = i / p.channels;
  if (n >= rows) return;
  Real<Io> sum = 0;
  for (int64_t part = 0; part < count; ++part) sum += parts[(part * rows + n) * p.channels + d];
  if (n < p.states) {
    dA[d * p.states + n] = sum;
  } else if (Real<Io>* const to = n == p.states ? dD : d_bias) {
    to[d] = sum;
  }
}

}  // namespace ribo::kernels
