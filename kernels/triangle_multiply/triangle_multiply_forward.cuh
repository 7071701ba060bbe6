// The two passes of the forward direction.
#pragma once

#include "triangle_multiply/triangle_multiply_tile.cuh"

namespace ribo::kernels::triangle {

template <class T, class X, int kWidth>
struct alignas(16) ProjectShared {
  T weights[4 * kWidth * kWidth], u[kTile * kWidth];
  X raw[kTile * kWidth];
  float bias[4 * kWidth];
  Places places[2];
};

/// A warp has 16 hidden units of left or right: their values, their gates, their part of a tile.
template <class T, class X, int kWidth>
__global__ void __launch_bounds__(kThreads, kForwardBlocks) project_kernel(CudaTriangleProject a) {
  auto& shared = *shared_memory<ProjectShared<T, X, kWidth>>();
  const Matrix<T, kWidth> weights{shared.weights}, u{shared.u};
  const int g = lane() / 4, t = lane() % 4;
  constexpr int kUnits = kWidth / 16;  // of a side
  shared.places[0].find(a, Tile::start(a));
  __syncthreads();
  stage_rows<kWidth>(shared.raw, a.x, shared.places[0], a.channels);
  __pipeline_commit();
  stage_maps<0, 4>(weights, shared.bias, a);
  for (int turn = 0; shared.places[turn].tile.there(a); turn = 1 - turn) {
    const Places& places = shared.places[turn];
    Places& next = shared.places[1 - turn];
    __pipeline_wait_prior(0);
    __syncthreads();
    normalise_rows<true>(shared.raw, u, a.channels);
    next.find(a, places.tile.next(a));
    __syncthreads();
    stage_rows<kWidth>(shared.raw, a.x, next, a.channels);
    __pipeline_commit();
    if (places.none) {
      each_piece<kWidth>(a, [&](int, int, int64_t offset) {
        for (void* side : {a.left, a.right}) {
          T* const to = static_cast<T*>(side) + places.tile.element(a) + offset;
          *reinterpret_cast<Words<4>*>(to) = {};
        }
      });
      continue;
    }
#pragma unroll
    for (int unit = warp(); unit < 2 * kUnits; unit += kWarps) {
      const int side = unit / kUnits, h = unit % kUnits * 16 + g;
      if (h >= a.hidden) continue;
      const int row = 2 * side * kWidth + h;
      T* const out = static_cast<T*>(side == 0 ? a.left : a.right) + places.tile.element(a) +
                     int64_t{h} * plane(a) + 8 * t;
#pragma unroll 1
      for (int half = 0; half < 2; ++half) {
        const float bias[2][2] = {{shared.bias[row], shared.bias[row + 8]},
                                  {shared.bias[row + kWidth], shared.bias[row + kWidth + 8]}};
        float d[2][4][4];  // values, gates
        project(d, bias, weights, row - g, kWidth, u, 32 * half);
        const auto inside = *reinterpret_cast<const Words<2>*>(places.inside + 32 * half + 8 * t);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          Words<4> words;
#pragma unroll
          for (int v = 0; v < 4; ++v) {
            const uint32_t both = inside.word[v / 2] >> 16 * (v % 2);
            words.word[v] = pack<T>(d[0][v][2 * r] * sigmoid(d[1][v][2 * r]),
                                    d[0][v][2 * r + 1] * sigmoid(d[1][v][2 * r + 1])) &
                            ((both & 1 ? 0xffffu : 0) | (both & 0x100 ? 0xffff0000u : 0));
          }
          *reinterpret_cast<Words<4>*>(out + int64_t{8 * r} * plane(a) + 32 * half) = words;
        }
      }
    }
  }
}

template <class T, class X, int kWidth>
struct alignas(16) OutputShared {
  T gate_weight[kWidth * kWidth], out_weight[kWidth * kWidth], u[kTile * kWidth];
  T z[kWidth * kTile], q[kWidth * kTile];
  X raw[kTile * kWidth];
  float gate_bias[kWidth], norm_weight[kWidth], norm_bias[kWidth], out_bias[kWidth];
  Places places[2];
};

