// The last pass of the backward direction: through the projections and their norm.
#pragma once

#include "triangle_multiply/triangle_multiply_backward.cuh"

namespace ribo::kernels::triangle {

inline constexpr int kMapWarps = 4, kMostPositionWarps = kWarps - kMapWarps;  // of a block

/// What a warp of positions has for itself, and hands to those of the maps.
template <class T, class X, int kWidth>
struct alignas(16) ProjectBackwardSlot {
  Rows<X, kWidth, kStrip> rows;
  Columns<T, kWidth, kStrip> d[3];                   // of left, right and the output's gate
  T u[kStrip * kWidth], d_maps[4][kStrip * kWidth];  // [positions, channels], [positions, units]
  int none;                                          // 1 where they are not filled in
};

template <class T, class X, int kWidth>
struct alignas(16) ProjectBackwardShared {
  T weights[5 * kWidth * kWidth];
  float bias[5 * kWidth];
  ProjectBackwardSlot<T, X, kWidth> slots[kMostPositionWarps];

  /// Of a block with so many warps of positions.
  __host__ __device__ static constexpr int64_t size(int warps) {
    return static_cast<int64_t>(sizeof(ProjectBackwardShared)) -
           (kMostPositionWarps - warps) *
               static_cast<int64_t>(sizeof(ProjectBackwardSlot<T, X, kWidth>));
  }
};

inline constexpr int kProjectMeeting = 32 * (1 + kMapWarps);

/// A warp of a map, the sums of which are its own.
template <class T, class X, int kWidth>
__device__ inline void add_map(ProjectBackwardShared<T, X, kWidth>& shared,
                               const CudaTriangleProjectBackward& a, Strip strip, int warps,
                               int map) {
  constexpr int kSteps = kWidth / 16;
  const int g = lane() / 4, t = lane() % 4;
  float sums[kSteps][kWidth / 8][4] = {}, bias_sums[kSteps][4] = {};
  const uint32_t one = pack<T>(1, 1);
  while (strip.there()) {
    const Strip next = strip.next(a, warps);
    for (int from = 0; from < warps; ++from) {
      const int ahead = from * static_cast<int>(gridDim.x);
      if (!strip.skip(a, ahead).there()) break;
      auto& slot = shared.slots[from];
      const Matrix<T, kWidth> u{slot.u}, d{slot.d_maps[map]};
      barrier_sync(filled(from), kProjectMeeting);
      if (slot.none == 0) {
#pragma unroll
        for (int k = 0; k < kStrip; k += 16) {
          uint32_t right[kSteps][4];
#pragma unroll
          for (int n = 0; n < kSteps; ++n) u.load_b_transposed(right[n], k, 16 * n);
#pragma unroll
          for (int m = 0; m < kSteps; ++m) {
            uint32_t left[4];
            d.load_a_transposed(left, k, 16 * m);
#pragma unroll
            for (int n = 0; n < kSteps; ++n) {
              multiply<T>(sums[m][2 * n], sums[m][2 * n + 1], left, right[n]);
            }
            mma_16x8x16<T>(bias_sums[m], left, {one, one});
          }
        }
      }
      if (next.skip(a, ahead).there()) barrier_arrive(emptied(from), kProjectMeeting);
    }
    strip = next;
  }
  const Sums to(a);
  float* const out = a.scratch + int64_t{blockIdx.x} * to.size();
#pragma unroll
  for (int m = 0; m < kSteps; ++m) {
    const int unit = map * a.hidden + 16 * m;
    if (16 * m >= a.hidden) break;
    write_sums<RowOrder<X, kWidth>>(out + unit * a.channels, sums[m], a.channels);
    if (t == 0) {
      out[to.map_bias() + unit + g] = bias_sums[m][0];
      out[to.map_bias() + unit + g + 8] = bias_sums[m][2];
    }
  }
}

/// The first `warps` warps have a strip's positions each, for the rows of all their products:
/// values and gates, the gradients of which are operands as they are, and d_x in the end. The last
/// have all units and channels of a map's gradient each, to which they add strip after strip.
template <class T, class X, int kWidth>
__global__ void __launch_bounds__(kThreads, 1)
    project_backward_kernel(CudaTriangleProjectBackward a, int warps) {
  auto& shared = *shared_memory<ProjectBackwardShared<T, X, kWidth>>();
  const Matrix<T, kWidth> weights{shared.weights};
  const int g = lane() / 4, t = lane() % 4;
  constexpr int kSteps = kWidth / 16;
  const bool of_positions = warp() < warps;
  auto& slot = shared.slots[of_positions ? warp() : 0];
  Strip strip = Strip::start(a, of_positions ? warp() : 0);
  int place = strip.place(a);
  const auto stage_d = [&](int which, const Strip& from) {
    const void* const d = which == 0 ? a.d_left : which == 1 ? a.d_right : a.d_gate;
    if (from.there()) slot.d[which].stage(static_cast<const T*>(d) + from.element(a), a);
    __pipeline_commit();
  };
  if (of_positions) {
    slot.rows.stage(a.x, place, 0, a.channels);
    __pipeline_commit();
  }
  stage_maps<0, 5, false, RowOrder<X, kWidth>>(weights, shared.bias, a);
  await_previous();
  for (int which = 0; which < 3 && of_positions; ++which) stage_d(which, strip);
  __syncthreads();

  if (warp() >= kMostPositionWarps) {
    add_map(shared, a, strip, warps, warp() - kMostPositionWarps);
    return;
  }
  if (!of_positions) return;

  const Matrix<T, kWidth> u_out{slot.u};
  for (bool first = true; strip.there(); first = false) {
    const Strip next = strip.next(a, warps);
    const int next_place = next.place(a);
    const bool none = __ballot_sync(~0u, place >= 0) == 0;
    uint32_t u[4][kWidth / 8];  // of rows g + 8 i
    float scale[4];
    __pipeline_wait_prior(3);
    __syncwarp();
    slot.rows.template normalised<T>(u, scale, {g, g + 8, g + 16, g + 24}, a.channels);
    __syncwarp();
    slot.rows.stage(a.x, next_place, 0, a.channels);
    __pipeline_commit();
    if (!first) barrier_sync(emptied(warp()), kProjectMeeting);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < kWidth / 8; ++j) {
        *reinterpret_cast<uint32_t*>(u_out.at(g + 8 * i, 8 * j + 2 * t)) = u[i][j];
      }
    }
    float d_u[2][kWidth / 8][4] = {};  // of 16 positions each
    // d_u += d W for 16 units of a map
    const auto add_to_d_u = [&](const uint32_t(&d)[2][4], int row) {
#pragma unroll
      for (int n = 0; n < kWidth / 8; n += 2) {
        uint32_t right[4];
        weights.load_b_transposed(right, row, 8 * n);
#pragma unroll
        for (int m = 0; m < 2; ++m) multiply<T>(d_u[m][n], d_u[m][n + 1], d[m], right);
      }
    };
    // Values and gates of 16 units from a row of weights on; of 16 positions each.
    const auto project = [&](float(&y)[2][2][2][4], int row) {
#pragma unroll
      for (int map = 0; map < 2; ++map) {
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const auto bias =
              *reinterpret_cast<const float2*>(shared.bias + row + map * kWidth + 8 * n + 2 * t);
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            y[map][m][n][0] = y[map][m][n][2] = bias.x;
            y[map][m][n][1] = y[map][m][n][3] = bias.y;
          }
        }
      }
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
#pragma unroll
        for (int map = 0; map < 2; ++map) {
          uint32_t right[4];
          weights.load_b(right, row + map * kWidth, 16 * k);
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            multiply<T>(y[map][m][0], y[map][m][1],
                        {u[2 * m][2 * k], u[2 * m + 1][2 * k], u[2 * m][2 * k + 1],
                         u[2 * m + 1][2 * k + 1]},
                        right);
          }
        }
      }
    };
