// The two passes of the backward direction. What forward did not keep is computed again; a block
// adds the weights' gradients over all of its tiles in registers and leaves them in `scratch`.
#pragma once

#include "triangle_multiply/triangle_multiply_tile.cuh"

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
};

/// Writes d to rows g and g + 8 of `to` [16, C].
template <int kParts>
__device__ inline void write_sums(float* to, const float (&d)[kParts][4], int channels) {
  const int g = lane() / 4, t = lane() % 4;
#pragma unroll
  for (int n = 0; n < kParts; ++n) {
    const int c = 8 * n + 2 * t;
    if (c >= channels) continue;
    float* const at = to + g * channels + c;
    at[0] = d[n][0];
    at[1] = d[n][1];
    at[8 * channels] = d[n][2];
    at[8 * channels + 1] = d[n][3];
  }
}

/// A sum over the four lanes that share g.
__device__ inline float add_quad(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

/// Of four numbers a lane, adds those of the four lanes that share g; lane t gets the t-th sum.
__device__ inline float scatter_quad(const float (&x)[4]) {
  const int t = lane() % 4;
  const bool upper = t >= 2, odd = t % 2 != 0;
  const float low = (upper ? x[2] : x[0]) + __shfl_xor_sync(~0u, upper ? x[0] : x[2], 2);
  const float high = (upper ? x[3] : x[1]) + __shfl_xor_sync(~0u, upper ? x[1] : x[3], 2);
  return (odd ? high : low) + __shfl_xor_sync(~0u, odd ? low : high, 1);
}

template <class T, class X, int kWidth>
struct alignas(16) OutputBackwardShared {
  T gate_weight[kWidth * kWidth], out_weight[kWidth * kWidth];
  T u[kTile * kWidth], d_y[kTile * kWidth], z[2][kWidth * kTile];
  T q[kWidth * kTile], d_gate[kWidth * kTile];
  X raw[kTile * kWidth], raw_d_y[kTile * kWidth];
  float gate_bias[kWidth], norm_weight[kWidth], norm_bias[kWidth];
  float unit_sums[kWarps][3][kWidth];  // of the gradients of these three
  Places places[2];
};

/// First a warp has eight positions, from d_y to d_product; then 16 hidden units of all positions,
/// for the gradient of those units' rows of one of the two maps.
template <class T, class X, int kWidth>
__global__ void __launch_bounds__(kThreads, kBackwardBlocks)
    output_backward_kernel(CudaTriangleOutputBackward a) {
  static_assert(kWidth / 16 * 2 == kWarps);
  auto& shared = *shared_memory<OutputBackwardShared<T, X, kWidth>>();
  const Matrix<T, kWidth> gate_weight{shared.gate_weight}, out_weight{shared.out_weight};
  const Matrix<T, kWidth> u{shared.u}, d_y{shared.d_y};
  const Matrix<T, kTile> q{shared.q}, d_gate{shared.d_gate};
  const int g = lane() / 4, t = lane() % 4;
  constexpr int kUnits = kWidth / 16, kValues = kWidth / 8;
  const int unit = warp() % kUnits * 16, map = warp() / kUnits;  // map 0: out, 1: the gate
  clear(shared.z[0]);
  clear(shared.z[1]);
  shared.places[0].find(a, Tile::start(a));
  __syncthreads();
  stage_rows<kWidth>(shared.raw, a.x, shared.places[0], a.channels);
  stage_rows<kWidth>(shared.raw_d_y, a.d_y, shared.places[0], a.channels);
  stage_channels<kWidth>(Matrix<T, kTile>{shared.z[0]}, a.product, a, shared.places[0].tile);
  __pipeline_commit();
  stage_maps<4, 1>(gate_weight, shared.gate_bias, a);
  stage_out_weight(out_weight, a);
  stage_vector<kWidth, T>(shared.norm_weight, a.weights.out_norm_weight, a.hidden, a);
  stage_vector<kWidth, T>(shared.norm_bias, a.weights.out_norm_bias, a.hidden, a);
  float* const unit_sums = shared.unit_sums[warp()][0];
  for (int i = lane(); i < 3 * kWidth; i += 32) unit_sums[i] = 0;

  float weight_sums[kWidth / 8][4] = {};
  float out_bias_sums[8] = {};  // of each_row's columns
  for (int turn = 0; shared.places[turn].tile.there(a); turn = 1 - turn) {
    const Places& places = shared.places[turn];
    Places& next = shared.places[1 - turn];
    const Matrix<T, kTile> z{shared.z[turn]};
    __pipeline_wait_prior(0);
    __syncthreads();
    normalise_rows<false>(shared.raw, u, a.channels);
    each_row<kWidth>(shared.raw_d_y, [&](int p, int column, const float(&x)[8]) {
      store_eight(d_y.at(p, column), x);
#pragma unroll
      for (int i = 0; i < 8; ++i) out_bias_sums[i] += x[i];
    });
    next.find(a, places.tile.next(a));
    __syncthreads();
    stage_rows<kWidth>(shared.raw, a.x, next, a.channels);
    stage_rows<kWidth>(shared.raw_d_y, a.d_y, next, a.channels);
    stage_channels<kWidth>(Matrix<T, kTile>{shared.z[1 - turn]}, a.product, a, next.tile);
    __pipeline_commit();
    if (places.none) {
      each_piece<kWidth>(a, [&](int, int, int64_t offset) {
        for (void* gradient : {a.d_product, a.d_gate}) {
          T* const to = static_cast<T*>(gradient) + places.tile.element(a) + offset;
          *reinterpret_cast<Words<4>*>(to) = {};
        }
      });
      continue;
    }
    {
      const int p = 8 * warp() + 2 * t;
      float gates[kUnits][4], grads[kUnits][4];  // the latter of q, then of the normalised product
      project_all<false>(gates, shared.gate_bias, gate_weight, u, 8 * warp());
      project_all<true>(grads, nullptr, out_weight, d_y, 8 * warp());
      NormedColumns<kValues> normal;
      normal.read(z, p, a.hidden);
      float sums[2] = {}, products[2] = {};
#pragma unroll
      for (int first = 0; first < kValues; first += 4) {
        float units[3][4];  // what is added to unit_sums, of each m
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int m = first + i, h = 8 * m + g;
          const float gain = shared.norm_weight[h], shift = shared.norm_bias[h];
          float value[2], d_pre[2], d_value[2];
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const float open = sigmoid(gates[m / 2][m % 2 * 2 + e]), x = normal.x[m][e];
            float& grad = grads[m / 2][m % 2 * 2 + e];
            value[e] = (x * gain + shift) * open;
            const float d_open = grad * value[e];
            d_pre[e] = d_open - d_open * open;
            d_value[e] = grad * open;
            grad = d_value[e] * gain;
            sums[e] += grad;
            products[e] += grad * x;
          }
          *reinterpret_cast<uint32_t*>(q.at(h, p)) = pack<T>(value[0], value[1]);
          *reinterpret_cast<uint32_t*>(d_gate.at(h, p)) = pack<T>(d_pre[0], d_pre[1]);
          units[0][i] = d_pre[0] + d_pre[1];
          units[1][i] = d_value[0] * normal.x[m][0] + d_value[1] * normal.x[m][1];
          units[2][i] = d_value[0] + d_value[1];
        }
#pragma unroll
        for (int k = 0; k < 3; ++k) {
          unit_sums[k * kWidth + 8 * (first + t) + g] += scatter_quad(units[k]);
        }
      }
      const float share = 1.0f / static_cast<float>(a.hidden);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        sums[e] = normal.add_column(sums[e]) * share;
        products[e] = normal.add_column(products[e]) * share;
      }
#pragma unroll
      for (int m = 0; m < kValues; ++m) {
        float d_z[2];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          d_z[e] = (grads[m / 2][m % 2 * 2 + e] - sums[e] - normal.x[m][e] * products[e]) *
                   normal.scale[e];
        }
        uint32_t* const to = reinterpret_cast<uint32_t*>(z.at(8 * m + g, p));
        if (8 * m < a.hidden) *to = pack<T>(d_z[0], d_z[1]);
      }
    }
    __syncthreads();
    write_channels<kWidth>(a.d_product, z, a, places.tile);
    write_channels<kWidth>(a.d_gate, d_gate, a, places.tile);
    if (unit < a.hidden) {
#pragma unroll
      for (int k = 0; k < kTile; k += 16) {
        uint32_t left[4];
        (map == 0 ? q : d_gate).load_a(left, unit, k);
#pragma unroll
        for (int n = 0; n < kWidth / 8; n += 2) {
          uint32_t right[4];
          (map == 0 ? d_y : u).load_b_transposed(right, k, 8 * n);
          multiply<T>(weight_sums[n], weight_sums[n + 1], left, right);
        }
      }
    }
  }

  const Sums to(a);
  float* const out = a.scratch + int64_t{blockIdx.x} * to.size();
  if (unit < a.hidden) {
    float* const rows = out + (map == 0 ? to.out_weight() : 4 * a.hidden * a.channels);
    write_sums(rows + unit * a.channels, weight_sums, a.channels);
  }
  // All warps' sums of channels meet in shared memory, as those of hidden units do.
  __pipeline_wait_prior(0);
  __syncthreads();
  float* const parts = reinterpret_cast<float*>(shared.raw);  // [kWarps, kWidth]
