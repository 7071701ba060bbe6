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
// tile, beside this one; what warps 0 to 3 do behind that has company in the next tile's products
// of warps 4 to 7.
#pragma once

#include "pair_transition/pair_transition_backward_rows.cuh"

namespace ribo::kernels {

inline constexpr int kBackwardThreads = 256;

/// What a warp adds up over all tiles, for its slice of the hidden units.
template <int kTiles, int kSlice>
struct TransitionSums {
  Fragments<kTiles> dw1[kSlice], dw2[kSlice];  // [hidden unit, C]
  float db1[kSlice][2];                        // of units g and g + 8, and this lane's positions
};

/// A tile in shared memory.
template <class T>
struct TransitionRows {
  T *normed, *dy;  // n and dy [position, C]
  float* scale;    // [position]: of the norm; -1 where the position is not real
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
                                    2 * (4 * kPositions * kStride + kHidden * kGradStride) +
                                    4 * (kHelpers * kChannels / 4 + 2 * kPositions);

  Weights weights;
  T* rows_at;     // of two tiles: n and dy, [position, C] each
  T* grad;        // g [hidden, position]
  float* db2;     // [C / 16, kHelpers, 4]: of each helping lane's rows and channels
  float* scales;  // of two tiles
  int lane, warp;

  __device__ BackwardTile()
      : weights(shared_memory<char>(), kHidden),
        rows_at(reinterpret_cast<T*>(weights.b2 + kChannels)),
        grad(rows_at + 4 * kPositions * kStride),
        db2(reinterpret_cast<float*>(grad + kHidden * kGradStride)),
        scales(db2 + kHelpers * kChannels / 4),
        lane(static_cast<int>(threadIdx.x % 32)),
        warp(static_cast<int>(threadIdx.x / 32)) {}

  __device__ bool helps() const { return warp >= 4; }
  /// One of two tiles.
  __device__ TransitionRows<T> rows(int which) const {
    T* const normed = rows_at + which * 2 * kPositions * kStride;
    return {normed, normed + kPositions * kStride, scales + which * kPositions};
  }
  /// This warp's part of the tile at `first`, for dn or for bringing it.
  __device__ unsigned part(unsigned first) const {
    return first + static_cast<unsigned>(warp % 4 * 16 * kParts);
  }
  /// Bit i: position part(first) + i is real.
  __device__ unsigned reals(const Positions& positions, unsigned first) const {
    return __ballot_sync(~0u, positions.real(part(first) + lane % (16 * kParts)));
  }
  __device__ void prefetch_part(const Positions& positions, unsigned first, const Io* x,
                                const Io* d) const {
    const unsigned position = part(first) + lane % (16 * kParts);
    if (!positions.real(position)) return;
    prefetch_row<kChannels>(x, position);
    prefetch_row<kChannels>(d, position);
  }

  /// A helping warp's part of a tile, from memory to shared memory.
  __device__ void bring(const TransitionRows<T>& to, const Positions& positions, unsigned first,
                        const Io* x, const Io* d, float eps) const {
    const unsigned real = reals(positions, first);
    float4 sums[kSteps] = {};
#pragma unroll 1
    for (int i = 0; i < kParts; ++i) {
      const int at = 16 * i, row = (warp % 4 * kParts + i) * 16;
      const int corner = row * kStride + by_pairs(lane, kStride);
      RowsOfLane<Io, kChannels> of_x, of_dy;
      of_x.load(x, part(first) + at, real >> at);
      of_dy.load(d, part(first) + at, real >> at);
      bring_normed<T>(of_x, real >> at, to.scale + row, eps, [&](int step, const uint32_t(&n)[4]) {
        store_operand(to.normed + corner + 16 * step, kStride, n);
      });
      bring_dy<T>(
          of_dy,
          [&](int step, const uint32_t(&grads)[4]) {
            store_operand(to.dy + corner + 16 * step, kStride, grads);
          },
          [&](int quad, const float4& sum) { add(sums[quad], sum); });
    }
#pragma unroll
    for (int quad = 0; quad < kSteps; ++quad) add(db2_quad<kHelpers>(db2, quad), sums[quad]);
  }

