// The backward pass reads the pairs' gradient g once. A block has a piece of the positions j, whose
// b stays in shared memory, and a slice of the positions i, one after the other; the next one's g
// arrives meanwhile. With both, for T = `projected`:
//
//   T_grad[i] = g[i]^T b       each of four warps has 16 channels, and all j of the piece
//   b_grad   += g[i] T[i]      each of four others has 48 positions j; sums stay in its registers
#pragma once

#include "common/copy_async.cuh"
#include "common/rows.cuh"
#include "outer_product_mean/outer_product_mean_cuda.h"

namespace ribo::kernels::outer_product {

inline constexpr int kTeam = 4;  // warps for either product
inline constexpr int kBackwardThreads = 2 * 32 * kTeam;
inline constexpr int kRowTiles = 3;  // of a warp, 16 positions each
inline constexpr int kStages = 3;    // positions i in shared memory
inline constexpr int kPiece = 16 * kTeam * kRowTiles;

template <class Io, class T, int kWidth, int kChannels>
struct BackwardBlock {
  static constexpr int kBStride = kWidth + kPadding, kGStride = kChannels + kPadding;
  static constexpr int kColumnTiles = kWidth / 8, kSteps = kChannels / 16;

  struct Stage {
    alignas(16) T g[kPiece * kGStride];
    T projected[kChannels * kBStride];
  };
  struct Shared {
    alignas(16) T b[kPiece * kBStride];
    Stage stage[kStages];
  };
  struct Sums {
    Fragments<kColumnTiles> b[kRowTiles];
    float bias[1][4];  // in every column
  };

  const CudaOuterProductBackward& a;
  Shared& shared;
  int64_t sequence;
  int first, count, real;  // positions j: of the piece, and how many of those are no padding
  int thread = static_cast<int>(threadIdx.x);
  int lane = thread % 32, warp = thread / 32 % kTeam;
  bool adds_b = thread / 32 >= kTeam;  // or multiplies b

  /// `real`, and rows of zeros that make it a multiple of 16.
  __device__ int rows() const { return (real + 15) / 16 * 16; }
  __device__ int64_t pair(int i, int j) const {
    return ((sequence * a.length + i) * a.length + first + j) * kChannels;
  }

  template <int kColumns>
  __device__ void stage_rows(T* to, const void* from, int wanted, int there) const {
    constexpr int kPieces = kColumns / 8, kRows = kBackwardThreads / kPieces;
    const int column = thread % kPieces * 8;
#pragma unroll 3
    for (int row = thread / kPieces; row < wanted; row += kRows) {
      const unsigned at = static_cast<unsigned>(row * kColumns + column);
      copy_async(to + row * (kColumns + kPadding) + column, static_cast<const T*>(from) + at,
                 row < there);
    }
  }
  __device__ void stage_b() const {
    stage_rows<kWidth>(shared.b,
                       static_cast<const T*>(a.b) + (sequence * a.length + first) * kWidth, rows(),
                       real);
  }
  /// g and T of position i. What is float32 is rounded on the way.
  __device__ void stage_position(Stage& to, int i) const {
    const int64_t position = sequence * a.length + i;
    stage_rows<kWidth>(to.projected,
                       static_cast<const T*>(a.projected) + position * kChannels * kWidth,
                       kChannels, kChannels);
    const Io* const g = static_cast<const Io*>(a.out_grad) + pair(i, 0);
    if constexpr (sizeof(Io) == sizeof(T)) {
      stage_rows<kChannels>(to.g, g, rows(), real);
    } else {
      constexpr int kPieces = kChannels / 4;
#pragma unroll 4
      for (int k = thread; k < rows() * kPieces; k += kBackwardThreads) {
        const int row = k / kPieces, column = k % kPieces * 4;
        float4 x = {0, 0, 0, 0};
        if (row < real) x = *reinterpret_cast<const float4*>(g + row * kChannels + column);
        *reinterpret_cast<Words<2>*>(to.g + row * kGStride + column) = {pack<T>(x.x, x.y),
                                                                        pack<T>(x.z, x.w)};
      }
    }
  }

