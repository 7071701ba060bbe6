// The backward pass of the pair transition. With n the normed x, h the hidden layer behind its ReLU
// and g its gradient (0 where h is 0),
//
//   h = relu(W1 n + b1)   g = W2^T dy   dn = W1^T g   dW1 = g^T n   dW2 = dy^T h
//
// where W1 and b1 contain the norm's weight and bias (pair_transition_tile.cuh); dn goes back
// through the norm and meets dy.
//
// A block takes tiles of positions. Each of its eight warps has a slice of the hidden units, for
// which it computes h and g of all positions of the tile and adds to dW1 and dW2, which stay in its
// registers to the end: as results of products g and h, [hidden, position], lie just as the next
// products want their operands. Only n, dy and g go through shared memory, g because each
// position's dn needs all of it. dn is the work of warps 0 to 3, while warps 4 to 7 bring the next
// tile; what warps 0 to 3 do behind that has company in the next tile's products of warps 4 to 7.
#pragma once

#include "pair_transition/pair_transition_sums.cuh"
#include "pair_transition/pair_transition_tile.cuh"

namespace ribo::kernels {

inline constexpr int kBackwardThreads = 256;

/// What a warp adds up over all tiles, for its slice of the hidden units.
template <int kTiles, int kSlice>
struct TransitionSums {
  Fragments<kTiles> dw1[kSlice], dw2[kSlice];  // [hidden unit, C]
  float db1[kSlice][2];                        // of units g and g + 8, and this lane's positions
};

/// kSlice: 16 hidden units each, of a warp. kParts: 16 positions each, of one of four warps.
template <class Io, class T, int kChannels, int kSlice, int kParts>
struct BackwardTile {
  static constexpr int kSteps = kChannels / 16, kTiles = kChannels / 8;
  static constexpr int kPositions = 4 * 16 * kParts;  // of a tile
  static constexpr int kUnits = 16 * kSlice;          // hidden units of a warp
  static constexpr int kHidden = 8 * kUnits;          // of all: what is missing counts as 0
  static constexpr int kStride = kChannels + kPadding, kGradStride = kPositions + kPadding;
  static constexpr int kHelpers = kBackwardThreads / 2;
  using Weights = StagedWeights<T, kChannels>;
  using Sums = TransitionSums<kTiles, kSlice>;
  using Order = RowOrder<Io, kChannels>;

  static constexpr int64_t kBytes = Weights::bytes(kHidden) +
                                    2 * (2 * kPositions * kStride + kHidden * kGradStride) +
                                    kHelpers * kChannels;

  Weights weights;
  T* normed;   // n [position, C]
  T* dy;       // [position, C]
  T* grad;     // g [hidden, position]
  float* db2;  // [C / 16, kHelpers, 4]: of each helping lane's rows and channels
  int lane, warp;

  __device__ BackwardTile()
      : weights(shared_memory<char>(), kHidden),
        normed(reinterpret_cast<T*>(weights.b2 + kChannels)),
        dy(normed + kPositions * kStride),
        grad(dy + kPositions * kStride),
        db2(reinterpret_cast<float*>(grad + kHidden * kGradStride)),
        lane(static_cast<int>(threadIdx.x % 32)),
        warp(static_cast<int>(threadIdx.x / 32)) {}

  __device__ bool helps() const { return warp >= 4; }
  /// This warp's part of the tile at `first`, for dn or for bringing it.
  __device__ unsigned part(unsigned first) const {
    return first + static_cast<unsigned>(warp % 4 * 16 * kParts);
  }
  /// Bit i: position part(first) + i is real.
  __device__ unsigned reals(const Positions& positions, unsigned first) const {
    return __ballot_sync(~0u, positions.real(part(first) + lane % (16 * kParts)));
  }
  __device__ float4& db2_quad(int quad) const {
    return reinterpret_cast<float4*>(
        db2)[quad * kHelpers + static_cast<int>(threadIdx.x) % kHelpers];
  }

  __device__ void prefetch_part(const Positions& positions, unsigned first, const Io* x,
                                const Io* d) const {
    const unsigned position = part(first) + lane % (16 * kParts);
    if (!positions.real(position)) return;
    prefetch_row<kChannels>(x, position);
    prefetch_row<kChannels>(d, position);
  }

