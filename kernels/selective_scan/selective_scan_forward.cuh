// The scan itself, and what cutting a sequence into segments needs.
#pragma once

#include "selective_scan/selective_scan_tile.cuh"

namespace ribo::kernels {

/// Bytes of shared memory: a Lane for every thread and state, B and C, two tiles of each input.
template <class Io>
int64_t forward_shared(int64_t width, int64_t states, int64_t coefficients, int64_t inputs) {
  const int64_t reals = 2 * width * states + coefficients * kStateBlock * kRow;
  return reals * static_cast<int64_t>(sizeof(Real<Io>)) +
         2 * inputs * kSteps * width * static_cast<int64_t>(sizeof(Io));
}

/// y and the last state, from `starts` [B, segments, N, D], the state before each segment; where
/// that is null, there is one segment and it starts from initial_state.
template <class Io>
__global__ void __launch_bounds__(kScanThreads)
    scan_kernel(const Problem<Io> p, const Real<Io>* starts, const Rows<Io> y,
                Real<Io>* last_state) {
  using T = Real<Io>;
  const Place<Io> at(p);
  const int width = at.width(), tile = kSteps * width;
  Lane<T>* const lane = shared_memory<Lane<T>>() + threadIdx.x;
  T* const shared = shared_memory<T>() + 2 * p.states * width;
  Io* current = reinterpret_cast<Io*>(shared + Coefficients<Io, 2>::kElements);
  Io* next = current + 3 * tile;
  for (int n = 0; n < p.states; ++n) {
    T h = 0;
    if (starts) {
      h = starts[at.by_row(at.batch * p.segments + at.segment, p.states, n)];
    } else if (p.initial_state) {
      h = p.initial_state[at.by_channel(n)];
    }
    lane[n * width] = {p.A[at.channel * p.states + n] * static_cast<T>(kLog2E), h};
  }
  const T skip = p.D ? p.D[at.channel] : T{0};

  Coefficients<Io, 2> coefficients(at, p.B, p.C);
  const auto fetch = [&](int t0) {
    if (t0 >= at.end) return;
    at.load(p.u, t0, next);
    at.load(p.delta, t0, next + tile);
    if (p.z.data) at.load(p.z, t0, next + 2 * tile);
    __pipeline_commit();
    coefficients.fetch(t0, 0);
  };
  fetch(at.begin);
  for (int t0 = at.begin; t0 < at.end; t0 += kSteps) {
    Io* const arrived = next;
    next = current, current = arrived;
    coefficients.store(shared);
    __pipeline_wait_prior(0);
    __syncthreads();
    T delta[kSteps], x[kSteps], out[kSteps];
    at.step_sizes(current + tile, t0, delta);
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const T u = at.get(current, i);
      x[i] = delta[i] * u;
      out[i] = skip * u;
    }

    for (int n0 = 0; n0 < p.states; n0 += kStateBlock) {
      if (n0 > 0) {
        __syncthreads();
        coefficients.store(shared);
        __syncthreads();
      }
      const int to = min(n0 + kStateBlock, p.states);
      if (to < p.states) {
        coefficients.fetch(t0, to);
      } else {
        fetch(t0 + kSteps);
      }
      for (int n = n0; n < to; ++n) {
        const Quad<T>* b = reinterpret_cast<const Quad<T>*>(shared + (n - n0) * kRow);
        const Quad<T>* c = reinterpret_cast<const Quad<T>*>(shared + (kStateBlock + n - n0) * kRow);
        auto [rate, h] = lane[n * width];
        if (p.checkpoints && at.active) {
          p.checkpoints[at.by_row(at.batch * p.strides + t0 / kSteps, p.states, n)] = h;
        }
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
          h = power_of_2(delta[i] * rate) * h + x[i] * b[i / 4].v[i % 4];
          out[i] += c[i / 4].v[i % 4] * h;
        }
        lane[n * width].carry = h;
      }
    }

    if (p.z.data) {
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        const T z = at.get(current + 2 * tile, i);
        out[i] *= z * sigmoid(z);
      }
    }
