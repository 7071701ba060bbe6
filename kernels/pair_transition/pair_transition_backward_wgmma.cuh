// The backward pass of the pair transition (pair_transition_backward.cuh) by a warpgroup's matrix
// instructions, for C = 64 and up to 256 hidden units.
//
// Each of a block's two warpgroups has twice 64 hidden units, for which it computes h and g of all
// 128 positions of a tile, 64 at a time, and adds to dW1 and dW2, which stay in its registers to
// the end. g goes through shared memory: each warpgroup computes dn of 64 positions, and brings as
// many of the next tile while that product runs.
#pragma once

#include "pair_transition/pair_transition_backward_rows.cuh"
#include "pair_transition/pair_transition_wgmma.cuh"

namespace ribo::kernels {

inline constexpr int kWgmmaBackwardThreads = 256, kWgmmaBackwardPositions = 128;

template <class Io, class T>
struct WgmmaBackwardTile {
  static constexpr int kChannels = 64, kSteps = kChannels / 16;
  /// 64 units and 64 positions: what instructions that run on have in registers.
  struct Item {
    Sums64 x;                                      // W1 n, then W2^T dy
    uint32_t hidden[kSteps][4], grads[kSteps][4];  // h and g as operands of 16 positions
  };
  static constexpr int kPositions = kWgmmaBackwardPositions, kThreads = kWgmmaBackwardThreads;
  static constexpr int64_t kRowsBytes = 2 * kPositions * kChannels;
  static constexpr int64_t kGradBytes = 2 * kPositions * kWgmmaUnits;
  static constexpr int64_t kOnesBytes = 2 * 16 * 64;
  static constexpr int64_t kBytes = WgmmaWeights<T>::kBytes + 4 * kRowsBytes + kGradBytes +
                                    kOnesBytes + 4 * (2 * kPositions + kThreads * kChannels / 4);

  WgmmaWeights<T> weights;
  char* const rows;       // of two tiles: n and dy [position, C] each
  SwizzledRows<T> grad;   // g [position / 64, unit, position % 64]
  SwizzledRows<T> ones;   // [16, 64]
  float* const scales;    // of two tiles, [position]: of the norm; -1 where that is not real
  float* const db2;       // db2_quad()
  const int lane, group;  // of a warpgroup
  const int part;         // this warp's first position of a tile, of 16, for dn and bringing
  const int lane_place;   // of this lane's first row there, in SwizzledRows

  __device__ explicit WgmmaBackwardTile(int warp)
      : weights(shared_memory<char>()),
        rows(shared_memory<char>() + WgmmaWeights<T>::kBytes),
        grad(reinterpret_cast<T*>(rows + 4 * kRowsBytes)),
        ones(grad.rows + kPositions * kWgmmaUnits),
        scales(reinterpret_cast<float*>(ones.rows + 16 * 64)),
        db2(scales + 2 * kPositions),
        lane(static_cast<int>(threadIdx.x % 32)),
        group(warp / 4),
        part(16 * warp),
        lane_place(SwizzledRows<T>::place(part + lane / 4, 2 * (lane % 4))) {}

  __device__ SwizzledRows<T> normed(int turn) const {
    return SwizzledRows<T>(reinterpret_cast<T*>(rows + turn % 2 * 2 * kRowsBytes));
  }
  __device__ SwizzledRows<T> dy(int turn) const {
    return SwizzledRows<T>(reinterpret_cast<T*>(rows + (turn % 2 * 2 + 1) * kRowsBytes));
  }
  __device__ float* scale(int turn) const { return scales + turn % 2 * kPositions; }

  __device__ void prefetch_part(const Positions& positions, unsigned first, const Io* x,
                                const Io* d) const {
    const unsigned position = first + part + lane % 16;
    if (positions.real(position)) prefetch_row<kChannels>(lane < 16 ? x : d, position);
  }

  /// Bit i: position first + part + i is real.
  __device__ unsigned reals(const Positions& positions, unsigned first) const {
    return __ballot_sync(~0u, positions.real(first + part + lane % 16));
  }
  /// This warp's part of a tile to shared memory.
  __device__ void bring_x(const RowsOfLane<Io, kChannels>& x, unsigned real, int turn,
                          float eps) const {
    const SwizzledRows<T> to = normed(turn);
    bring_normed<T>(x, real, scale(turn) + part, eps,
                    [&](int step, const uint32_t(&n)[4]) { store(to, 0, 16 * step, n); });
  }
  __device__ void bring_d(const RowsOfLane<Io, kChannels>& d, int turn) const {
    const SwizzledRows<T> to = dy(turn);
    bring_dy<T>(
        d, [&](int step, const uint32_t(&grads)[4]) { store(to, 0, 16 * step, grads); },
        [&](int quad, const float4& sum) { add(db2_quad<kThreads>(db2, quad), sum); });
  }

