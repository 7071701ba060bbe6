// The two passes of the forward direction.
#pragma once

#include "triangle_multiply/triangle_multiply_strip.cuh"

namespace ribo::kernels::triangle {

inline constexpr int kForwardBlocks = 2;  // of a multiprocessor

template <class T, class X, int kWidth>
struct alignas(16) ProjectShared {
  T weights[4 * kWidth * kWidth];
  Rows<X, kWidth, kStrip> rows[kWarps];
  float bias[4 * kWidth];
};

/// Hidden units are the rows of a warp's product and positions its columns: a lane has eight
/// positions side by side of a channel-major tensor: column 2 t + e of the v-th
/// of four D is position 8 t + 2 v + e.
template <class T, class X, int kWidth>
__global__ void __launch_bounds__(kThreads, kForwardBlocks) project_kernel(CudaTriangleProject a) {
  auto& shared = *shared_memory<ProjectShared<T, X, kWidth>>();
  const Matrix<T, kWidth> weights{shared.weights};
  auto& rows = shared.rows[warp()];
  const int g = lane() / 4, t = lane() % 4;
  constexpr int kParts = kStrip / 8;
  Strip strip = Strip::start(a, warp());
  int place = strip.place(a);
  rows.stage(a.x, place, 0, a.channels);
  __pipeline_commit();
  stage_maps<0, 4, true, RowOrder<X, kWidth>>(weights, shared.bias, a);
  __syncthreads();
  while (strip.there()) {
    uint32_t u[kParts][kWidth / 8];  // operands B
    __pipeline_wait_prior(0);
    __syncwarp();
    {
      int p[kParts];
#pragma unroll
      for (int v = 0; v < kParts; ++v) p[v] = g / 2 * 8 + 2 * v + g % 2;
      float scale[kParts];
      rows.template normalised<T>(u, scale, p, a.channels);
    }
    __syncwarp();
    const unsigned inside = __ballot_sync(~0u, place >= 0);
    const int64_t first = strip.element(a) + int64_t{g} * plane(a) + 8 * t;
    strip = strip.next(a, kWarps);
    place = strip.place(a);
    rows.stage(a.x, place, 0, a.channels);
    __pipeline_commit();
    uint32_t mask[kParts];
#pragma unroll
    for (int v = 0; v < kParts; ++v) {
      const unsigned both = inside >> (8 * t + 2 * v);
      mask[v] = (both & 1 ? 0xffffu : 0) | (both & 2 ? 0xffff0000u : 0);
    }
#pragma unroll 1
    for (int side = 0; side < 2; ++side) {
      T* out = static_cast<T*>(side == 0 ? a.left : a.right) + first;
#pragma unroll 1
      for (int unit = 0; unit < a.hidden; unit += 16) {
        Words<4> words[2] = {};  // of units g and g + 8
        if (inside != 0) {
          const int row = 2 * side * kWidth + unit;
          float d[2][kParts][4];  // values, gates
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            const float upper = shared.bias[row + m * kWidth + g];
            const float lower = shared.bias[row + m * kWidth + g + 8];
#pragma unroll
            for (int k = 0; k < kWidth / 16; ++k) {
              uint32_t left[4];
              weights.load_a(left, row + m * kWidth, 16 * k);
#pragma unroll
              for (int v = 0; v < kParts; ++v) {
                const uint32_t right[2] = {u[v][2 * k], u[v][2 * k + 1]};
                if (k > 0) {
                  mma_16x8x16<T>(d[m][v], left, right);
                } else {
                  mma_16x8x16<T>(d[m][v], left, right, {upper, upper, lower, lower});
                }
              }
            }
          }
#pragma unroll
          for (int r = 0; r < 2; ++r) {
#pragma unroll
            for (int v = 0; v < kParts; ++v) {
              const float low = d[0][v][2 * r] * scaled_sigmoid(d[1][v][2 * r]);
              const float high = d[0][v][2 * r + 1] * scaled_sigmoid(d[1][v][2 * r + 1]);
              words[r].word[v] = mask[v] & pack<T>(low, high);
            }
          }
        }
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          store_words(out, words[r]);
          out += int64_t{8} * plane(a);
        }
      }
    }
  }
}

/// Half of a strip.
template <class T, class X, int kWidth>
struct alignas(16) OutputHalf {
  Rows<X, kWidth, kStrip / 2> rows;
  Columns<T, kWidth, kStrip / 2> z;

  __device__ void stage_x(const CudaTriangleOutput& a, int place, int first) {
    rows.stage(a.x, place, first, a.channels);
  }
  __device__ void stage_z(const CudaTriangleOutput& a, const Strip& strip, int first) {
    if (!strip.there()) return;
    z.stage(static_cast<const T*>(a.product) + strip.element(a) + first, a);
  }
};

template <class T, class X, int kWidth>
struct alignas(16) OutputShared {
  T gate_weight[kWidth * kWidth], out_weight[kWidth * kWidth];
  OutputHalf<T, X, kWidth> halves[kWarps][2];
  float gate_bias[kWidth], norm_weight[kWidth], norm_bias[kWidth], out_bias[kWidth];
};

