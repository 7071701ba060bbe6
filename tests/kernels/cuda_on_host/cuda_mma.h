// Stands in for a warp's matrix instructions (kernels/common/mma.cuh); see cuda_runtime.h.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "cuda_bf16.h"
#include "cuda_fp16.h"

namespace cuda_on_host {

template <class T>
uint16_t bits_of(T x) {
  uint16_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
template <class T>
T value_of(uint16_t bits) {
  T x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
inline float to_float(__half x) { return __half2float(x); }

/// The `half`-th (0, 1) of two values of T in a register.
template <class T>
float half_of(uint32_t bits, int half) {
  return to_float(value_of<T>(static_cast<uint16_t>(bits >> 16 * half)));
}

using Operands = std::array<uint32_t, 6>;  // a[4], b[2]

inline Operands operands(const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  return {a[0], a[1], a[2], a[3], b[0], b[1]};
}

template <class T>
void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const auto warp = exchange(operands(a, b));
  const int lane = static_cast<int>(threadIdx.x % 32), g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = g + i / 2 * 8, column = 2 * t + i % 2;
    float sum = 0;
    for (int k = 0; k < 16; ++k) {
      const int of_a = row / 8 + 2 * (k / 8), at = k % 8 / 2;
      sum += half_of<T>(warp(row % 8 * 4 + at)[of_a], k % 2) *
             half_of<T>(warp(column * 4 + at)[4 + k / 8], k % 2);
    }
    d[i] += sum;
  }
}

inline float tf32(uint32_t bits) {
  bits &= ~0x1fffu;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline void mma_16x8x8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const auto warp = exchange(operands(a, b));
  const int lane = static_cast<int>(threadIdx.x % 32), g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = g + i / 2 * 8, column = 2 * t + i % 2;
    float sum = 0;
    for (int k = 0; k < 8; ++k) {
      sum += tf32(warp(row % 8 * 4 + k % 4)[row / 8 + 2 * (k / 4)]) *
             tf32(warp(column * 4 + k % 4)[4 + k / 4]);
    }
    d[i] += sum;
  }
}

// d 64 x 64 += A B of a warpgroup, where a(row, k) is A's for the warp's 16 rows.
template <class A, class B>
void add_wgmma(float (&d)[8][4], A&& a, const B& b, bool add) {
  const int lane = static_cast<int>(threadIdx.x % 32), g = lane / 4, t = lane % 4;
  for (int i = 0; i < 32; ++i) {
    const int row = g + i / 2 % 2 * 8, column = i / 4 * 8 + 2 * t + i % 2;
    float sum = 0;
    for (int k = 0; k < 16; ++k) sum += a(row, k) * b.at(column, k);
    float& value = d[i / 4][i % 4];
    value = add ? value + sum : sum;
  }
}
/// A in registers.
template <class T, class B>
void wgmma(float (&d)[8][4], const uint32_t (&a)[4], const B& b, bool add) {
  const auto warp = exchange(std::array<uint32_t, 4>{a[0], a[1], a[2], a[3]});
  const auto value = [&](int row, int k) {
    return half_of<T>(warp(row % 8 * 4 + k % 8 / 2)[static_cast<size_t>(row / 8 + 2 * (k / 8))],
                      k % 2);
  };
  add_wgmma(d, value, b, add);
}
/// A in shared memory.
template <class A, class B>
void wgmma_shared(float (&d)[8][4], const A& a, const B& b, bool add) {
  const int first = static_cast<int>(threadIdx.x % 128 / 32 * 16);
  add_wgmma(
      d, [&](int row, int k) { return a.at(first + row, k); }, b, add);
}

template <int kMatrices, bool kTransposed>
void load_matrix(uint32_t (&r)[kMatrices], const void* row) {
  const auto warp = exchange(row);
  const int lane = static_cast<int>(threadIdx.x % 32), g = lane / 4, t = lane % 4;
  for (int m = 0; m < kMatrices; ++m) {
    uint16_t pair[2];
    for (int i = 0; i < 2; ++i) {
      const int of_row = kTransposed ? 2 * t + i : g, column = kTransposed ? g : 2 * t + i;
      const void* const from = warp(8 * m + of_row);
      if (reinterpret_cast<uintptr_t>(from) % 16 != 0) {
        throw std::logic_error("load_matrix: a row that is not 16-byte aligned");
      }
      pair[i] = static_cast<const uint16_t*>(from)[column];
    }
    r[m] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
  }
}

}  // namespace cuda_on_host