#pragma unroll
    for (int i = 0; i < kSteps; ++i) at.put(current, i, out[i]);
    __syncthreads();
    at.store(y, t0, current);
  }

  at.clear_padding(y);
  if (at.active && at.segment == p.segments - 1) {
    for (int n = 0; n < p.states; ++n) last_state[at.by_channel(n)] = lane[n * width].carry;
  }
}

/// Step one of three where there are several segments. Every segment on its own, from zero: forward
/// the state after it; backward, from its end, the gradient with respect to the state before it.
/// ends [B, segments, N, D]; totals [B, segments, D]: the sum of delta, whose exp(A total) is how
/// much of what comes in goes out.
template <class Io, bool kBackward>
__global__ void __launch_bounds__(kScanThreads)
    segment_kernel(const Problem<Io> p, const Rows<const Io> dy, Real<Io>* ends, Real<Io>* totals) {
  using T = Real<Io>;
  const Place<Io> at(p);
  const int width = at.width(), tile = kSteps * width;
  Lane<T>* const lane = shared_memory<Lane<T>>() + threadIdx.x;
  T* const shared = shared_memory<T>() + 2 * p.states * width;
  Io* current = reinterpret_cast<Io*>(shared + Coefficients<Io, 1>::kElements);
  Io* next = current + 3 * tile;
  for (int n = 0; n < p.states; ++n) {
    lane[n * width] = {p.A[at.channel * p.states + n] * static_cast<T>(kLog2E), T{0}};
  }

  Coefficients<Io, 1> coefficients(at, kBackward ? p.C : p.B, p.C);
  const auto fetch = [&](int t0) {
    if (t0 < at.begin || t0 >= at.end) return;
    at.load(kBackward ? dy : p.u, t0, next);
    at.load(p.delta, t0, next + tile);
    if (kBackward && p.z.data) at.load(p.z, t0, next + 2 * tile);
    __pipeline_commit();
    coefficients.fetch(t0, 0);
  };
  const int first = kBackward ? at.last_tile() : at.begin;
  const int stride = kBackward ? -kSteps : kSteps;
  fetch(first);
  T total = 0;
  for (int t0 = first; t0 >= at.begin && t0 < at.end; t0 += stride) {
    Io* const arrived = next;
    next = current, current = arrived;
    coefficients.store(shared);
    __pipeline_wait_prior(0);
    __syncthreads();
    T delta[kSteps], x[kSteps];
    at.step_sizes(current + tile, t0, delta);
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      x[i] = at.get(current, i);
      if (!kBackward) x[i] *= delta[i];
      total += delta[i];
    }
    if (kBackward && p.z.data) {
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        const T z = at.get(current + 2 * tile, i);
        x[i] *= z * sigmoid(z);
      }
    }

    for (int n0 = 0; n0 < p.states; n0 += kStateBlock) {
      if (n0 > 0) {
        coefficients.store(shared);
        __syncthreads();
      }
      const int to = min(n0 + kStateBlock, p.states);
      if (to < p.states) {
        coefficients.fetch(t0, to);
      } else {
        fetch(t0 + stride);
      }
      for (int n = n0; n < to; ++n) {
        const Quad<T>* w = reinterpret_cast<const Quad<T>*>(shared + (n - n0) * kRow);
        auto [rate, h] = lane[n * width];
#pragma unroll
        for (int j = 0; j < kSteps; ++j) {
          const int i = kBackward ? kSteps - 1 - j : j;
          const T decay = power_of_2(delta[i] * rate), drive = x[i] * w[i / 4].v[i % 4];
          h = kBackward ? decay * (h + drive) : decay * h + drive;
        }
        lane[n * width].carry = h;
      }
      __syncthreads();
    }
  }

  if (!at.active) return;
  const int64_t outer = at.batch * p.segments + at.segment;
  totals[at.by_row(outer, 1, 0)] = total;
  for (int n = 0; n < p.states; ++n) ends[at.by_row(outer, p.states, n)] = lane[n * width].carry;
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