  /// A helping warp's part of n and dy, from memory to shared memory.
  __device__ void bring(const Positions& positions, unsigned first, const Io* x, const Io* d,
                        float eps) const {
    const unsigned real = reals(positions, first);
    float sums[Order::kValues] = {};
#pragma unroll 1
    for (int i = 0; i < kParts; ++i) {
      const int at = 16 * i, row = (warp % 4 * kParts + i) * 16;
      Fragments<kTiles> values[1], grads;
      uint32_t operand[1][kSteps][4];
      load(values[0], x, part(first) + at, real >> at);
      load(grads, d, part(first) + at, real >> at);
      normalise<T, kTiles>(operand, values, eps);
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        store_operand(normed + row * kStride + 16 * step, kStride, operand[0][step], lane);
        to_operand<T>(operand[0][step], grads[2 * step], grads[2 * step + 1]);
        store_operand(dy + row * kStride + 16 * step, kStride, operand[0][step], lane);
      }
#pragma unroll
      for (int v = 0; v < Order::kValues; ++v) {
        sums[v] += value_at<kTiles>(grads, 0, v) + value_at<kTiles>(grads, 1, v);
      }
    }
#pragma unroll
    for (int quad = 0; quad < kSteps; ++quad) {
      float4 sum = db2_quad(quad);
      sum.x += sums[4 * quad], sum.y += sums[4 * quad + 1];
      sum.z += sums[4 * quad + 2], sum.w += sums[4 * quad + 3];
      db2_quad(quad) = sum;
    }
  }

  /// h and g of this warp's hidden units and all positions, and what they add to the sums.
  __device__ void multiply_slice(Sums& sums) const {
    const int unit = kUnits * warp, w2_stride = weights.w2_stride();
    const int by_channel = by_columns(lane, kStride);
    uint32_t w1[kSlice][kSteps][4], w2[kSlice][kSteps][4];  // w2: transposed
    const float* const b1 = weights.b1 + unit + (lane >> 2);
#pragma unroll
    for (int i = 0; i < kSlice; ++i) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        load_matrix_x4(w1[i][step],
                       weights.w1 + (unit + 16 * i) * kStride + 16 * step + by_channel);
        load_matrix_x4_transposed(w2[i][step], weights.w2 + 16 * step * w2_stride + unit + 16 * i +
                                                   by_rows(lane, w2_stride));
      }
    }
    constexpr int kDy = kPositions * kStride;  // from n to dy
    const T *columns = normed + by_rows(lane, kStride), *rows = normed + by_channel;
    T* to = grad + unit * kGradStride;
#pragma unroll 1
    for (int at = 0; at < kPositions; at += 16) {
      Fragments<2> x[kSlice];
      uint32_t operand[kSlice][4];
#pragma unroll
      for (int i = 0; i < kSlice; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) x[i][0][j] = x[i][1][j] = b1[16 * i + j / 2 * 8];
      }
      multiply_channels(x, w1, columns);
      uint32_t active = 0;  // a bit for each of this lane's values of h that is not 0
#pragma unroll
      for (int i = 0; i < kSlice; ++i) {
        to_operand<T, /*kRelu=*/true>(operand[i], x[i][0], x[i][1]);
#pragma unroll
        for (int j = 0; j < 4; ++j) active |= not_zero(operand[i][j]) >> (4 * i + j);
      }
      clear(x);
      multiply_positions(sums.dw2, operand, rows + kDy);
      multiply_channels(x, w2, columns + kDy);
#pragma unroll
      for (int i = 0; i < kSlice; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          float& value = x[i][j / 4][j % 4];
          const uint32_t bit = (j % 2 ? 0x80000000u : 0x8000u) >> (4 * i + j / 2);
          if ((active & bit) == 0) value = 0;
          sums.db1[i][j / 2 % 2] += value;
        }
        to_operand<T>(operand[i], x[i][0], x[i][1]);
      }
      multiply_positions(sums.dw1, operand, rows);