#pragma unroll
  for (int i = 0; i < 8; ++i) {
#pragma unroll
    for (int lanes = kWidth / 8; lanes < 32; lanes *= 2) {
      out_bias_sums[i] += __shfl_xor_sync(~0u, out_bias_sums[i], lanes);
    }
    if (lane() < kWidth / 8) parts[warp() * kWidth + 8 * lane() + i] = out_bias_sums[i];
  }
  __syncthreads();
  const int i = thread();
  float sums[4] = {};
  for (int w = 0; w < kWarps && i < kWidth; ++w) {
#pragma unroll
    for (int k = 0; k < 3; ++k) sums[k] += shared.unit_sums[w][k][i];
    sums[3] += parts[w * kWidth + i];
  }
  if (i < a.hidden) {
    out[to.map_bias() + 4 * a.hidden + i] = sums[0];
    out[to.norm_weight() + i] = sums[1];
    out[to.norm_bias() + i] = sums[2];
  }
  if (i < a.channels) out[to.out_bias() + i] = sums[3];
}

template <class T, class X, int kWidth>
struct alignas(16) ProjectBackwardShared {
  T weights[5 * kWidth * kWidth], u[kTile * kWidth];
  T d[5 * kWidth * kTile];  // the gradients of what the weights gave
  X raw[kTile * kWidth];
  float bias[5 * kWidth];
  float scale[kTile];
  float sums[2][2][kTile];  // halves of the channels; of the gradient of u, and of it times u
  Places places[2];
};

