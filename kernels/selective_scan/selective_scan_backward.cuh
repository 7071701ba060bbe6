// The gradients of the scan.
//
// With dy' = dy silu(z), a = exp(delta A) and g[t] = dLoss/dh[t] = C[t] dy'[t] + a[t+1] g[t+1]:
//   dC = dy' h, dB = g delta u (both summed over the group's channels), d(delta A) = g a h[t-1].
// The states are recomputed a tile at a time from the checkpoints, forwards; then the tile is
// walked through backwards.
#pragma once

#include "common/mma.cuh"
#include "selective_scan/selective_scan_tile.cuh"

namespace ribo::kernels {

/// Gradients of scan_kernel's block, before the sums over blocks.
template <class Io>
struct Parts {
  Rows<Io> du, ddelta, dz;
  Real<Io>* d_initial_state;
  /// [tiles, B, strides, G, N, kLanes]: dB and dC of each block's channels at a stride's steps;
  /// WarpSums says where.
  Real<Io>* coefficients;
  /// [B, segments, N + 2, D]: dA, dD, d(delta_bias).
  Real<Io>* channel;
};

template <class Io>
__host__ __device__ inline Shared<Io> backward_shared(int64_t states) {
  // log2(e) A, what goes from tile to tile and dA, two blocks of states from checkpoints; delta,
  // delta u, dy', and dLoss/dx and dLoss/d(delta A) of each warp; u, delta, z, dy and the ungated
  // y twice.
  return {3 * states + 2 * (states < kStateBlock ? states : kStateBlock), 2, 3 + 2 * kWays,
          2 * 5 + Coefficients<Io, 2>::kTiles};
}

/// Sums of `value` over the lanes that differ from this one in kCount bits' worth of lane numbers,
/// kMask the lowest: a lane gets the sum of one of the values. Each exchange halves what a lane
/// answers for: 31 for 32 values, where one sum after the other would take 160.
template <int kCount, int kMask, class T, int kSize>
__device__ inline T halve(T (&value)[kSize]) {
  if constexpr (kCount == 1) {
    return value[0];
  } else {
    constexpr int kHalf = kCount / 2;
    const bool upper = threadIdx.x & (kHalf * kMask);
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const T keep = upper ? value[i + kHalf] : value[i];
      const T give = upper ? value[i] : value[i + kHalf];
      value[i] = keep + __shfl_xor_sync(~0u, give, kHalf * kMask);
    }
    return halve<kHalf, kMask>(value);
  }
}

/// Sums of 2 kSteps numbers over a warp's lanes: step i's parts of dB and of dC.
template <class Io, class = void>
class WarpSums {
 public:
  using T = Real<Io>;
  /// From the last step to the first, or from any even one.
  __device__ void add(int i, T d_b, T d_c) { value_[i] = d_b, value_[kSteps + i] = d_c; }
  /// Every lane gets one of the sums.
  __device__ T mine() { return halve<kLanes, 1>(value_); }
  /// The lane that gets step i's sum for dB; that for dC is kOfC lanes on.
  __device__ static int lane_of(int i) { return i; }
  static constexpr int kOfC = kSteps;

 private:
  T value_[2 * kSteps] = {};
};

/// Where results are 16 bits wide, with the tensor cores: their TF32 keeps more. Two steps' numbers
/// are a lane's share of A, and B has ones where it puts the sum over four lanes of each step into
/// a column of its own. The eight fours are left to exchanges: 7 instead of 31.
template <class Io>
class WarpSums<Io, std::enable_if_t<sizeof(Io) == 2>> {
 public:
  __device__ void add(int i, float d_b, float d_c) {
    if (i % 2 == 1) {
      odd_b_ = d_b, odd_c_ = d_c;
      return;
    }
    const auto column = threadIdx.x % 32 / 4;
    const uint32_t b[2] = {column == static_cast<unsigned>(i) % 8 ? kOne : 0,
                           column == static_cast<unsigned>(i) % 8 + 1 ? kOne : 0};
    mma_16x8x8_tf32(fours_[i / 8], {bits(d_b), bits(d_c), bits(odd_b_), bits(odd_c_)}, b);
  }
  // A lane has, of eight steps, those that its number's last two bits choose, even and odd.
  __device__ float mine() {
    float value[8] = {fours_[0][0], fours_[0][1], fours_[0][2], fours_[0][3],
                      fours_[1][0], fours_[1][1], fours_[1][2], fours_[1][3]};
    return halve<8, 4>(value);
  }
  __device__ static int lane_of(int i) { return i / 8 * 16 + i % 2 * 4 + i % 8 / 2; }
  static constexpr int kOfC = 8;

