// The first pass of the backward direction: through the output's map, its gate and its norm.
#pragma once

#include "triangle_multiply/triangle_multiply_backward.cuh"

namespace ribo::kernels::triangle {

/// A strip's positions by units or channels, from warps that have positions to warps that have
/// units. As the operands' inner dimension positions come in an order that gives a lane eight side
/// by side: k = 2 t + e and 2 t + 8 + e of the s-th 16 are 8 t + 4 s + e and 8 t + 4 s + 2 + e.
template <class T, int kWidth>
struct alignas(16) Exchange {
  static_assert(kWidth == 64);
  T data[kStrip * kWidth];

  /// Two values of position 16 half + 8 r + g, in columns 8 j + 2 t and + 1.
  __device__ uint32_t& at(int half, int r, int j) {
    const int p = 16 * half + lane() / 4;
    const int base = p * kWidth + (turn(p) ^ 2 * (lane() % 4));
    return *reinterpret_cast<uint32_t*>(data + (base ^ 8 * j ^ 16 * r) + 8 * r * kWidth);
  }

  /// The operand A of 16 units and the s-th positions; two B, of those and 16 channels.
  __device__ void load_a(uint32_t (&a)[4], int unit, int s) const {
    load_matrix_x4_transposed(a, matrix(lane() / 16, lane() / 8 % 2, unit, s));
  }
  __device__ void load_b(uint32_t (&b)[4], int s, int channel) const {
    load_matrix_x4_transposed(b, matrix(lane() / 8 % 2, lane() / 16, channel, s));
  }

 private:
  /// Both the rows that are written together and those that are read so are in different banks.
  __device__ static int turn(int p) {
    return 8 * (p & 1) | 16 * ((p >> 1 ^ p >> 3) & 1) | 32 * ((p >> 2 ^ p >> 4) & 1);
  }
  __device__ const T* matrix(int half_of_k, int half_of_columns, int column, int s) const {
    const int p = lane() % 8 / 2 * 8 + 2 * half_of_k + lane() % 2;
    const int base = p * kWidth + (turn(p) ^ 8 * half_of_columns);
    return data + (base ^ column ^ 32 * s) + 4 * s * kWidth;
  }
};

inline constexpr int kUnitWarps = 4;  // of a block: two for a map, which have half of its units
inline constexpr int kMostTeams = 4;  // of two warps, which have half of a strip each
inline constexpr int kOutputMeeting = 32 * (2 + kUnitWarps);
inline constexpr int kOutputThreads = 32 * (2 * kMostTeams + kUnitWarps);

template <class T, class X, int kWidth>
struct alignas(16) OutputBackwardSlot {
  struct {
    Rows<X, kWidth, kStrip / 2> x, d_y;
    Columns<T, kWidth, kStrip / 2> z;
  } halves[2];
  Exchange<T, kWidth> u, d_y, q, d_gate, d_z;
  int none;  // 1 where they are not filled in
};

template <class T, class X, int kWidth>
struct alignas(16) OutputBackwardShared {
  T gate_weight[kWidth * kWidth], out_weight[kWidth * kWidth];
  float gate_bias[kWidth], norm_weight[kWidth], norm_bias[kWidth];
  float unit_sums[2 * kMostTeams][2][kWidth];  // of the gradients of the last two
  OutputBackwardSlot<T, X, kWidth> slots[kMostTeams];