#pragma unroll 1
    for (int side = 0; side < 2; ++side) {
      __pipeline_wait_prior(3);
      __syncwarp();
      if (!none) {
        // A step's products stand in front of what becomes of the last one's, so that tensor cores
        // and the other units work side by side.
        float products[2][2][2][2][4];
        project(products[0], 2 * side * kWidth);
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          const int h = 16 * step, row = 2 * side * kWidth + h;
          if (step + 1 < kSteps) project(products[(step + 1) % 2], row + 16);
          const auto& y = products[step % 2];
          uint32_t d[2][2][4];  // of values and gates; of 16 positions each
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            uint32_t given[4];
            slot.d[side].load_a(given, 16 * m, h);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              const int r = i % 2, n = i / 2;
              float grad[2], d_value[2], d_pre[2];
              unpack<T>(given[i], grad[0], grad[1]);
#pragma unroll
              for (int e = 0; e < 2; ++e) {
                const float open = sigmoid(y[1][m][n][2 * r + e]);
                d_value[e] = grad[e] * open;
                const float d_open = d_value[e] * y[0][m][n][2 * r + e];
                d_pre[e] = d_open - d_open * open;
              }
              d[0][m][i] = pack<T>(d_value[0], d_value[1]);
              d[1][m][i] = pack<T>(d_pre[0], d_pre[1]);
              const int p = 16 * m + 8 * r + g, unit = h + 8 * n + 2 * t;
#pragma unroll
              for (int map = 0; map < 2; ++map) {
                const Matrix<T, kWidth> to{slot.d_maps[2 * side + map]};
                *reinterpret_cast<uint32_t*>(to.at(p, unit)) = d[map][m][i];
              }
            }
          }
