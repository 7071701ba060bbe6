// What the two passes of the backward direction share. What forward did not keep is computed again;
// a block adds the weights' gradients over all of its strips in registers and leaves them in
// `scratch`, from which the kernels here make the gradients.
#pragma once

#include "triangle_multiply/triangle_multiply_strip.cuh"

namespace ribo::kernels::triangle {

/// Sums over positions, for each hidden unit of each map, of gradients times x normalised [5 H, C]
/// and of gradients [5 H]; then the gradients of the output's weight, transposed [H, C], its norm's
/// weight and bias [H] and its bias [C]. The output pass adds up what is not the first four maps'.
struct Sums {
  int hidden, channels;

  __host__ __device__ explicit Sums(const CudaTriangle& a)
      : hidden(a.hidden), channels(a.channels) {}
  __host__ __device__ int map_bias() const { return 5 * hidden * channels; }
  __host__ __device__ int out_weight() const { return map_bias() + 5 * hidden; }
  __host__ __device__ int norm_weight() const { return out_weight() + hidden * channels; }
  __host__ __device__ int norm_bias() const { return norm_weight() + hidden; }
  __host__ __device__ int out_bias() const { return norm_bias() + hidden; }
  __host__ __device__ int size() const { return out_bias() + channels; }
  /// Whether a sum is of the first four maps.
  __device__ bool of_projections(int i) const {
    const int units = 4 * hidden;
    return i < units * channels || (i >= map_bias() && i < map_bias() + units);
  }
};

/// Writes d to rows g and g + 8 of `to` [16, C]; columns are channels in that order.
template <class Order, int kParts>
__device__ inline void write_sums(float* to, const float (&d)[kParts][4], int channels) {
#pragma unroll
  for (int n = 0; n < kParts; n += 2) {
    const int c = Order::channel(8 * n + 2 * (lane() % 4));  // the first of four
    if (c >= channels) continue;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      store_words<4>(to + (lane() / 4 + 8 * r) * channels + c,
                     {{__float_as_uint(d[n][2 * r]), __float_as_uint(d[n][2 * r + 1]),
                       __float_as_uint(d[n + 1][2 * r]), __float_as_uint(d[n + 1][2 * r + 1])}});
    }
  }
}

/// Barriers 1 to 15: some threads arrive and go on, others wait for so many of both.
__device__ inline void barrier_arrive(int barrier, int threads) {
#ifdef __CUDACC__
  asm volatile("barrier.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
#else
  cuda_on_host::barrier_arrive(barrier, threads);
#endif
}
__device__ inline void barrier_sync(int barrier, int threads) {
#ifdef __CUDACC__
  asm volatile("barrier.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
#else
  cuda_on_host::barrier_sync(barrier, threads);
#endif
}

/// Warps of positions fill slots, from which others take. They meet where a slot has been filled,
/// and where it may be filled again.
__device__ inline int filled(int slot) { return 1 + 2 * slot; }
__device__ inline int emptied(int slot) { return 2 + 2 * slot; }

/// Adds the sums of both passes' blocks, rows of `scratch`, into the row `to`. A lane has an
/// element, a warp every eighth block.
__global__ void __launch_bounds__(kThreads)
    add_kernel(CudaTriangleBackward a, int output_blocks, int project_blocks, int to) {
  const Sums sums(a);
  const int size = sums.size();
  float* const scratch = a.scratch;
  float* const shared = shared_memory<float>();  // [kWarps, 32]
  const int i = static_cast<int>(blockIdx.x) * 32 + lane();
  float sum = 0;
  await_previous();
  if (i < size) {
    const int blocks = sums.of_projections(i) ? project_blocks : output_blocks;
#pragma unroll 9
    for (int block = warp(); block < blocks; block += kWarps) {
      sum += scratch[int64_t{block} * size + i];
    }
  }
  shared[warp() * 32 + lane()] = sum;
  __syncthreads();
  if (warp() > 0 || i >= size) return;
  for (int w = 1; w < kWarps; ++w) sum += shared[w * 32 + lane()];
  scratch[int64_t{to} * size + i] = sum;
}

/// The gradients of the weights from those sums: maps are (w gain) n + (w shift + b) of the
/// normalised n, so with G and g the sums of a unit, d_w = G gain + g shift, d_gain = sum G w,
/// d_shift = sum g w. A block has a channel, a thread a unit of a map.
template <class T, int kWidth>
__global__ void __launch_bounds__(5 * kWidth)
    gradients_kernel(CudaTriangleGradients a, const float* sums) {
  constexpr int kAllWarps = 5 * kWidth / 32;
  float* const shared = shared_memory<float>();  // [2, kAllWarps]
  const Sums from(a);
  const auto write = [&](void* to, int index, float value) {
    if (a.wide_weights) {
      static_cast<float*>(to)[index] = value;
    } else {
      static_cast<T*>(to)[index] = narrow<T>(value);
    }
  };
  const int c = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const int map = thread / kWidth, h = thread % kWidth;
  float d_norm[2] = {};
  await_previous();
  if (h < a.hidden) {
    const int row = map * a.hidden + h, index = h * a.channels + c;
    const float weighted = sums[row * a.channels + c], sum = sums[from.map_bias() + row];
    const float weight = load_weight<T>(a.weights.map_weight[map], index, a);
    const float gain = load_weight<T>(a.weights.norm_weight, c, a);
    const float shift = load_weight<T>(a.weights.norm_bias, c, a);
    d_norm[0] = weighted * weight;
    d_norm[1] = sum * weight;
    write(a.d.map_weight[map], index, weighted * gain + sum * shift);
    if (c == 0) write(a.d.map_bias[map], h, sum);
    if (map == 0) {
      write(a.d.out_weight, c * a.hidden + h, sums[from.out_weight() + h * a.channels + c]);
    }
    if (map == 1 && c == 0) {
      write(a.d.out_norm_weight, h, sums[from.norm_weight() + h]);
      write(a.d.out_norm_bias, h, sums[from.norm_bias() + h]);
    }
  }
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    for (int lanes = 16; lanes > 0; lanes /= 2) {
      d_norm[k] += __shfl_xor_sync(~0u, d_norm[k], lanes);
    }
    if (lane() == 0) shared[k * kAllWarps + warp()] = d_norm[k];
  }
  __syncthreads();
  if (thread > 0) return;
  for (int w = 1; w < kAllWarps; ++w) {
    d_norm[0] += shared[w];
    d_norm[1] += shared[kAllWarps + w];
  }
  write(a.d.norm_weight, c, d_norm[0]);
  write(a.d.norm_bias, c, d_norm[1]);
  write(a.d.out_bias, c, sums[from.out_bias() + c]);
}

}  // namespace ribo::kernels::triangle