  /// Of a block with so many teams.
  __host__ __device__ static constexpr int64_t size(int teams) {
    return static_cast<int64_t>(sizeof(OutputBackwardShared)) -
           (kMostTeams - teams) * static_cast<int64_t>(sizeof(OutputBackwardSlot<T, X, kWidth>));
  }
};

/// The warps of units: those of `first` and half of all behind it, of the gate or of the output's
/// map.
template <bool kGate, class T, class X, int kWidth>
__device__ inline void add_units(OutputBackwardShared<T, X, kWidth>& shared,
                                 const CudaTriangleOutputBackward& a, Strip strip, int teams,
                                 int first, float* out) {
  constexpr int kSteps = kWidth / 16, kParts = kSteps / 2;
  const int g = lane() / 4, t = lane() % 4;
  using Order = RowOrder<X, kWidth>;
  float sums[kParts][kWidth / 8][4] = {};
  float bias_sums[kGate ? kParts : kSteps][4] = {};  // of the units, or of half of the channels
  const uint32_t one = pack<T>(1, 1);
  const uint32_t ones[4] = {one, one, one, one};
  T* const channels =
      static_cast<T*>(kGate ? a.d_gate : a.d_product) + int64_t{first + g} * plane(a) + 8 * t;
  const int64_t stride = int64_t{8} * plane(a);
  while (strip.there()) {
    const Strip next = strip.next(a, teams);
    for (int from = 0; from < teams; ++from) {
      const int ahead = from * static_cast<int>(gridDim.x);
      const Strip its = strip.skip(a, ahead);
      if (!its.there()) break;
      const auto& slot = shared.slots[from];
      barrier_sync(filled(from), kOutputMeeting);
      uint32_t written[kParts][2][4] = {};  // [..][s], of units g and g + 8
      if (slot.none == 0) {
#pragma unroll
        for (int s = 0; s < 2; ++s) {
          uint32_t right[kSteps][4];
#pragma unroll
          for (int n = 0; n < kSteps; ++n) {
            (kGate ? slot.u : slot.d_y).load_b(right[n], s, 16 * n);
          }
#pragma unroll
          for (int m = 0; m < kParts; ++m) {
            uint32_t left[4];
            (kGate ? slot.d_gate : slot.q).load_a(left, first + 16 * m, s);
#pragma unroll
            for (int n = 0; n < kSteps; ++n) {
              multiply<T>(sums[m][2 * n], sums[m][2 * n + 1], left, right[n]);
            }
            if constexpr (kGate) {
              mma_16x8x16<T>(bias_sums[m], left, {one, one});
#pragma unroll
              for (int i = 0; i < 4; ++i) written[m][s][i] = left[i];
            } else {
              slot.d_z.load_a(written[m][s], first + 16 * m, s);
            }
          }
          if constexpr (!kGate) {
#pragma unroll
            for (int n = 0; n < kParts; ++n) {
              uint32_t both[4];
#pragma unroll
              for (int i = 0; i < 4; ++i) both[i] = first == 0 ? right[n][i] : right[kParts + n][i];
              multiply<T>(bias_sums[2 * n], bias_sums[2 * n + 1], ones, both);
            }
          }
        }
      }
      if (next.skip(a, ahead).there()) barrier_arrive(emptied(from), kOutputMeeting);
      T* to = channels + its.element(a);
#pragma unroll
      for (int m = 0; m < kParts; ++m) {
        if (first + 16 * m >= a.hidden) break;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          store_words<4>(to, {{written[m][0][r], written[m][0][2 + r], written[m][1][r],
                               written[m][1][2 + r]}});
          to += stride;
        }
      }
    }
    strip = next;
  }
  const Sums to(a);
#pragma unroll
  for (int m = 0; m < kParts; ++m) {
    const int unit = first + 16 * m;
    if (unit >= a.hidden) break;
    float* const rows = out + (kGate ? 4 * a.hidden * a.channels : to.out_weight());
    write_sums<Order>(rows + unit * a.channels, sums[m], a.channels);
    if (kGate && t == 0) {
      out[to.map_bias() + 4 * a.hidden + unit + g] = bias_sums[m][0];
      out[to.map_bias() + 4 * a.hidden + unit + g + 8] = bias_sums[m][2];
    }
  }
  if (kGate || g > 0) return;
#pragma unroll
  for (int n = 0; n < kSteps; ++n) {
    const int channel = Order::channel(first + 8 * n + 2 * t);
    if (channel >= a.channels) continue;
    out[to.out_bias() + channel] = bias_sums[n][0];
    out[to.out_bias() + channel + 1] = bias_sums[n][1];
  }
}