 private:
  static constexpr uint32_t kOne = 0x3f800000;
  // TF32 drops the last bits. bfloat16 results don't notice, float16's would.
  __device__ static uint32_t bits(float x) {
    return __float_as_uint(x) + (std::is_same_v<Io, __half> ? 0x1000 : 0);
  }

  float fours_[2][4] = {};
  float odd_b_ = 0, odd_c_ = 0;
};

/// `carries` [B, segments, N, D]: the gradient that enters each segment from behind; where that is
/// null, there is one segment and `d_last_state` [B, D, N] enters (null: zero). `ungated`: y before
/// the gate, wanted where there is one.
template <class Io, bool kPieces>
__global__ void __launch_bounds__(kScanThreads, sizeof(Real<Io>) == 4 ? 3 : 1)
    scan_backward_kernel(const Problem<Io> p, const Rows<const Io> dy, const Rows<const Io> ungated,
                         const Real<Io>* carries, const Real<Io>* d_last_state,
                         const Parts<Io> out) {
  using T = Real<Io>;
  const Place<Io> at(p);
  constexpr int kTile = Place<Io>::kTile, kArray = kLanes * kRow;
  Walk* const walks = shared_walks();
  T* const rates = shared_reals<Io>() + at.lane;  // log2(e) A
  T* const carry = rates + p.states * kLanes;     // what goes from tile to tile
  T* const d_rates = carry + p.states * kLanes;
  const int start_size = min(p.states, kStateBlock) * kLanes;
  T* start = shared_reals<Io>() + 3 * p.states * kLanes;  // states before the tile
  T* next_start = start + start_size;
  T* const shared = next_start + start_size;
  T* const deltas = shared + Coefficients<Io, 2>::kElements;
  T* const xs = deltas + kArray;
  T* const d_scans = xs + kArray;
  T* const d_xs = d_scans + kArray;
  T* const d_decays = d_xs + kWays * kArray;
  Io* current = reinterpret_cast<Io*>(d_decays + kWays * kArray);
  Io* next = current + 5 * kTile;
  Io* const copied = next + 5 * kTile;
  const int64_t outer = at.batch * p.segments + at.segment;
  for (int n = at.way; n < p.states; n += kWays) {
    T g = 0;
    if (at.active && carries) {
      g = carries[at.by_row(outer, p.states, n)];
    } else if (at.active && d_last_state) {
      g = d_last_state[at.by_channel(n)];
    }
    rates[n * kLanes] = p.A[at.channel * p.states + n] * static_cast<T>(kLog2E);
    carry[n * kLanes] = g;
    d_rates[n * kLanes] = 0;
  }
  const T skip = p.D ? p.D[at.channel] : T{0};
  const T bias = p.delta_bias ? p.delta_bias[at.channel] : T{0};
  T d_skip = 0, d_bias = 0;

  enum { kB, kC, kDy, kU, kDelta, kZ, kUngated, kDu, kDdelta, kDz };
  if (threadIdx.x == 0) {
    walks[kB] = at.walk(p.B, at.group * p.states), walks[kC] = at.walk(p.C, at.group * p.states);
    walks[kU] = at.walk(p.u, at.first), walks[kDelta] = at.walk(p.delta, at.first);
    walks[kDy] = at.walk(dy, at.first), walks[kZ] = at.walk(p.z, at.first);
    walks[kUngated] = at.walk(ungated, at.first), walks[kDu] = at.walk(out.du, at.first);
    walks[kDdelta] = at.walk(out.ddelta, at.first), walks[kDz] = at.walk(out.dz, at.first);
  }
  __syncthreads();

  Coefficients<Io, 2> coefficients(at, walks + kB, shared, copied);
  // The states before the tile at t0, from n0 on, to next_start.
  const auto fetch_start = [&](int t0, int n0) {
    const int64_t stride = at.batch * p.strides + t0 / kSteps;
    const T* from = p.checkpoints + at.by_row(stride, p.states, n0 + at.way);
    for (int n = at.way; n < min(p.states - n0, kStateBlock); n += kWays) {
      __pipeline_memcpy_async(next_start + n * kLanes + at.lane, from, sizeof(T));
      from += static_cast<int64_t>(kWays) * p.channels;
    }
  };
  const auto fetch = [&](int t0) {
    if (t0 < at.begin) return;
    at.template load<kPieces, 5>(walks + kDy, p.z.data ? 5 : 3, t0, next);
    fetch_start(t0, 0);
    coefficients.template fetch<kPieces>(t0, 0);
    __pipeline_commit();
  };
  // The gradients of u, delta and z of the tile at t0 lie where these did.
  const auto store = [&](int t0, const Io* tile) {
    at.template store<kPieces, 3>(walks + kDu, p.z.data ? 3 : 2, t0, tile + kTile);
  };
  fetch(at.last_tile());
  for (int t0 = at.last_tile(); t0 >= at.begin; t0 -= kSteps) {
    exchange(current, next);
    exchange(start, next_start);
    __pipeline_wait_prior(0);
    __syncthreads();
    if (t0 < at.last_tile()) store(t0 + kSteps, next);
    coefficients.turn();
    Quad<T> own_delta = at.step_sizes(current + 2 * kTile, t0, bias), own_d_scan = at.get(current);
    Quad<T> own_x = at.get(current + kTile);
#pragma unroll
    for (int i = 0; i < kOwn; ++i) own_x.v[i] *= own_delta.v[i];
    if (p.z.data) {
      const Quad<T> z = at.get(current + 3 * kTile), of_scan = at.get(current + 4 * kTile);
      Quad<T> d_z;
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
        const T s = sigmoid(z.v[i]);
        d_z.v[i] = own_d_scan.v[i] * of_scan.v[i] * s * (1 + z.v[i] * (1 - s));
        own_d_scan.v[i] *= z.v[i] * s;
      }
      at.put(current + 3 * kTile, d_z);
    }
    at.own_steps(deltas) = own_delta;
    at.own_steps(xs) = own_x;
    at.own_steps(d_scans) = own_d_scan;
    __syncthreads();

    // Sums over the warp's states: dLoss/dx, and log2(e) times the part of dLoss/ddelta that comes
    // through the decay.
    T delta[kSteps], x[kSteps], d_x[kSteps] = {}, d_decay[kSteps] = {};
    at.read(deltas, delta);
    at.read(xs, x);
    const Quad<T>* const d_scan = at.steps(d_scans);
    const int quads = (at.end - t0 + 3) / 4;
    const int64_t stride = at.batch * p.strides + t0 / kSteps;
    const int64_t part = (static_cast<int64_t>(at.tile) * p.batch * p.strides + stride) * p.groups;
    T* sums = out.coefficients + ((part + at.group) * p.states + at.way) * kLanes + at.lane;
    for (int n0 = 0; n0 < p.states; n0 += kStateBlock) {
      if (n0 > 0) {
        exchange(start, next_start);
        __pipeline_wait_prior(0);
        __syncthreads();
        coefficients.turn();
        __syncthreads();
      }
      const int to = min(n0 + kStateBlock, p.states);
      if (to < p.states) {
        fetch_start(t0, to);
        coefficients.template fetch<kPieces>(t0, to);
        __pipeline_commit();
      } else {
        fetch(t0 - kSteps);
      }
      const auto states = [&](auto full) {
        constexpr bool kFull = decltype(full)::value;
        for (int n = n0 + at.way; n < to; n += kWays) {
          const Quad<T>* b = reinterpret_cast<const Quad<T>*>(shared + (n - n0) * kRow);
          const Quad<T>* c = b + kStateBlock * kRow / 4;
          const T rate = rates[n * kLanes], h0 = start[(n - n0) * kLanes + at.lane];
          T g = carry[n * kLanes], d_rate = d_rates[n * kLanes];
          T decay[kSteps], h[kSteps];
          T state = h0;
          each_step<kFull, false>(quads, [&](int i) {
            decay[i] = power_of_2(delta[i] * rate);
            state = decay[i] * state + x[i] * b[i / 4].v[i % 4];
            h[i] = state;
          });
          WarpSums<Io> sum;
          each_step<kFull, true>(quads, [&](int i) {
            const T d_y = d_scan[i / 4].v[i % 4];
            g += c[i / 4].v[i % 4] * d_y;
            d_x[i] += g * b[i / 4].v[i % 4];
            sum.add(i, g * x[i], h[i] * d_y);
            g *= decay[i];
            const T d_exponent = g * (i > 0 ? h[i - 1] : h0);
            d_decay[i] += d_exponent * rate;
            d_rate += d_exponent * delta[i];
          });
          carry[n * kLanes] = g;
          d_rates[n * kLanes] = d_rate;
          *sums = sum.mine();
          sums += kWays * kLanes;
        }
      };
      if (quads >= kSteps / 4) {
        states(std::true_type{});
      } else {
        states(std::false_type{});
      }
    }

    at.leave(d_xs, d_x);
    at.leave(d_decays, d_decay);
    __syncthreads();
    const Quad<T> of_x = at.sum(d_xs), of_decay = at.sum(d_decays);
    own_delta = at.own_steps(deltas), own_d_scan = at.own_steps(d_scans);
    const Quad<T> u = at.get(current + kTile), raw = at.get(current + 2 * kTile);
    Quad<T> d_delta, d_u;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      d_delta.v[i] = u.v[i] * of_x.v[i] + of_decay.v[i] * static_cast<T>(1 / kLog2E);
      d_u.v[i] = own_delta.v[i] * of_x.v[i] + skip * own_d_scan.v[i];
      d_skip += own_d_scan.v[i] * u.v[i];
    }
    if (p.delta_softplus) {
#pragma unroll
      for (int i = 0; i < kOwn; ++i) d_delta.v[i] *= sigmoid(raw.v[i] + bias);
    }
