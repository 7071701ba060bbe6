// The scan itself, and what cutting a sequence into segments needs.
#pragma once

#include "selective_scan/selective_scan_tile.cuh"

namespace ribo::kernels {

template <class Io>
__host__ __device__ inline Shared<Io> forward_shared(int64_t states) {
  // delta, delta u, y of each warp; u, delta, z twice.
  return {2 * states, 2, 2 + kWays, 2 * 3 + Coefficients<Io, 2>::kTiles};
}

/// y and the last state, from `starts` [B, segments, N, D], the state before each segment; where
/// that is null, there is one segment and it starts from initial_state. `ungated` gets y before the
/// gate, if it is given. kPieces: all rows may be copied in pieces.
template <class Io, bool kPieces>
__global__ void __launch_bounds__(kScanThreads, sizeof(Real<Io>) == 4 ? 4 : 1)
    scan_kernel(const Problem<Io> p, const Real<Io>* starts, const Rows<Io> y,
                const Rows<Io> ungated, Real<Io>* last_state) {
  using T = Real<Io>;
  const Place<Io> at(p);
  constexpr int kTile = Place<Io>::kTile, kArray = kLanes * kRow;
  Walk* const walks = shared_walks();
  T* const rates = shared_reals<Io>() + at.lane;  // log2(e) A
  T* const carry = rates + p.states * kLanes;     // what goes from tile to tile
  T* const shared = shared_reals<Io>() + 2 * p.states * kLanes;
  T* const deltas = shared + Coefficients<Io, 2>::kElements;
  T* const xs = deltas + kArray;
  T* const outs = xs + kArray;
  Io* current = reinterpret_cast<Io*>(outs + kWays * kArray);
  Io* next = current + 3 * kTile;
  Io* const copied = next + 3 * kTile;
  for (int n = at.way; n < p.states; n += kWays) {
    T h = 0;
    if (starts) {
      h = starts[at.by_row(at.batch * p.segments + at.segment, p.states, n)];
    } else if (p.initial_state) {
      h = p.initial_state[at.by_channel(n)];
    }
    rates[n * kLanes] = p.A[at.channel * p.states + n] * static_cast<T>(kLog2E);
    carry[n * kLanes] = h;
  }
  const T skip = p.D ? p.D[at.channel] : T{0};
  const T bias = p.delta_bias ? p.delta_bias[at.channel] : T{0};

  enum { kB, kC, kU, kDelta, kZ, kY, kUngated };
  if (threadIdx.x == 0) {
    walks[kB] = at.walk(p.B, at.group * p.states), walks[kC] = at.walk(p.C, at.group * p.states);
    walks[kU] = at.walk(p.u, at.first), walks[kDelta] = at.walk(p.delta, at.first);
    walks[kZ] = at.walk(p.z, at.first), walks[kY] = at.walk(y, at.first);
    walks[kUngated] = at.walk(ungated, at.first);
  }
  __syncthreads();

  Coefficients<Io, 2> coefficients(at, walks + kB, shared, copied);
  const auto fetch = [&](int t0) {
    if (t0 >= at.end) return;
    at.template load<kPieces, 3>(walks + kU, p.z.data ? 3 : 2, t0, next);
    coefficients.template fetch<kPieces>(t0, 0);
    __pipeline_commit();
  };
  // y and the ungated y of the tile at t0 lie where u and delta did.
  const auto store = [&](int t0, const Io* tile) {
    at.template store<kPieces, 2>(walks + kY, ungated.data ? 2 : 1, t0, tile);
  };
  const bool keeps = p.checkpoints && at.active;
  T* checkpoints =
      p.checkpoints + at.by_row(at.batch * p.strides + at.begin / kSteps, p.states, at.way);
  fetch(at.begin);
  for (int t0 = at.begin; t0 < at.end; t0 += kSteps) {
    exchange(current, next);
    __pipeline_wait_prior(0);
    __syncthreads();
    if (t0 > at.begin) store(t0 - kSteps, next);
    coefficients.turn();
    const Quad<T> own_delta = at.step_sizes(current + kTile, t0, bias), own_u = at.get(current);
    Quad<T> own_x;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) own_x.v[i] = own_delta.v[i] * own_u.v[i];
    at.own_steps(deltas) = own_delta;
    at.own_steps(xs) = own_x;
    __syncthreads();

    T* checkpoint = checkpoints;
    checkpoints += static_cast<int64_t>(p.states) * p.channels;
    T delta[kSteps], x[kSteps], out[kSteps] = {};
    at.read(deltas, delta);
    at.read(xs, x);
    const int quads = (at.end - t0 + 3) / 4;
    for (int n0 = 0; n0 < p.states; n0 += kStateBlock) {
      if (n0 > 0) {
        __pipeline_wait_prior(0);
        __syncthreads();
        coefficients.turn();
        __syncthreads();
      }
      const int to = min(n0 + kStateBlock, p.states);
      if (to < p.states) {
        coefficients.template fetch<kPieces>(t0, to);
        __pipeline_commit();
      } else {
        fetch(t0 + kSteps);
      }
      const auto states = [&](auto full) {
        for (int n = n0 + at.way; n < to; n += kWays) {
          const Quad<T>* b = reinterpret_cast<const Quad<T>*>(shared + (n - n0) * kRow);
          const Quad<T>* c = b + kStateBlock * kRow / 4;
          const T rate = rates[n * kLanes];
          T h = carry[n * kLanes];
          if (keeps) *checkpoint = h;
          checkpoint += static_cast<int64_t>(kWays) * p.channels;
          each_step<decltype(full)::value, false>(quads, [&](int i) {
            h = power_of_2(delta[i] * rate) * h + x[i] * b[i / 4].v[i % 4];
            out[i] += c[i / 4].v[i % 4] * h;
          });
          carry[n * kLanes] = h;
        }
      };
      if (quads >= kSteps / 4) {
        states(std::true_type{});
      } else {
        states(std::false_type{});
      }
    }

    at.leave(outs, out);
    __syncthreads();
    Quad<T> total = at.sum(outs);
    const Quad<T> again_u = at.get(current);
#pragma unroll
    for (int i = 0; i < kOwn; ++i) total.v[i] += skip * again_u.v[i];
    if (p.z.data) {
      const Quad<T> z = at.get(current + 2 * kTile);
      at.put(current + kTile, total);
#pragma unroll
      for (int i = 0; i < kOwn; ++i) total.v[i] *= silu(z.v[i]);
    }
    at.put(current, total);
  }
  __syncthreads();
  if (at.end > at.begin) store(at.last_tile(), current);