  /// W1 n + b1 of 64 units and the 64 positions from `at` on: a group of instructions.
  __device__ void begin(Item& item, int turn, int block, int at) const {
    begin_wgmma();
    wgmma<false>(item.x, weights.biases.from(16 * group).across(32 * block), ones.across(0));
    multiply_channels<true>(item.x, weights.w1, block, normed(turn), at);
  }
  /// Behind begin(), h and g, and what they add to the sums. Of db1 a lane has those of its two
  /// rows, each twice. The last group of instructions, dW1's, runs on.
  __device__ void multiply(Item& item, Sums64& dw1, Sums64& dw2, float (&db1)[4], int turn,
                           int block, int at) const {
    const SwizzledRows<T> n = normed(turn), d = dy(turn);
    Sums64& x = item.x;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      to_operand<T, /*kRelu=*/true>(item.hidden[step], x[2 * step], x[2 * step + 1]);
#pragma unroll
      for (int j = 0; j < 4; ++j) item.grads[step][j] = where_positive(item.hidden[step][j]);
    }
    begin_wgmma(item.hidden, item.grads);
    multiply_channels<false>(x, weights.w2, block, d, at);
    multiply_positions(dw2, item.hidden, d, at);
    await_wgmma<1>(x);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t grads[4];
      to_operand<T>(grads, x[2 * step], x[2 * step + 1]);
#pragma unroll
      for (int j = 0; j < 4; ++j) item.grads[step][j] &= grads[j];
      const uint32_t all_ones[2] = {pack<T>(1, 1), pack<T>(1, 1)};
      mma_16x8x16<T>(db1, item.grads[step], all_ones);
    }
    begin_wgmma(item.grads, db1);
    multiply_positions(dw1, item.grads, n, at);
  }
  /// g of multiply(), for multiply_back().
  __device__ void keep(const Item& item, int block, int at) const {
    const int row = kWgmmaUnits * (at / 64) + 128 * block;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) store(grad, row, 16 * step, item.grads[step]);
  }

  /// dn of this warpgroup's 64 positions: a group of instructions.
  __device__ void multiply_back(Sums64& dn) const {
#pragma unroll
    for (int unit = 0; unit < kWgmmaUnits; unit += 16) {
      const auto g = grad.from(kWgmmaUnits * group).across(unit), w1 = weights.w1.across(unit);
      if (unit == 0) {
        wgmma<false>(dn, g, w1);
      } else {
        wgmma(dn, g, w1);
      }
    }
    end_wgmma();
  }

  /// dx of this warp's part: dn through the norm, and dy.
  __device__ void finish(Sums64& dn, int turn, const Positions& positions, unsigned first,
                         const Io* d, Io* dx) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = part + 8 * half + lane / 4;
      const auto read = [&](uint32_t(&to)[kChannels / 8], const SwizzledRows<T>& from) {
#pragma unroll
        for (int w = 0; w < kChannels / 8; ++w) {
          const T* const at = from.rows + SwizzledRows<T>::moved(lane_place, 8 * w) + 64 * 8 * half;
          to[w] = *reinterpret_cast<const uint32_t*>(at);
        }
      };
      finish_row<T, kChannels>(
          dn, half, scale(turn)[i], first + i, positions.count, d, dx,
          [&](uint32_t(&to)[kChannels / 8]) { read(to, normed(turn)); },
          [&](uint32_t(&to)[kChannels / 8]) { read(to, dy(turn)); });
    }
  }

 private:
  // Operand A of 16 x 16 to this warp's rows of each 128, those from `row` on.
  __device__ void store(const SwizzledRows<T>& to, int row, int column,
                        const uint32_t (&a)[4]) const {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int place = SwizzledRows<T>::moved(lane_place, column + j / 2 * 8);
      *reinterpret_cast<uint32_t*>(to.rows + place + 64 * (row + j % 2 * 8)) = a[j];
    }
  }
  // x [64 units, 64 positions] = or += `of` [units, C] times `with`, n or dy transposed.
  template <bool kAdd>
  __device__ void multiply_channels(Sums64& x, const SwizzledRows<T>& of, int block,
                                    const SwizzledRows<T>& with, int at) const {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const auto a = of.from(64 * group).along(128 * block, 16 * step),
                 b = with.along(at, 16 * step);
      if (step == 0 && !kAdd) {
        wgmma<false>(x, a, b);
      } else {
        wgmma(x, a, b);
      }
    }
    end_wgmma();
  }
  // sum [64 units, C] += `of` [units, 64 positions] times `with`, n or dy.
  __device__ static void multiply_positions(Sums64& sum, const uint32_t (&of)[kSteps][4],
                                            const SwizzledRows<T>& with, int at) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) wgmma(sum, of[step], with.across(at + 16 * step));
    end_wgmma();
  }
};

