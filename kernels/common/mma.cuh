// A warp's matrix instructions (sm_80 on). All 32 lanes call them together.
//
// With g = lane / 4 and t = lane % 4, a lane holds of a matrix, two 16-bit values or one float to a
// register (PTX ISA, "Matrix fragments for mma.m16n8k16", and "... mma.m16n8k8"):
//
//   A 16 x 16   a[0] = (g, 2t..), a[1] = (g + 8, 2t..), a[2] = (g, 2t + 8..), a[3] = (g + 8, 2t
//   + 8..) B 16 x 8    b[0] = (2t.., g), b[1] = (2t + 8.., g) A 16 x 8    a[0] = (g, t), a[1] = (g
//   + 8, t), a[2] = (g, t + 4), a[3] = (g + 8, t + 4) B 8 x 8     b[0] = (t, g), b[1] = (t + 4, g)
//   D 16 x 8    d[0] = (g, 2t), d[1] = (g, 2t + 1), d[2] = (g + 8, 2t), d[3] = (g + 8, 2t + 1)
//
// So two neighbouring D, packed, are an A: the result of one product is an operand of the next.
#pragma once

#include "common/cuda.cuh"

namespace ribo::kernels {

/// Two values as they lie in a register or in memory, `low` first.
template <class T>
__device__ inline uint32_t pack(float low, float high) {
#ifdef __CUDACC__
  uint32_t bits;
  if constexpr (std::is_same_v<T, __half>) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  }
  return bits;
#else
  return cuda_on_host::bits_of(narrow<T>(low)) |
         static_cast<uint32_t>(cuda_on_host::bits_of(narrow<T>(high))) << 16;
#endif
}

/// pack() of max(0, low) and max(0, high); NaN stays.
template <class T>
__device__ inline uint32_t pack_relu(float low, float high) {
#ifdef __CUDACC__
  uint32_t bits;
  if constexpr (std::is_same_v<T, __half>) {
    asm("cvt.rn.relu.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.relu.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  }
  return bits;
#else
  return pack<T>(low < 0 ? 0 : low, high < 0 ? 0 : high);
#endif
}

/// What pack() has put together.
template <class T>
__device__ inline void unpack(uint32_t bits, float& low, float& high) {
#ifdef __CUDACC__
  if constexpr (std::is_same_v<T, __half>) {
    asm("{ .reg .f16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }"
        : "=f"(low), "=f"(high)
        : "r"(bits));
  } else {
    low = __uint_as_float(bits << 16);
    high = __uint_as_float(bits & 0xffff0000u);
  }
#else
  low = widen(cuda_on_host::value_of<T>(static_cast<uint16_t>(bits)));
  high = widen(cuda_on_host::value_of<T>(static_cast<uint16_t>(bits >> 16)));
#endif
}

/// Of what pack_relu() has put together: all bits of a half that is not 0, NaN included.
__device__ inline uint32_t where_positive(uint32_t bits) {
#ifdef __CUDACC__
  uint32_t mask;  // bfloat16 that are above 0 or NaN are so as float16, too
  asm("set.gtu.u32.f16x2 %0, %1, %2;" : "=r"(mask) : "r"(bits), "r"(0));
  return mask;
#else
  const auto mask = [](uint32_t half) { return half << 1 & 0xffffu ? 0xffffu : 0u; };
  return mask(bits & 0xffffu) | mask(bits >> 16) << 16;
#endif
}

/// d += A B, A 16 x 16 and B 16 x 8 of T.
template <class T>
__device__ inline void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  static_assert(std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>);
#ifdef __CUDACC__
  if constexpr (std::is_same_v<T, __half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
#else
  cuda_on_host::mma_16x8x16<T>(d, a, b);
#endif
}

/// d = A B + c: a product's first step, which needs no copy of what it begins with.
template <class T>
__device__ inline void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                   const float (&c)[4]) {
#ifdef __CUDACC__
  if constexpr (std::is_same_v<T, __half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
          "f"(c[2]), "f"(c[3]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
          "f"(c[2]), "f"(c[3]));
  }
#else
  for (int i = 0; i < 4; ++i) d[i] = c[i];
  mma_16x8x16<T>(d, a, b);
#endif
}

/// d += A B, A 16 x 8 and B 8 x 8 of floats, whose last 13 bits are ignored (TF32).
__device__ inline void mma_16x8x8_tf32(float (&d)[4], const uint32_t (&a)[4],
                                       const uint32_t (&b)[2]) {
#ifdef __CUDACC__
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  cuda_on_host::mma_16x8x8_tf32(d, a, b);
#endif
}

namespace detail {

// kMatrices 8 x 8 of 16 bits from shared memory. Lanes 8 m to 8 m + 7 give the addresses of matrix
// m's rows, 16 bytes each. r[m] is the matrix's (g, 2t..); transposed, the (2t.., g).
template <int kMatrices, bool kTransposed>
__device__ inline void load_matrix(uint32_t (&r)[kMatrices], const void* row) {
#ifdef __CUDACC__
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kMatrices == 4 && kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
  } else if constexpr (kMatrices == 4) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
  } else if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(at)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(at)
                 : "memory");
  }
#else
  cuda_on_host::load_matrix<kMatrices, kTransposed>(r, row);
#endif
}

}  // namespace detail

/// Four 8 x 8 matrices of 16-bit values from shared memory: lane l gives the address of row l % 8
/// of matrix l / 8, 16 bytes, aligned so. r[m] becomes matrix m's (g, 2t..), as A and D have it.
__device__ inline void load_matrix_x4(uint32_t (&r)[4], const void* row) {
  detail::load_matrix<4, false>(r, row);
}
/// Likewise; r[m] becomes matrix m's (2t.., g), as B has it.
__device__ inline void load_matrix_x4_transposed(uint32_t (&r)[4], const void* row) {
  detail::load_matrix<4, true>(r, row);
}
/// Two matrices; lanes 0 to 15 give the addresses.
__device__ inline void load_matrix_x2(uint32_t (&r)[2], const void* row) {
  detail::load_matrix<2, false>(r, row);
}
__device__ inline void load_matrix_x2_transposed(uint32_t (&r)[2], const void* row) {
  detail::load_matrix<2, true>(r, row);
}

}  // namespace ribo::kernels