/// First a warp has 16 hidden units of left or right, with their gates: from d_left or d_right to
/// their projections' gradients and the sums over these. Then it has 16 positions and half of the
/// channels of d_x.
template <class T, class X, int kWidth>
__global__ void __launch_bounds__(kThreads, kBackwardBlocks)
    project_backward_kernel(CudaTriangleProjectBackward a) {
  static_assert(kWidth / 16 * 2 == kWarps);
  auto& shared = *shared_memory<ProjectBackwardShared<T, X, kWidth>>();
  const Matrix<T, kWidth> weights{shared.weights}, u{shared.u};
  const Matrix<T, kTile> d{shared.d};
  // The gradients of values arrive where those of their projections will be.
  const Matrix<T, kTile> d_left{shared.d}, d_right{shared.d + 2 * kWidth * kTile};
  const Matrix<T, kTile> d_gate{shared.d + 4 * kWidth * kTile};
  const int g = lane() / 4, t = lane() % 4;
  constexpr int kUnits = kWidth / 16;
  const int side = warp() / kUnits, h = warp() % kUnits * 16 + g, row = 2 * side * kWidth + h;
  const bool active = h < a.hidden;
  shared.places[0].find(a, Tile::start(a));
  __syncthreads();
  stage_rows<kWidth>(shared.raw, a.x, shared.places[0], a.channels);
  __pipeline_commit();
  const auto stage_gradients = [&](const Tile& tile) {
    stage_channels<kWidth>(d_left, a.d_left, a, tile);
    stage_channels<kWidth>(d_right, a.d_right, a, tile);
    stage_channels<kWidth>(d_gate, a.d_gate, a, tile);
    __pipeline_commit();
  };
  stage_gradients(shared.places[0].tile);
  stage_maps<0, 5>(weights, shared.bias, a);

  // What is stored and what is multiplied must differ for the compiler, which otherwise keeps the
  // words as the stores want them and moves them for every product.
  const uint32_t zero = static_cast<uint32_t>(a.channels) % 16;
  float weight_sums[2][kWidth / 8][4] = {};  // values; gates
  float bias_sums[2][2] = {};                // of h and h + 8
  for (int turn = 0; shared.places[turn].tile.there(a); turn = 1 - turn) {
    const Places& places = shared.places[turn];
    Places& next = shared.places[1 - turn];
    __pipeline_wait_prior(1);  // x
    __syncthreads();
    normalise_rows<true>(shared.raw, u, a.channels, shared.scale);
    next.find(a, places.tile.next(a));
    __pipeline_wait_prior(0);
    __syncthreads();
    stage_rows<kWidth>(shared.raw, a.x, next, a.channels);
    __pipeline_commit();
    prefetch_channels<T>(a.d_left, a, next.tile, thread());
    prefetch_channels<T>(a.d_right, a, next.tile, thread() - kWidth);
    prefetch_channels<T>(a.d_gate, a, next.tile, thread() - 2 * kWidth);
    if (active && !places.none) {
      const float bias[2][2] = {{shared.bias[row], shared.bias[row + 8]},
                                {shared.bias[row + kWidth], shared.bias[row + kWidth + 8]}};
#pragma unroll 1
      for (int first = 0; first < kTile; first += 16) {  // slots
        const int p = (first & 32) + 8 * t + (first & 16) / 4;
        float y[2][2][4];  // values, gates
        project(y, bias, weights, row - g, kWidth, u, first);
        uint32_t left[2][4];  // their gradients
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          auto* const values = reinterpret_cast<Words<2>*>(d.at(row + 8 * r, p));
          auto* const gates = reinterpret_cast<Words<2>*>(d.at(row + kWidth + 8 * r, p));
          const Words<2> given = *values;
#pragma unroll
          for (int v = 0; v < 2; ++v) {
            float grad[2], d_value[2], d_pre[2];
            unpack<T>(given.word[v], grad[0], grad[1]);
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              const float open = sigmoid(y[1][v][2 * r + e]);
              d_value[e] = grad[e] * open;
              const float d_open = d_value[e] * y[0][v][2 * r + e];
              d_pre[e] = d_open - d_open * open;
              bias_sums[0][r] += d_value[e];
              bias_sums[1][r] += d_pre[e];
            }
            left[0][2 * v + r] = pack<T>(d_value[0], d_value[1]);
            left[1][2 * v + r] = pack<T>(d_pre[0], d_pre[1]);
          }
          *values = {{left[0][r] ^ zero, left[0][2 + r] ^ zero}};
          *gates = {{left[1][r] ^ zero, left[1][2 + r] ^ zero}};
        }
#pragma unroll
        for (int n = 0; n < kWidth / 8; n += 2) {
          uint32_t right[4];
          u.load_b_transposed(right, first, 8 * n);
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            multiply<T>(weight_sums[m][n], weight_sums[m][n + 1], left[m], right);
          }
        }
      }
    }
    __syncthreads();

    const int position = warp() % 4 * 16, part = warp() / 4, column = part * (kWidth / 2);
    float d_u[kWidth / 16][4] = {};