template <class Io, class T>
__global__ void __launch_bounds__(kWgmmaBackwardThreads, 1)
    transition_backward_wgmma_kernel([[maybe_unused]] Positions positions,
                                     [[maybe_unused]] const void* __restrict__ folded,
                                     [[maybe_unused]] int hidden, [[maybe_unused]] float eps,
                                     [[maybe_unused]] const Io* __restrict__ x,
                                     [[maybe_unused]] const Io* __restrict__ dy,
                                     [[maybe_unused]] Io* __restrict__ dx,
                                     [[maybe_unused]] float* __restrict__ sums_of_blocks) {
#ifdef RIBO_WGMMA
  using Tile = WgmmaBackwardTile<Io, T>;
  constexpr int kBlocks = kWgmmaUnits / 128;  // of 64 units, of a warpgroup
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x / 32), 0);
  const Tile tile(warp);
  const unsigned stride = Tile::kPositions * gridDim.x;
  const auto worthwhile = [&](unsigned from) {
    return next_tile<Tile::kPositions, Tile::kThreads, Tile::kChannels>(positions, from, stride,
                                                                        dx);
  };
  unsigned first = worthwhile(Tile::kPositions * blockIdx.x);
  clear_db2<Tile::kChannels, Tile::kThreads>(tile.db2);
  for (int i = static_cast<int>(threadIdx.x); i < 16 * 64; i += Tile::kThreads) {
    tile.ones.rows[i] = narrow<T>(1);
  }
  RowsOfLane<Io, Tile::kChannels> of_x, of_dy;
  unsigned real = tile.reals(positions, first);
  of_x.load(x, first + tile.part, real);
  of_dy.load(dy, first + tile.part, real);
  tile.bring_x(of_x, real, 0, eps);
  tile.bring_d(of_dy, 0);
  tile.prefetch_part(positions, first + stride, x, dy);
  await_previous();
  tile.weights.fetch(folded);
  __pipeline_wait_prior(0);
  publish_to_wgmma();
  __syncthreads();
  Sums64 dw1[kBlocks] = {}, dw2[kBlocks] = {};
  float db1[kBlocks][4] = {};
  typename Tile::Item item;
  tile.begin(item, 0, 0, 0);
  await_wgmma<0>(item.x);
  // Registers allow to load rows of 16 bits in front of the product of dn, those of 32 one by one.
  constexpr bool kEarly = sizeof(Io) == 2;
  for (int turn = 0; first < positions.count; ++turn) {
    const unsigned next = worthwhile(first + stride);
#pragma unroll
    for (int i = 0; i < 2 * kBlocks; ++i) {
      const int block = i % kBlocks, at = i / kBlocks * 64;
      tile.multiply(item, dw1[block], dw2[block], db1[block], turn, block, at);
      if (i + 1 < 2 * kBlocks) {
        tile.begin(item, turn, (i + 1) % kBlocks, (i + 1) / kBlocks * 64);
        tile.keep(item, block, at);
        await_wgmma<0>(item.x, item.hidden, item.grads);
      } else {
        real = tile.reals(positions, next);
        if (kEarly) {
          of_x.load(x, next + tile.part, real);
          of_dy.load(dy, next + tile.part, real);
        }
        tile.keep(item, block, at);
      }
    }
    publish_to_wgmma();
    __syncthreads();
    Sums64 dn;
    begin_wgmma();
    tile.multiply_back(dn);
    await_wgmma<1>(item.hidden, item.grads);
    if (next < positions.count) {
      if (!kEarly) of_x.load(x, next + tile.part, real);
      tile.bring_x(of_x, real, turn + 1, eps);
      if (!kEarly) of_dy.load(dy, next + tile.part, real);
      tile.bring_d(of_dy, turn + 1);
      tile.prefetch_part(positions, next + stride, x, dy);
    }
    await_wgmma<0>(dn);
    publish_to_wgmma();
    __syncthreads();
    // Of nothing at the end, where its sums are not used.
    tile.begin(item, turn + 1, 0, 0);
    tile.finish(dn, turn, positions, first, dy, dx);
    await_wgmma<0>(item.x);
    first = next;
  }
  float* const to = sums_of_blocks + int64_t{blockIdx.x} * (hidden + 1) * kSumsRow<64>;
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int unit = 128 * block + tile.part + 8 * half + tile.lane / 4;
      leave_unit<64>(dw1[block], dw2[block], half, db1[block][2 * half], unit, hidden, to);
    }
  }
  leave_db2<Io, 64, Tile::kThreads>(tile.db2, to + hidden * kSumsRow<64>);
#endif
}

}  // namespace ribo::kernels