  /// Passes g on as the gradient of the residual; from `there` on zeros.
  __device__ void pass_on(const Stage& stage, int i, int there) const {
    if (a.residual_grad == nullptr) return;
    constexpr int kVector = 16 / sizeof(Io), kPieces = kChannels / kVector;
    const Io* const from = static_cast<const Io*>(a.out_grad) + pair(i, 0);
    Io* const to = static_cast<Io*>(a.residual_grad) + pair(i, 0);
    for (int k = thread; k < count * kPieces; k += kBackwardThreads) {
      const int row = k / kPieces, column = k % kPieces * kVector;
      Words<4> words{};
      if (row < there) {
        if constexpr (sizeof(Io) == sizeof(T)) {
          words = *reinterpret_cast<const Words<4>*>(stage.g + row * kGStride + column);
        } else {
          words = *reinterpret_cast<const Words<4>*>(from + row * kChannels + column);
        }
      }
      store_words(to + row * kChannels + column, words);
    }
  }

  __device__ void add_b(Sums& sums, const Stage& stage) const {
    uint32_t projected[kSteps][kWidth / 16][4];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int column = 0; column < kWidth / 16; ++column) {
        load_matrix_x4_transposed(
            projected[step][column],
            stage.projected + 16 * step * kBStride + 16 * column + by_columns(lane, kBStride));
      }
    }
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
      const int row = 16 * (warp + kTeam * tile);
      if (row >= real) break;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        uint32_t g[4];
        load_matrix_x4(g, stage.g + row * kGStride + 16 * step + by_columns(lane, kGStride));
#pragma unroll
        for (int column = 0; column < kWidth / 16; ++column) {
          multiply<T>(sums.b[tile][2 * column], sums.b[tile][2 * column + 1], g,
                      projected[step][column]);
        }
      }
    }
  }

  /// T_grad[i], and what g adds to the gradient of the bias: its product with ones.
  __device__ void multiply_b(Sums& sums, const Stage& stage, int i) const {
    if (16 * warp >= kChannels) return;
    Fragments<kColumnTiles> sum = {};
    const uint32_t ones[2] = {pack<T>(1, 1), pack<T>(1, 1)};
    const T* g_at = stage.g + 16 * warp + by_rows(lane, kGStride);
    const T* b_at = shared.b + by_columns(lane, kBStride);
#pragma unroll 2
    for (int j = 0; j < real; j += 16) {
      uint32_t g[4];
      load_matrix_x4_transposed(g, g_at);
      mma_16x8x16<T>(sums.bias[0], g, ones);
#pragma unroll
      for (int column = 0; column < kWidth / 16; ++column) {
        uint32_t b[4];
        load_matrix_x4_transposed(b, b_at + 16 * column);
        multiply<T>(sum[2 * column], sum[2 * column + 1], g, b);
      }
      g_at += 16 * kGStride, b_at += 16 * kBStride;
    }
    write_projected(sum, i);
  }

  __device__ void write_projected(const Fragments<kColumnTiles>& sum, int i) const {
    if (16 * warp >= kChannels) return;
    const int64_t positions = int64_t{a.batch} * a.length, at = sequence * a.length + i;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int z = 16 * warp + 8 * half + lane / 4;
      const int64_t row = (at * kChannels + z) * kWidth + lane % 4 * 2;
#pragma unroll
      for (int tile = 0; tile < kColumnTiles; ++tile) {
        const float low = sum[tile][2 * half], high = sum[tile][2 * half + 1];
        const int64_t to = row + 8 * tile;
        if (a.pieces == 1) {
          *reinterpret_cast<uint32_t*>(static_cast<T*>(a.projected_grad) + to) = pack<T>(low, high);
        } else {
          const int64_t piece = first / kPiece * positions * kChannels * kWidth;
          *reinterpret_cast<float2*>(static_cast<float*>(a.projected_grad) + piece + to) = {low,
                                                                                            high};
        }
      }
    }
  }

  __device__ void leave(const Sums& sums, int slice) const {
    if (!adds_b) {
      if (16 * warp >= kChannels || lane % 4 != 0) return;
      float* const bias = a.bias_sums + int64_t{blockIdx.x} * kChannels + 16 * warp + lane / 4;
      bias[0] = sums.bias[0][0], bias[8] = sums.bias[0][2];
      return;
    }
    float* const b_sums =
        a.b_sums + ((int64_t{slice} * a.batch + sequence) * a.length + first) * kWidth;
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int j = 16 * (warp + kTeam * tile) + 8 * half + lane / 4;
        if (j >= count) continue;
#pragma unroll
        for (int column = 0; column < kColumnTiles; ++column) {
          const auto& x = sums.b[tile][column];
          *reinterpret_cast<float2*>(b_sums + j * kWidth + 8 * column + lane % 4 * 2) = {
              x[2 * half], x[2 * half + 1]};
        }
      }
    }
  }
};