#pragma unroll
      for (int i = 0; i < kSlice; ++i) {
        store_operand(to + 16 * i * kGradStride, kGradStride, operand[i], lane);
      }
      columns += 16 * kStride, rows += 16 * kStride, to += 16;
    }
  }

  /// dn of this warp's part.
  __device__ void multiply_back(Fragments<kTiles> (&dn)[kParts], int hidden) const {
    clear(dn);
    const T* g = grad + warp * 16 * kParts + by_rows(lane, kGradStride);
    const T* w1 = weights.w1 + by_columns(lane, kStride);
#pragma unroll 4
    for (int unit = 0; unit < hidden; unit += 16) {
      uint32_t a[kParts][4], b[4];
#pragma unroll
      for (int i = 0; i < kParts; ++i) load_matrix_x4_transposed(a[i], g + 16 * i);
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        load_matrix_x4_transposed(b, w1 + 16 * step);
#pragma unroll
        for (int i = 0; i < kParts; ++i) multiply<T>(dn[i][2 * step], dn[i][2 * step + 1], a[i], b);
      }
      g += 16 * kGradStride, w1 += 16 * kStride;
    }
  }

  /// dx of this warp's part: dn through the norm, and dy.
  __device__ void finish(Fragments<kTiles> (&dn)[kParts], const Positions& positions,
                         unsigned first, const Io* x, const Io* d, Io* dx, float eps) const {
    const unsigned real = reals(positions, first);
#pragma unroll
    for (int row = 0; row < 2 * kParts; ++row) {
      const int i = 8 * row + lane / 4, t = lane % 4;
      const unsigned position = part(first) + i;
      const auto grad_of = [&](int v) { return value_at<kTiles>(dn[row / 2], row % 2, v); };
      float n[Order::kValues], out[Order::kValues];
      const bool here = real >> i & 1;
      constexpr float kPart = 1.0f / kChannels;
      load_row<kChannels>(x, position, t, here, [&](int v, float value) { n[v] = value; });
      load_row<kChannels>(d, position, t, here, [&](int v, float value) { out[v] = value; });
      // Means of x and dn, then, along x less its mean, of its square and of dn.
      float means[2] = {}, along[2] = {};
#pragma unroll
      for (int v = 0; v < Order::kValues; ++v) {
        means[0] += n[v] * kPart;
        means[1] += grad_of(v) * kPart;
      }
      add_lanes(means);
#pragma unroll
      for (int v = 0; v < Order::kValues; ++v) {
        n[v] -= means[0];
        along[0] += n[v] * n[v];
        along[1] += n[v] * grad_of(v);
      }
      add_lanes(along);
      const float scale = rsqrtf(along[0] * kPart + eps), slope = along[1] * kPart * scale * scale;
#pragma unroll
      for (int v = 0; v < Order::kValues; ++v) {
        out[v] = here ? out[v] + scale * (grad_of(v) - means[1] - n[v] * slope) : 0.0f;
      }
      if (position < positions.count) {
        store_row<kChannels>(dx, position, t, [&](int v) { return out[v]; });
      }
    }
  }

  /// The block's sums, of pair_transition_sums.cuh. Behind a barrier.
  __device__ void leave(Sums& sums, int hidden, float* to) const {
    constexpr int kRow = kSumsRow<kChannels>;
#pragma unroll
    for (int row = 0; row < 2 * kSlice; ++row) {
      const int unit = kUnits * warp + 8 * row + lane / 4;
      float db1 = sums.db1[row / 2][row % 2];
      db1 += __shfl_xor_sync(~0u, db1, 1);
      db1 += __shfl_xor_sync(~0u, db1, 2);
      if (unit >= hidden) continue;
#pragma unroll
      for (int quad = 0; quad < kSteps; ++quad) {
        const int channel = Order::channel(16 * quad + 2 * (lane % 4));
        store_quad(to + unit * kRow + channel, sums.dw1[row / 2], row % 2, quad);
        store_quad(to + unit * kRow + kChannels + channel, sums.dw2[row / 2], row % 2, quad);
      }
      if (lane % 4 == 0) to[unit * kRow + 2 * kChannels] = db1;
    }
    for (int channel = static_cast<int>(threadIdx.x); channel < kChannels;
         channel += kBackwardThreads) {
      const int column = Order::column(channel), t = column % 8 / 2;
      float sum = 0;
      for (int helper = t; helper < kHelpers; helper += 4) {
        sum += db2[(column / 16 * kHelpers + helper) * 4 + column / 8 % 2 * 2 + column % 2];
      }
      to[hidden * kRow + channel] = sum;
    }
  }

  template <int kTilesOfX, int kCount>
  __device__ static void clear(Fragments<kTilesOfX> (&x)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
#pragma unroll
      for (int tile = 0; tile < kTilesOfX; ++tile) {
#pragma unroll
        for (float& value : x[i][tile]) value = 0;
      }
    }
  }

 private:
  /// 0x8000 for the lower half, if it is neither 0 nor -0, and 0x80000000 for the upper.
  __device__ static uint32_t not_zero(uint32_t halves) {
    return ((halves & 0x7fff7fffu) + 0x7fff7fffu) & 0x80008000u;
  }
  // x [units, 16 positions] += `weights` times `columns`, n or dy transposed.
  __device__ static void multiply_channels(Fragments<2> (&x)[kSlice],
                                           const uint32_t (&weights)[kSlice][kSteps][4],
                                           const T* columns) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t b[4];
      load_matrix_x4(b, columns + 16 * step);