  at.clear_padding(y);
  if (at.active && at.segment == p.segments - 1) {
    for (int n = at.way; n < p.states; n += kWays) {
      last_state[at.by_channel(n)] = carry[n * kLanes];
    }
  }
}

template <class Io>
__host__ __device__ inline Shared<Io> segment_shared(int64_t states) {
  return {2 * states, 1, 2, 2 * 3 + Coefficients<Io, 1>::kTiles};
}

/// Step one of three where there are several segments. Every segment on its own, from zero: forward
/// the state after it; backward, from its end, the gradient with respect to the state before it.
/// ends [B, segments, N, D]; totals [B, segments, D]: the sum of delta, whose exp(A total) is how
/// much of what comes in goes out.
template <class Io, bool kPieces, bool kBackward>
__global__ void __launch_bounds__(kScanThreads)
    segment_kernel(const Problem<Io> p, const Rows<const Io> dy, Real<Io>* ends, Real<Io>* totals) {
  using T = Real<Io>;
  const Place<Io> at(p);
  constexpr int kTile = Place<Io>::kTile, kArray = kLanes * kRow;
  Walk* const walks = shared_walks();
  T* const rates = shared_reals<Io>() + at.lane;  // log2(e) A
  T* const carry = rates + p.states * kLanes;     // what goes from tile to tile
  T* const shared = shared_reals<Io>() + 2 * p.states * kLanes;
  T* const deltas = shared + Coefficients<Io, 1>::kElements;
  T* const xs = deltas + kArray;
  Io* current = reinterpret_cast<Io*>(xs + kArray);
  Io* next = current + 3 * kTile;
  Io* const copied = next + 3 * kTile;
  for (int n = at.way; n < p.states; n += kWays) {
    rates[n * kLanes] = p.A[at.channel * p.states + n] * static_cast<T>(kLog2E);
    carry[n * kLanes] = 0;
  }
  const T bias = p.delta_bias ? p.delta_bias[at.channel] : T{0};

  enum { kCoefficients, kDrive, kDelta, kZ };
  if (threadIdx.x == 0) {
    walks[kCoefficients] = at.walk(kBackward ? p.C : p.B, at.group * p.states);
    walks[kDrive] = at.walk(kBackward ? dy : p.u, at.first);
    walks[kDelta] = at.walk(p.delta, at.first), walks[kZ] = at.walk(p.z, at.first);
  }
  __syncthreads();

  Coefficients<Io, 1> coefficients(at, walks + kCoefficients, shared, copied);
  const auto fetch = [&](int t0) {
    if (t0 < at.begin || t0 >= at.end) return;
    at.template load<kPieces, 3>(walks + kDrive, kBackward && p.z.data ? 3 : 2, t0, next);
    coefficients.template fetch<kPieces>(t0, 0);
    __pipeline_commit();
  };
  const int first = kBackward ? at.last_tile() : at.begin;
  const int stride = kBackward ? -kSteps : kSteps;
  fetch(first);
  T total = 0;
  for (int t0 = first; t0 >= at.begin && t0 < at.end; t0 += stride) {
    exchange(current, next);
    __pipeline_wait_prior(0);
    __syncthreads();
    coefficients.turn();
    const Quad<T> own_delta = at.step_sizes(current + kTile, t0, bias);
    Quad<T> own_x = at.get(current);
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      total += own_delta.v[i];
      if (!kBackward) own_x.v[i] *= own_delta.v[i];
    }
    if (kBackward && p.z.data) {
      const Quad<T> z = at.get(current + 2 * kTile);
#pragma unroll
      for (int i = 0; i < kOwn; ++i) own_x.v[i] *= silu(z.v[i]);
    }
    at.own_steps(deltas) = own_delta;
    at.own_steps(xs) = own_x;
    __syncthreads();

    T delta[kSteps], x[kSteps];
    at.read(deltas, delta);
    at.read(xs, x);
    for (int n0 = 0; n0 < p.states; n0 += kStateBlock) {
      if (n0 > 0) {
        __pipeline_wait_prior(0);
        __syncthreads();
        coefficients.turn();
        __syncthreads();
      }
      const int to = min(n0 + kStateBlock, p.states);
      if (to < p.states) {
        coefficients.template fetch<kPieces>(t0, to);
        __pipeline_commit();
      } else {
        fetch(t0 + stride);
      }
      for (int n = n0 + at.way; n < to; n += kWays) {
        const Quad<T>* w = reinterpret_cast<const Quad<T>*>(shared + (n - n0) * kRow);
        const T rate = rates[n * kLanes];
        T h = carry[n * kLanes];
        each_step<true, kBackward>(kSteps / 4, [&](int i) {
          const T decay = power_of_2(delta[i] * rate), add = x[i] * w[i / 4].v[i % 4];
          h = kBackward ? decay * (h + add) : decay * h + add;
        });
        carry[n * kLanes] = h;
      }
      __syncthreads();
    }
  }

  total = at.sum_of_ways(total, deltas);
  if (!at.active) return;
  const int64_t outer = at.batch * p.segments + at.segment;
  if (at.way == 0) totals[at.by_row(outer, 1, 0)] = total;
  for (int n = at.way; n < p.states; n += kWays) {
    ends[at.by_row(outer, p.states, n)] = carry[n * kLanes];
  }
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