/// First a warp has eight positions and normalises and gates their product; then it has 16 and maps
/// them to half of the channels.
template <class T, class X, int kWidth>
__global__ void __launch_bounds__(kThreads, kForwardBlocks) output_kernel(CudaTriangleOutput a) {
  auto& shared = *shared_memory<OutputShared<T, X, kWidth>>();
  const Matrix<T, kWidth> gate_weight{shared.gate_weight}, out_weight{shared.out_weight};
  const Matrix<T, kWidth> u{shared.u};
  const Matrix<T, kTile> z{shared.z}, q{shared.q};
  const int g = lane() / 4, t = lane() % 4;
  clear(shared.z);
  shared.places[0].find(a, Tile::start(a));
  __syncthreads();
  stage_rows<kWidth>(shared.raw, a.x, shared.places[0], a.channels);
  stage_channels<kWidth>(z, a.product, a, shared.places[0].tile);
  __pipeline_commit();
  stage_maps<4, 1>(gate_weight, shared.gate_bias, a);
  stage_out_weight(out_weight, a);
  stage_vector<kWidth, T>(shared.norm_weight, a.weights.out_norm_weight, a.hidden, a);
  stage_vector<kWidth, T>(shared.norm_bias, a.weights.out_norm_bias, a.hidden, a);
  stage_vector<kWidth, T>(shared.out_bias, a.weights.out_bias, a.channels, a);
  for (int turn = 0; shared.places[turn].tile.there(a); turn = 1 - turn) {
    const Places& places = shared.places[turn];
    Places& next = shared.places[1 - turn];
    __pipeline_wait_prior(0);
    __syncthreads();
    normalise_rows<false>(shared.raw, u, a.channels);
    next.find(a, places.tile.next(a));
    __syncthreads();
    stage_rows<kWidth>(shared.raw, a.x, next, a.channels);
    __pipeline_commit();
    if (!places.none) {
      const int p = 8 * warp() + 2 * t;
      float gates[kWidth / 16][4];
      project_all<false>(gates, shared.gate_bias, gate_weight, u, 8 * warp());
      NormedColumns<kWidth / 8> normal;
      normal.read(z, p, a.hidden);
#pragma unroll
      for (int m = 0; m < kWidth / 8; ++m) {
        const int h = 8 * m + g;
        const float gain = shared.norm_weight[h], shift = shared.norm_bias[h];
        const float(&gate)[4] = gates[m / 2];
        *reinterpret_cast<uint32_t*>(q.at(h, p)) =
            pack<T>((normal.x[m][0] * gain + shift) * sigmoid(gate[m % 2 * 2]),
                    (normal.x[m][1] * gain + shift) * sigmoid(gate[m % 2 * 2 + 1]));
      }
    }
    __syncthreads();
    stage_channels<kWidth>(z, a.product, a, next.tile);
    __pipeline_commit();
    const int position = warp() % 4 * 16, column = warp() / 4 * (kWidth / 2);
    float y[kWidth / 16][4];
#pragma unroll
    for (int n = 0; n < kWidth / 16; ++n) {
      y[n][0] = y[n][2] = shared.out_bias[column + 8 * n + 2 * t];
      y[n][1] = y[n][3] = shared.out_bias[column + 8 * n + 2 * t + 1];
    }
#pragma unroll
    for (int k = 0; k < kWidth; k += 16) {
      if (places.none) break;
      uint32_t left[4];
      q.load_a_transposed(left, k, position);
#pragma unroll
      for (int n = 0; n < kWidth / 16; n += 2) {
        uint32_t right[4];
        out_weight.load_b(right, column + 8 * n, k);
        multiply<T>(y[n], y[n + 1], left, right);
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int place = places.row[position + g + 8 * r];
      const bool real = place >= 0;
      X* const to = static_cast<X*>(a.y) + int64_t{real ? place : ~place} * a.channels + column;
#pragma unroll
      for (int n = 0; n < kWidth / 16; n += 2) {
        const bool write = place != kNowhere && column + 8 * n < a.channels;
        const auto value = [&](int part, int e) { return real ? y[n + part][2 * r + e] : 0.0f; };
        store_columns(to + 8 * n, value(0, 0), value(0, 1), value(1, 0), value(1, 1), write);
      }
    }
  }
}

}  // namespace ribo::kernels::triangle