template <class Io, class T, int kWidth, int kChannels>
__global__ void __launch_bounds__(kBackwardThreads, 2) backward_kernel(CudaOuterProductBackward a) {
  using Block = BackwardBlock<Io, T, kWidth, kChannels>;
  const int index = static_cast<int>(blockIdx.x), piece = index % a.pieces;
  const int slice = index / a.pieces % a.slices, sequence = index / a.pieces / a.slices;
  const int end = static_cast<int>(length_of(a.lengths, sequence, a.length));
  const int first = piece * kPiece;
  const Block block = {a,
                       *shared_memory<typename Block::Shared>(),
                       sequence,
                       first,
                       min(kPiece, a.length - first),
                       min(max(end - first, 0), kPiece)};
  typename Block::Sums sums = {};
  // A group of copies for each position, an empty one where there is none.
  const auto stage_ahead = [&](int i, int stage) {
    if (i < end) block.stage_position(block.shared.stage[stage], i);
    commit_copies();
  };
  int i = slice;
  if (i < end) block.stage_b();
#pragma unroll
  for (int stage = 0; stage + 1 < kStages; ++stage) stage_ahead(i + stage * a.slices, stage);
  for (int turn = 0; i < end; i += a.slices) {
    wait_for_copies<kStages - 2>();
    __syncthreads();
    stage_ahead(i + (kStages - 1) * a.slices, (turn + kStages - 1) % kStages);
    const typename Block::Stage& stage = block.shared.stage[turn];
    if (block.adds_b) {
      block.add_b(sums, stage);
    } else {
      block.multiply_b(sums, stage, i);
    }
    block.pass_on(stage, i, block.real);
    turn = (turn + 1) % kStages;
  }
  for (; i < a.length; i += a.slices) {
    if (!block.adds_b) block.write_projected({}, i);
    block.pass_on(block.shared.stage[0], i, 0);
  }
  block.leave(sums, slice);
}

inline constexpr int kAddThreads = 256;
inline constexpr int kAddColumns = 32;  // of a block, four values each

/// Eight numbers of real_a.
__device__ inline void copy_a(const CudaOuterProductBackward& a, int64_t piece) {
  const int64_t position = piece * 8 / a.width, sequence = position / a.length;
  if (sequence >= a.batch) return;
  const bool real = position % a.length < length_of(a.lengths, sequence, a.length);
  const auto words = real ? static_cast<const Words<4>*>(a.a)[piece] : Words<4>{};
  store_words(static_cast<Words<4>*>(a.real_a) + piece, words);
}

/// b_grad by the first `b_blocks` blocks, bias_grad by the next, real_a by others.
template <class T>
__global__ void __launch_bounds__(kAddThreads)
    add_kernel(CudaOuterProductBackward a, int b_blocks) {
  const int block = static_cast<int>(blockIdx.x);
  if (block > b_blocks) {
    return copy_a(a, int64_t{block - b_blocks - 1} * kAddThreads + threadIdx.x);
  }
  auto* const sums = shared_memory<float4>();
  constexpr int kRows = kAddThreads / kAddColumns;
  const int column = static_cast<int>(threadIdx.x) % kAddColumns;
  const int row = static_cast<int>(threadIdx.x) / kAddColumns;
  const bool of_b = block < b_blocks;
  const int64_t columns = (of_b ? int64_t{a.batch} * a.length * a.width : a.channels) / 4;
  const int parts = of_b ? a.slices : a.batch * a.slices * a.pieces;
  const int64_t at = (of_b ? int64_t{block} * kAddColumns : 0) + column;
  const auto* const from = reinterpret_cast<const float4*>(of_b ? a.b_sums : a.bias_sums);
  float4 sum = {0, 0, 0, 0};
  const auto add = [&](const float4& x) { sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w; };
#pragma unroll 4
  for (int part = row; part < parts; part += kRows) {
    if (at < columns) add(from[part * columns + at]);
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (row > 0 || at >= columns) return;
#pragma unroll
  for (int i = 1; i < kRows; ++i) add(sums[i * kAddColumns + column]);
  if (of_b) {
    store_words(static_cast<Words<2>*>(a.b_grad) + at,
                Words<2>{pack<T>(sum.x, sum.y), pack<T>(sum.z, sum.w)});
  } else {
    reinterpret_cast<float4*>(a.bias_grad)[at] = sum;
  }
}

}  // namespace ribo::kernels::outer_product