  /// h and g of this warp's hidden units and all positions, and what they add to the sums.
  __device__ void multiply_slice(Sums& sums, const TransitionRows<T>& from) const {
    const int unit = kUnits * warp, w2_stride = weights.w2_stride();
    const int by_channel = by_columns(lane, kStride);
    uint32_t w1[kSlice][kSteps][4], w2[kSlice][kSteps][4];  // w2: transposed
    float b1[kSlice][2];
#pragma unroll
    for (int i = 0; i < kSlice; ++i) {
      b1[i][0] = weights.b1[unit + 16 * i + lane / 4];
      b1[i][1] = weights.b1[unit + 16 * i + lane / 4 + 8];
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        load_matrix_x4(w1[i][step],
                       weights.w1 + (unit + 16 * i) * kStride + 16 * step + by_channel);
        load_matrix_x4_transposed(w2[i][step], weights.w2 + 16 * step * w2_stride + unit + 16 * i +
                                                   by_rows(lane, w2_stride));
      }
    }
    constexpr int kDy = kPositions * kStride;  // from n to dy
    const T *columns = from.normed + by_rows(lane, kStride), *rows = from.normed + by_channel;
    T* to = grad + unit * kGradStride + by_pairs(lane, kGradStride);
#pragma unroll 1
    for (int at = 0; at < kPositions; at += 16) {
      Fragments<2> x[kSlice];
      uint32_t operand[kSlice][4];
#pragma unroll
      for (int i = 0; i < kSlice; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) x[i][0][j] = x[i][1][j] = b1[i][j / 2];
      }
      multiply_channels(x, w1, columns);
#pragma unroll
      for (int i = 0; i < kSlice; ++i) {
        to_operand<T, /*kRelu=*/true>(operand[i], x[i][0], x[i][1]);
      }
      clear(x);
      multiply_positions(sums.dw2, operand, rows + kDy);
      multiply_channels(x, w2, columns + kDy);
#pragma unroll
      for (int i = 0; i < kSlice; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float(&pair)[4] = x[i][j / 2];
          const uint32_t grads =
              pack<T>(pair[j % 2 * 2], pair[j % 2 * 2 + 1]) & where_positive(operand[i][j]);
          float low, high;
          unpack<T>(grads, low, high);
          sums.db1[i][j % 2] += low + high;
          operand[i][j] = grads;
        }
      }
      multiply_positions(sums.dw1, operand, rows);
#pragma unroll
      for (int i = 0; i < kSlice; ++i) {
        store_operand(to + 16 * i * kGradStride, kGradStride, operand[i]);
      }
      columns += 16 * kStride, rows += 16 * kStride, to += 16;
    }
  }

  /// dn of this warp's part. The next operands are on their way while these are multiplied.
  __device__ void multiply_back(Fragments<kTiles> (&dn)[kParts], int units) const {
    clear(dn);
    const T* const g = grad + warp * 16 * kParts + by_rows(lane, kGradStride);
    const T* const w1 = weights.w1 + by_columns(lane, kStride);
    uint32_t a[2][kParts][4], b[2][kSteps][4];
    const auto load = [&](int which, int unit) {
#pragma unroll
      for (int i = 0; i < kParts; ++i) {
        load_matrix_x4_transposed(a[which][i], g + unit * kGradStride + 16 * i);
      }
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        load_matrix_x4_transposed(b[which][step], w1 + unit * kStride + 16 * step);
      }
    };
    load(0, 0);