#pragma unroll
    for (int i = 0; i < kOwn; ++i) d_bias += t0 + at.own() + i < at.end ? d_delta.v[i] : T{0};
    at.put(current + 2 * kTile, d_delta);
    at.put(current + kTile, d_u);
  }
  __syncthreads();
  if (at.end > at.begin) store(at.begin, current);

  d_skip = at.sum_of_ways(d_skip, deltas);
  d_bias = at.sum_of_ways(d_bias, deltas);
  if (at.active) {
    T* const d_channel = out.channel + at.by_row(outer, p.states + 2, 0);
    for (int n = at.way; n < p.states; n += kWays) {
      d_channel[static_cast<int64_t>(n) * p.channels] = d_rates[n * kLanes];
    }
    if (at.way == 0) {
      d_channel[static_cast<int64_t>(p.states) * p.channels] = d_skip;
      d_channel[static_cast<int64_t>(p.states + 1) * p.channels] = d_bias;
    }
  }
  at.clear_padding(out.du);
  at.clear_padding(out.ddelta);
  if (p.z.data) at.clear_padding(out.dz);
  if (out.d_initial_state && at.active && at.segment == 0) {
    for (int n = at.way; n < p.states; n += kWays) {
      out.d_initial_state[at.by_channel(n)] = carry[n * kLanes];
    }
  }
}