#pragma unroll
    for (int k = 0; k < kWidth; k += 16) {
      if (k >= a.hidden || places.none) break;
#pragma unroll
      for (int map = 0; map < 5; ++map) {
        uint32_t left[4];
        d.load_a_transposed(left, map * kWidth + k, position);
#pragma unroll
        for (int n = 0; n < kWidth / 16; n += 2) {
          uint32_t right[4];
          weights.load_b_transposed(right, map * kWidth + k, column + 8 * n);
          multiply<T>(d_u[n], d_u[n + 1], left, right);
        }
      }
    }
    // Through the norm.
    uint32_t normal[kWidth / 32][4];  // u where d_u is: [n / 2][n % 2 * 2 + r]
#pragma unroll
    for (int n = 0; n < kWidth / 32; ++n) {
      load_matrix_x4(normal[n],
                     u.at(slot(position + lane() % 16), column + 16 * n + lane() / 16 * 8));
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int p = position + g + 8 * r;
      float sum = 0, product = 0;
#pragma unroll
      for (int n = 0; n < kWidth / 16; ++n) {
        float low, high;
        unpack<T>(normal[n / 2][n % 2 * 2 + r], low, high);
        sum += d_u[n][2 * r] + d_u[n][2 * r + 1];
        product += d_u[n][2 * r] * low + d_u[n][2 * r + 1] * high;
      }
      sum = add_quad(sum);
      product = add_quad(product);
      if (t == 0) {
        shared.sums[part][0][p] = sum;
        shared.sums[part][1][p] = product;
      }
    }
    __syncthreads();
    stage_gradients(next.tile);
    const float share = 1.0f / static_cast<float>(a.channels);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int p = position + g + 8 * r, place = places.row[p];
      const bool real = place >= 0;
      const float mean = (shared.sums[0][0][p] + shared.sums[1][0][p]) * share;
      const float slope = (shared.sums[0][1][p] + shared.sums[1][1][p]) * share;
      const float scale = shared.scale[p];
      X* const to = static_cast<X*>(a.d_x) + int64_t{real ? place : ~place} * a.channels + column;