#pragma unroll 1
    for (int unit = 0; unit < units; unit += 32) {
#pragma unroll
      for (int which = 0; which < 2; ++which) {
        load(1 - which, min(unit + 16 + 16 * which, units - 16));
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
#pragma unroll
          for (int i = 0; i < kParts; ++i) {
            multiply<T>(dn[i][2 * step], dn[i][2 * step + 1], a[which][i], b[which][step]);
          }
        }
      }
    }
  }

  /// dx of this warp's part: dn through the norm, and dy.
  __device__ void finish(Fragments<kTiles> (&dn)[kParts], const TransitionRows<T>& from,
                         const Positions& positions, unsigned first, const Io* d, Io* dx) const {
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int row = 16 * (kParts * warp + part);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int i = row + 8 * half + lane / 4;
        const int at = i * kStride + 2 * (lane % 4);
        finish_row<T, kChannels>(
            dn[part], half, from.scale[i], first + i, positions.count, d, dx,
            [&](uint32_t(&n)[kTiles]) { read_row(n, from.normed + at); },
            [&](uint32_t(&grads)[kTiles]) { read_row(grads, from.dy + at); });
      }
    }
  }

  /// The block's sums, of pair_transition_sums.cuh. Behind a barrier.
  __device__ void leave(Sums& sums, int hidden, float* to) const {
#pragma unroll
    for (int row = 0; row < 2 * kSlice; ++row) {
      const int unit = kUnits * warp + 8 * row + lane / 4;
      float db1[1] = {sums.db1[row / 2][row % 2]};
      add_lanes(db1);
      leave_unit<kChannels>(sums.dw1[row / 2], sums.dw2[row / 2], row % 2, db1[0], unit, hidden,
                            to);
    }
    leave_db2<Io, kChannels, kHelpers>(db2, to + hidden * kSumsRow<kChannels>);
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
  // A lane's values of n or dy.
  __device__ static void read_row(uint32_t (&words)[kTiles], const T* from) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) words[i] = *reinterpret_cast<const uint32_t*>(from + 8 * i);
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
};

template <class Io, class T, int kChannels, int kSlice, int kParts>
__global__ void __launch_bounds__(kBackwardThreads, 1)
    transition_backward_kernel(Positions positions, const void* __restrict__ weights, int hidden,
                               float eps, const Io* __restrict__ x, const Io* __restrict__ dy,
                               Io* __restrict__ dx, float* __restrict__ sums_of_blocks) {
  using Tile = BackwardTile<Io, T, kChannels, kSlice, kParts>;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  if (Tile::kBytes > 163 * 1024) return;  // more than there is: no code
#endif
  const Tile tile;
  const int warp = tile.warp;
  const unsigned stride = Tile::kPositions * gridDim.x;
  const auto worthwhile = [&](unsigned from) {
    return next_tile<Tile::kPositions, kBackwardThreads, kChannels>(positions, from, stride, dx);
  };
  // The tile in shared memory, none at first, and the one that follows.
  unsigned first = positions.count, next = worthwhile(Tile::kPositions * blockIdx.x);
  if (tile.helps()) {
    tile.prefetch_part(positions, next, x, dy);
    clear_db2<kChannels, Tile::kHelpers>(tile.db2);
  }
  tile.weights.fetch(weights);
  typename Tile::Sums sums = {};
  // Those beyond the hidden ones have no weights, and so no gradients.
  const int units = (hidden + 31) / 32 * 32;
  for (int turn = 0; first < positions.count || next < positions.count; ++turn) {
    const bool here = first < positions.count;
    const auto rows = tile.rows(turn % 2);
    if (here && Tile::kUnits * warp < units) tile.multiply_slice(sums, rows);
    barrier();
    if (tile.helps()) {
      if (next < positions.count) {
        tile.bring(tile.rows((turn + 1) % 2), positions, next, x, dy, eps);
        tile.prefetch_part(positions, next + stride, x, dy);
      }
      __pipeline_wait_prior(0);  // the weights, in the first turn
      arrive<kBackwardThreads>(1);
      wait_for_other<kBackwardThreads>(1);
    } else if (here) {
      Fragments<Tile::kTiles> dn[kParts];
      tile.multiply_back(dn, units);
      arrive<kBackwardThreads>(0);
      tile.finish(dn, rows, positions, first, dy, dx);
      wait_for_other<kBackwardThreads>(0);
    } else {
      __pipeline_wait_prior(0);
      arrive<kBackwardThreads>(0);
      wait_for_other<kBackwardThreads>(0);
    }
    first = next;
    next = worthwhile(next + stride);
  }
  __syncthreads();
  tile.leave(sums, hidden,
             sums_of_blocks + int64_t{blockIdx.x} * (hidden + 1) * kSumsRow<kChannels>);
}

}  // namespace ribo::kernels