#pragma unroll
          for (int map = 0; map < 2; ++map) add_to_d_u(d[map], row + map * kWidth);
        }
      }
      __syncwarp();
      stage_d(side, next);
    }
    if (lane() == 0) slot.none = none;
    barrier_arrive(filled(warp()), kProjectMeeting);
    __pipeline_wait_prior(3);
    __syncwarp();
    if (!none) {
#pragma unroll
      for (int h = 0; h < kWidth; h += 16) {
        uint32_t d[2][4];
#pragma unroll
        for (int m = 0; m < 2; ++m) slot.d[2].load_a(d[m], 16 * m, h);
        add_to_d_u(d, 4 * kWidth + h);
      }
    }
    __syncwarp();
    stage_d(2, next);

    // Through the norm.
    float sum[2][4] = {};  // of d_u, and of d_u times u
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < kWidth / 8; ++j) {
        float low, high;
        unpack<T>(u[i][j], low, high);
        const float* const d = d_u[i / 2][j] + i % 2 * 2;
        sum[0][i] += d[0] + d[1];
        sum[1][i] += d[0] * low;
        sum[1][i] += d[1] * high;
      }
    }
    add_lanes(sum[0]);
    add_lanes(sum[1]);
    const float share = reciprocal(static_cast<float>(a.channels));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float shift = -sum[0][i] * share * scale[i], slope = -sum[1][i] * share * scale[i];
      float d_x[kWidth / 4];
#pragma unroll
      for (int j = 0; j < kWidth / 8; ++j) {
        float low, high;
        unpack<T>(u[i][j], low, high);
        const float* const d = d_u[i / 2][j] + i % 2 * 2;
        d_x[2 * j] = d[0] * scale[i] + (low * slope + shift);
        d_x[2 * j + 1] = d[1] * scale[i] + (high * slope + shift);
      }
      store_values<kWidth>(static_cast<X*>(a.d_x), __shfl_sync(~0u, place, g + 8 * i), a.channels,
                           [&](int v) { return d_x[v]; });
    }
    strip = next;
    place = next_place;
  }
}

}  // namespace ribo::kernels::triangle