/// dB and dC [B, L, G, N] from the blocks' parts. A thread is one element of a part.
template <class Io>
__global__ void add_coefficients_kernel(const Problem<Io> p, const Real<Io>* parts, Io* dB,
                                        Io* dC) {
  const int64_t of_stride = static_cast<int64_t>(p.groups) * p.states * kLanes;
  const int64_t count = static_cast<int64_t>(p.batch) * p.strides * of_stride;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const int lane = static_cast<int>(i % kLanes);
  int step = 0;
  bool of_b = true;
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    const int lane_of_b = WarpSums<Io>::lane_of(j);
    if (lane == lane_of_b || lane == lane_of_b + WarpSums<Io>::kOfC) {
      step = j, of_b = lane == lane_of_b;
    }
  }
  const int64_t stride = i / of_stride, b = stride / p.strides;
  const int64_t t = stride % p.strides * kSteps + step;
  if (t >= p.length) return;
  const int64_t length = length_of(p.lengths, b, p.length);
  Real<Io> sum = 0;
  if (t < length) {
#pragma unroll 8
    for (int tile = 0; tile < p.tiles; ++tile) sum += parts[tile * count + i];
  }
  const int64_t position = t < length && p.reverse ? length - 1 - t : t;
  const int64_t column = i % of_stride / kLanes;
  (of_b ? dB : dC)[(b * p.length + position) * (of_stride / kLanes) + column] = narrow<Io>(sum);
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