#pragma unroll
      for (int n = 0; n < kWidth / 16; n += 2) {
        float out[4];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float low, high;
          unpack<T>(normal[n / 2][2 * i + r], low, high);
          const float(&x)[4] = d_u[n + i];
          out[2 * i] = real ? (x[2 * r] - mean - low * slope) * scale : 0;
          out[2 * i + 1] = real ? (x[2 * r + 1] - mean - high * slope) * scale : 0;
        }
        const bool write = place != kNowhere && column + 8 * n < a.channels;
        store_columns(to + 8 * n, out[0], out[1], out[2], out[3], write);
      }
    }
  }

  const Sums to(a);
  float* const out = a.scratch + int64_t{blockIdx.x} * to.size();
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    const int first = (2 * side + m) * a.hidden + h;
    if (active) write_sums(out + (first - g) * a.channels, weight_sums[m], a.channels);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = add_quad(bias_sums[m][r]);
      if (active && t == 0) out[to.map_bias() + first + 8 * r] = sum;
    }
  }
}

/// Adds the blocks' sums, scratch [blocks, size], into the row behind them. A lane has an element,
/// a warp every eighth block.
__global__ void __launch_bounds__(kThreads) add_kernel(float* scratch, int blocks, int size) {
  float* const shared = shared_memory<float>();  // [kWarps, 32]
  const int i = static_cast<int>(blockIdx.x) * 32 + lane();
  float sum = 0;
  if (i < size) {
#pragma unroll 4
    for (int block = warp(); block < blocks; block += kWarps) {
      sum += scratch[int64_t{block} * size + i];
    }
  }
  shared[warp() * 32 + lane()] = sum;
  __syncthreads();
  if (warp() > 0 || i >= size) return;
  for (int w = 1; w < kWarps; ++w) sum += shared[w * 32 + lane()];
  scratch[int64_t{blocks} * size + i] = sum;
}

/// The gradients of the weights from those sums: maps are (w gain) n + (w shift + b) of the
/// normalised n, so with G and g the sums of a unit, d_w = G gain + g shift, d_gain = sum G w,
/// d_shift = sum g w. A block has a channel, a thread some of the units.
template <class T>
__global__ void __launch_bounds__(kThreads)
    gradients_kernel(CudaTriangleGradients a, const float* sums) {
  float* const shared = shared_memory<float>();  // [2, kWarps]
  const Sums from(a);
  const auto write = [&](void* to, int index, float value) {
    if (a.wide_weights) {
      static_cast<float*>(to)[index] = value;
    } else {
      static_cast<T*>(to)[index] = narrow<T>(value);
    }
  };
  const int c = static_cast<int>(blockIdx.x);
  const float gain = load_weight<T>(a.weights.norm_weight, c, a);
  const float shift = load_weight<T>(a.weights.norm_bias, c, a);
  float d_norm[2] = {};
#pragma unroll
  for (int map = 0; map < 5; ++map) {
    for (int h = thread(); h < a.hidden; h += kThreads) {
      const int row = map * a.hidden + h, index = h * a.channels + c;
      const float weighted = sums[row * a.channels + c], sum = sums[from.map_bias() + row];
      const float weight = load_weight<T>(a.weights.map_weight[map], index, a);
      write(a.d.map_weight[map], index, weighted * gain + sum * shift);
      d_norm[0] += weighted * weight;
      d_norm[1] += sum * weight;
      if (c == 0) write(a.d.map_bias[map], h, sum);
    }
  }
  for (int h = thread(); h < a.hidden; h += kThreads) {
    write(a.d.out_weight, c * a.hidden + h, sums[from.out_weight() + h * a.channels + c]);
    if (c > 0) continue;
    write(a.d.out_norm_weight, h, sums[from.norm_weight() + h]);
    write(a.d.out_norm_bias, h, sums[from.norm_bias() + h]);
  }
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    for (int lanes = 16; lanes > 0; lanes /= 2) {
      d_norm[k] += __shfl_xor_sync(~0u, d_norm[k], lanes);
    }
    if (lane() == 0) shared[k * kWarps + warp()] = d_norm[k];
  }
  __syncthreads();
  if (thread() > 0) return;
  for (int w = 1; w < kWarps; ++w) {
    d_norm[0] += shared[w];
    d_norm[1] += shared[kWarps + w];
  }
  write(a.d.norm_weight, c, d_norm[0]);
  write(a.d.norm_bias, c, d_norm[1]);
  write(a.d.out_bias, c, sums[from.out_bias() + c]);
}

}  // namespace ribo::kernels::triangle