#pragma unroll
      for (int i = 0; i < kSlice; ++i) multiply<T>(x[i][0], x[i][1], weights[i][step], b);
    }
  }
  // sum [units, C] += `operand` [units, 16 positions] times `rows`, n or dy.
  __device__ static void multiply_positions(Fragments<kTiles> (&sum)[kSlice],
                                            const uint32_t (&operand)[kSlice][4], const T* rows) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t b[4];
      load_matrix_x4_transposed(b, rows + 16 * step);
#pragma unroll
      for (int i = 0; i < kSlice; ++i) {
        multiply<T>(sum[i][2 * step], sum[i][2 * step + 1], operand[i], b);
      }
    }
  }
  // Positions first + g and first + 8 + g, where their bit is set.
  __device__ void load(Fragments<kTiles>& to, const Io* from, unsigned first, unsigned real) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = 8 * half + lane / 4;
      load_row<kChannels>(from, first + i, lane % 4, real >> i & 1,
                          [&](int v, float value) { value_at<kTiles>(to, half, v) = value; });
    }
  }
  __device__ static void store_quad(float* to, Fragments<kTiles>& x, int half, int quad) {
    const auto value = [&](int i) { return value_at<kTiles>(x, half, 4 * quad + i); };
    *reinterpret_cast<float4*>(to) = {value(0), value(1), value(2), value(3)};
  }
};

template <class Io, class T, int kChannels, int kSlice, int kParts>
__global__ void __launch_bounds__(kBackwardThreads, 1)
    transition_backward_kernel(Positions positions, TransitionWeights<T> weights,
                               const Io* __restrict__ x, const Io* __restrict__ dy,
                               Io* __restrict__ dx, float* __restrict__ sums_of_blocks) {
  using Tile = BackwardTile<Io, T, kChannels, kSlice, kParts>;
  const Tile tile;
  const int lane = tile.lane, warp = tile.warp;
  const unsigned stride = Tile::kPositions * gridDim.x;
  // The first tile from `first` on that is not all padding; others get their zeros.
  const auto worthwhile = [&](unsigned first) {
    for (; positions.lengths != nullptr && first < positions.count; first += stride) {
      bool any = false;
#pragma unroll
      for (int i = 0; i < Tile::kPositions; i += 32) any |= positions.real(first + i + lane);
      if (__ballot_sync(~0u, any) != 0) break;
      for (unsigned i = first + 8 * warp + lane / 4;
           i < first + Tile::kPositions && i < positions.count; i += 64) {
        store_row<kChannels>(dx, i, lane % 4, [](int) { return 0.0f; });
      }
    }
    return first;
  };
  const unsigned start = worthwhile(Tile::kPositions * blockIdx.x);
  if (tile.helps()) {
    tile.prefetch_part(positions, start, x, dy);
    for (int quad = 0; quad < Tile::kSteps; ++quad) tile.db2_quad(quad) = {0, 0, 0, 0};
  }
  tile.weights.template stage<Io>(weights);
  __syncthreads();
  typename Tile::Sums sums = {};
  // The tile in shared memory, none at first, and the one that follows.
  unsigned first = positions.count, next = start;
  while (first < positions.count || next < positions.count) {
    const bool here = first < positions.count;
    if (here && Tile::kUnits * warp < weights.hidden) tile.multiply_slice(sums);
    barrier();
    if (tile.helps()) {
      if (next < positions.count) {
        tile.bring(positions, next, x, dy, weights.eps);
        tile.prefetch_part(positions, next + stride, x, dy);
      }
      barrier();
    } else if (here) {
      Fragments<Tile::kTiles> dn[kParts];
      tile.multiply_back(dn, weights.hidden);
      barrier();
      tile.finish(dn, positions, first, x, dy, dx, weights.eps);
    } else {
      barrier();
    }
    first = next;
    next = worthwhile(next + stride);
  }
  tile.leave(sums, weights.hidden,
             sums_of_blocks + int64_t{blockIdx.x} * (weights.hidden + 1) * kSumsRow<kChannels>);
}

}  // namespace ribo::kernels