/// Teams have positions, from d_y to d_product. The last warps have units of one of the two maps,
/// to whose gradients they add strip after strip, and write what becomes channel-major.
template <class T, class X, int kWidth>
__global__ void __launch_bounds__(kOutputThreads, 1)
    output_backward_kernel(CudaTriangleOutputBackward a, int teams) {
  auto& shared = *shared_memory<OutputBackwardShared<T, X, kWidth>>();
  const Matrix<T, kWidth> gate_weight{shared.gate_weight}, out_weight{shared.out_weight};
  const int g = lane() / 4, t = lane() % 4;
  const int team = warp() / 2, half = warp() % 2;
  constexpr int kSteps = kWidth / 16;
  using Order = RowOrder<X, kWidth>;
  const bool of_positions = team < teams, of_units = warp() >= 2 * kMostTeams;
  auto& slot = shared.slots[of_positions ? team : 0];
  auto& mine = slot.halves[half];
  Strip strip = Strip::start(a, of_positions ? team : 0);
  int place = strip.place(a);
  const auto stage = [&](const Strip& from, int its_place) {
    mine.x.stage(a.x, its_place, 16 * half, a.channels);
    mine.d_y.stage(a.d_y, its_place, 16 * half, a.channels);
    if (from.there()) {
      mine.z.stage(static_cast<const T*>(a.product) + from.element(a) + 16 * half, a);
    }
    __pipeline_commit();
  };
  if (of_positions) stage(strip, place);
  stage_maps<4, 1, true, Order>(gate_weight, shared.gate_bias, a);
  stage_out_weight<Order>(out_weight, a);
  stage_vector<kWidth, T>(shared.norm_weight, a.weights.out_norm_weight, a.hidden, a);
  stage_vector<kWidth, T>(shared.norm_bias, a.weights.out_norm_bias, a.hidden, a);
  __syncthreads();

  const Sums to(a);
  float* const out = a.scratch + int64_t{blockIdx.x} * to.size();
  if (of_units) {
    const int first = warp() % 2 * (kWidth / 2);
    if (warp() < kOutputThreads / 32 - 2) {
      add_units<false>(shared, a, strip, teams, first, out);
    } else {
      add_units<true>(shared, a, strip, teams, first, out);
    }
  }

  float unit_sums[2][kSteps][4] = {};  // of units 16 s + 2 t, + 1, + 8, + 9
  const float share = reciprocal(static_cast<float>(a.hidden));
  for (bool first = true; of_positions && strip.there(); first = false) {
    const Strip next = strip.next(a, teams);
    const int next_place = next.place(a);
    const bool none = __ballot_sync(~0u, place >= 0) == 0;
    uint32_t u[2][kWidth / 8], d_y[2][kWidth / 8], z[kSteps][4];
    __pipeline_wait_prior(0);
    __syncwarp();
    float x_scale[2];
    mine.x.template normalised<T>(u, x_scale, {g, g + 8}, a.channels);
#pragma unroll
    for (int r = 0; r < 2; ++r) mine.d_y.template packed<T>(d_y[r], g + 8 * r);
#pragma unroll
    for (int s = 0; s < kSteps; ++s) mine.z.load_a(z[s], 0, 16 * s);
    __syncwarp();
    stage(next, next_place);
    if (!first) barrier_sync(emptied(team), kOutputMeeting);
    strip = next;
    place = next_place;
    if (half == 0 && lane() == 0) slot.none = none;
    if (none) {
      barrier_arrive(filled(team), kOutputMeeting);
      continue;
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int j = 0; j < kWidth / 8; ++j) {
        slot.u.at(half, r, j) = u[r][j];
        slot.d_y.at(half, r, j) = d_y[r][j];
      }
    }
    float scale[2], offset[2];
    norm_of<T>(z, a.hidden, share, scale, offset);
    float grads[kSteps][2][4];  // of the normalised product; as D
    float sums[2] = {}, products[2] = {};
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      float gates[2][4];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const auto bias =
            *reinterpret_cast<const float2*>(shared.gate_bias + 16 * s + 8 * j + 2 * t);
        gates[j][0] = gates[j][2] = bias.x;
        gates[j][1] = gates[j][3] = bias.y;
#pragma unroll
        for (float& grad : grads[s][j]) grad = 0;
      }
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        uint32_t right[4];
        gate_weight.load_b(right, 16 * s, 16 * k);
        multiply<T>(gates[0], gates[1],
                    {u[0][2 * k], u[1][2 * k], u[0][2 * k + 1], u[1][2 * k + 1]}, right);
        out_weight.load_b_transposed(right, 16 * k, 16 * s);
        multiply<T>(grads[s][0], grads[s][1],
                    {d_y[0][2 * k], d_y[1][2 * k], d_y[0][2 * k + 1], d_y[1][2 * k + 1]}, right);
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int h = 16 * s + 8 * j + 2 * t;
        const auto gain = *reinterpret_cast<const float2*>(shared.norm_weight + h);
        const auto shift = *reinterpret_cast<const float2*>(shared.norm_bias + h);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          float x[2], value[2], d_pre[2];
          unpack<T>(z[s][2 * j + r], x[0], x[1]);
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            x[e] = x[e] * scale[r] + offset[r];
            float& grad = grads[s][j][2 * r + e];
            const float weight = e == 0 ? gain.x : gain.y, bias = e == 0 ? shift.x : shift.y;
            const float open = scaled_sigmoid(gates[j][2 * r + e]);
            value[e] = (x[e] * weight + bias) * open;
            const float d_open = grad * value[e], d_value = grad * open;
            d_pre[e] = d_open - d_open * open;
            unit_sums[0][s][2 * j + e] += d_value * x[e];
            unit_sums[1][s][2 * j + e] += d_value;
            grad = d_value * weight;
            sums[r] += grad;
            products[r] += grad * x[e];
          }
          slot.q.at(half, r, 2 * s + j) = pack<T>(value[0], value[1]);
          slot.d_gate.at(half, r, 2 * s + j) = pack<T>(d_pre[0], d_pre[1]);
        }
      }
    }
    add_lanes(sums);
    add_lanes(products);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float shift = -sums[r] * share * scale[r], slope = -products[r] * share * scale[r];
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float x[2], d_z[2];
          unpack<T>(z[s][2 * j + r], x[0], x[1]);
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            x[e] = x[e] * scale[r] + offset[r];
            d_z[e] = grads[s][j][2 * r + e] * scale[r] + (x[e] * slope + shift);
          }
          slot.d_z.at(half, r, 2 * s + j) = pack<T>(d_z[0], d_z[1]);
        }
      }
    }
    barrier_arrive(filled(team), kOutputMeeting);
  }
  if (of_positions) {
#pragma unroll
    for (int k = 0; k < 2; ++k) {
#pragma unroll
      for (int i = 0; i < 4 * kSteps; ++i) {
        float sum = unit_sums[k][i / 4][i % 4];
#pragma unroll
        for (int lanes = 4; lanes < 32; lanes *= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
        const int h = i / 4 * 16 + i % 4 / 2 * 8 + 2 * t + i % 2;
        if (g == 0) shared.unit_sums[warp()][k][h] = sum;
      }
    }
  }
  __syncthreads();
  const int h = static_cast<int>(threadIdx.x) % kWidth, k = static_cast<int>(threadIdx.x) / kWidth;
  if (k >= 2 || h >= a.hidden) return;
  float sum = 0;
  for (int w = 0; w < 2 * teams; ++w) sum += shared.unit_sums[w][k][h];
  out[(k == 0 ? to.norm_weight() : to.norm_bias()) + h] = sum;
}

}  // namespace ribo::kernels::triangle