/// Positions are the rows of a warp's products: from the gates on a lane has two positions and
/// every fourth pair of units, which are operands as they are.
template <class T, class X, int kWidth>
__global__ void __launch_bounds__(kThreads, kForwardBlocks) output_kernel(CudaTriangleOutput a) {
  auto& shared = *shared_memory<OutputShared<T, X, kWidth>>();
  const Matrix<T, kWidth> gate_weight{shared.gate_weight}, out_weight{shared.out_weight};
  auto& halves = shared.halves[warp()];
  const int g = lane() / 4, t = lane() % 4;
  constexpr int kSteps = kWidth / 16;
  using Order = RowOrder<X, kWidth>;
  Strip strip = Strip::start(a, warp());
  int place = strip.place(a);
  for (int half = 0; half < 2; ++half) halves[half].stage_x(a, place, 16 * half);
  stage_maps<4, 1, true, Order>(gate_weight, shared.gate_bias, a);
  stage_out_weight<Order>(out_weight, a);
  stage_vector<kWidth, T>(shared.norm_weight, a.weights.out_norm_weight, a.hidden, a);
  stage_vector<kWidth, T>(shared.norm_bias, a.weights.out_norm_bias, a.hidden, a);
  stage_vector<kWidth, T>(shared.out_bias, a.weights.out_bias, a.channels, a,
                          [](int channel) { return Order::column(channel); });
  await_previous();
  for (int half = 0; half < 2; ++half) {
    halves[half].stage_z(a, strip, 16 * half);
    __pipeline_commit();
  }
  __syncthreads();
  const float share = reciprocal(static_cast<float>(a.hidden));
  while (strip.there()) {
    const Strip next = strip.next(a, kWarps);
    const int next_place = next.place(a);
    const unsigned inside = __ballot_sync(~0u, place >= 0);
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      uint32_t u[2][kWidth / 8], z[kSteps][4];
      __pipeline_wait_prior(1);
      __syncwarp();
      float deviation[2];
      halves[half].rows.template normalised<T>(u, deviation, {g, g + 8}, a.channels);
#pragma unroll
      for (int s = 0; s < kSteps; ++s) halves[half].z.load_a(z[s], 0, 16 * s);
      __syncwarp();
      halves[half].stage_x(a, next_place, 16 * half);
      halves[half].stage_z(a, next, 16 * half);
      __pipeline_commit();

      float y[kWidth / 8][4];
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n) {
        const auto bias = *reinterpret_cast<const float2*>(shared.out_bias + 8 * n + 2 * t);
        y[n][0] = y[n][2] = bias.x;
        y[n][1] = y[n][3] = bias.y;
      }
      if ((inside >> 16 * half & 0xffff) != 0) {
        float scale[2], offset[2];  // of the positions' product
        norm_of<T>(z, a.hidden, share, scale, offset);
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
          float gates[2][4];
          uint32_t q[4];
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            const auto bias =
                *reinterpret_cast<const float2*>(shared.gate_bias + 16 * s + 8 * j + 2 * t);
            gates[j][0] = gates[j][2] = bias.x;
            gates[j][1] = gates[j][3] = bias.y;
          }
#pragma unroll
          for (int k = 0; k < kSteps; ++k) {
            uint32_t right[4];
            gate_weight.load_b(right, 16 * s, 16 * k);
            multiply<T>(gates[0], gates[1],
                        {u[0][2 * k], u[1][2 * k], u[0][2 * k + 1], u[1][2 * k + 1]}, right);
          }
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            const int h = 16 * s + 8 * j + 2 * t;
            const auto gain = *reinterpret_cast<const float2*>(shared.norm_weight + h);
            const auto shift = *reinterpret_cast<const float2*>(shared.norm_bias + h);
#pragma unroll
            for (int r = 0; r < 2; ++r) {
              float low, high;
              unpack<T>(z[s][2 * j + r], low, high);
              low = (low * scale[r] + offset[r]) * gain.x + shift.x;
              high = (high * scale[r] + offset[r]) * gain.y + shift.y;
              q[2 * j + r] = pack<T>(low * scaled_sigmoid(gates[j][2 * r]),
                                     high * scaled_sigmoid(gates[j][2 * r + 1]));
            }
          }
#pragma unroll
          for (int n = 0; n < kWidth / 8; n += 2) {
            uint32_t right[4];
            out_weight.load_b(right, 8 * n, 16 * s);
            multiply<T>(y[n], y[n + 1], q, right);
          }
        }
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        store_values<kWidth>(static_cast<X*>(a.y), __shfl_sync(~0u, place, 16 * half + g + 8 * r),
                             a.channels, [&](int v) { return y[v / 2][2 * r + v % 2]; });
      }
    }
    strip = next;
    place = next_place;
  }
}

}  // namespace ribo::kernels::triangle
