// A warpgroup's matrix instructions (sm_90a alone): D 64 x 64 += A 64 x 16 times B 16 x 64, of
// 16-bit values. All 128 threads call them together; each of the four warps has 16 rows of A and D.
//
// D lies as eight D of common/mma.cuh side by side, an A in registers as there: packed, two
// neighbouring D are an A. B lies in shared memory, as an A may. Both are seen here in one
// form: rows of 64 values, swizzled (SwizzledRows), along which either k runs or m or n does.
//
// Instructions run beside what follows them. begin_wgmma() stands between writing registers and
// handing them over, end_wgmma() closes a group of instructions, await_wgmma<n>(...) waits until
// none but the last n groups run; registers of a running group must not be touched.
#pragma once

#include "common/mma.cuh"

// Elsewhere kernels that have these instructions stay empty.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define RIBO_WGMMA
#endif

namespace ribo::kernels {

/// An operand in shared memory. kAcross: rows are k; otherwise k runs along rows.
template <class T, bool kAcross>
struct WgmmaOperand {
#ifdef __CUDACC__
  // PTX ISA, "Matrix Descriptor": the corner's address in 16 bytes, 1 where the swizzle leaves
  // nothing to say; eight rows are 1024 bytes; the swizzle is the one of 128.
  uint32_t low;
  __device__ uint64_t descriptor() const {
    return uint64_t{1} << 62 | uint64_t{1024 / 16} << 32 | low;
  }
#else
  const T* corner;
  float at(int mn, int k) const {
    const int row = kAcross ? k : mn, column = kAcross ? mn : k;
    const auto plain = reinterpret_cast<uintptr_t>(corner + 64 * row + column);
    return widen(*reinterpret_cast<const T*>(plain ^ (plain >> 7 & 7) << 4));
  }
#endif
};

/// Rows of 64 values of T in shared memory, at a multiple of 1024 bytes. Row r has its c-th 16
/// bytes at place c ^ r % 8, so that 16 bytes of eight rows lie in different banks.
template <class T>
struct SwizzledRows {
  static constexpr int kColumns = 64;
  T* rows;

  __device__ explicit SwizzledRows(T* at) : rows(at) {}
  /// The place of an element, from `rows` on.
  __device__ static int place(int row, int column) {
    return moved(kColumns * row + (row & 7) * 8 + (column & 7), column & ~7);
  }
  /// A place in the first eight columns, moved by so many columns, a multiple of 8.
  __device__ static int moved(int place, int columns) { return place ^ columns; }
  __device__ T* at(int row, int column) const { return rows + place(row, column); }
  /// Those from a row on, a multiple of 8.
  __device__ SwizzledRows from(int row) const { return SwizzledRows(rows + kColumns * row); }
  /// Operands from a row, a multiple of 8, and a column, a multiple of 16, on.
  __device__ WgmmaOperand<T, false> along(int row, int column) const {
    return operand<false>(row, column);
  }
  __device__ WgmmaOperand<T, true> across(int row) const { return operand<true>(row, 0); }

 private:
  template <bool kAcross>
  __device__ WgmmaOperand<T, kAcross> operand(int row, int column) const {
#ifdef __CUDACC__
    // Added anew each time: sums that are kept would be too many registers.
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(rows));
    WgmmaOperand<T, kAcross> of;
    asm volatile("add.u32 %0, %1, %2;"
                 : "=r"(of.low)
                 : "r"(address >> 4 | 1u << 16), "r"(8 * row + column / 8));
    return of;
#else
    return {rows + kColumns * row + column};
#endif
  }
};

/// The sums of a 64 x 64 that a thread has.
using Sums64 = float[8][4];

#ifdef __CUDACC__
#define RIBO_D                                                                                  \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
  "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define RIBO_4(x) "+f"((x)[0]), "+f"((x)[1]), "+f"((x)[2]), "+f"((x)[3])
#define RIBO_32(d)                                                                                \
  RIBO_4((d)[0]), RIBO_4((d)[1]), RIBO_4((d)[2]), RIBO_4((d)[3]), RIBO_4((d)[4]), RIBO_4((d)[5]), \
      RIBO_4((d)[6]), RIBO_4((d)[7])
#define RIBO_A "{%32, %33, %34, %35}, %36, %37, 1, 1, %38;"
#define RIBO_SHARED_A "%32, %33, %34, 1, 1, %35, %36;"
#endif

/// d = A B + d, or A B unless kAdd, with A in registers.
template <bool kAdd = true, class T, bool kAcross>
__device__ inline void wgmma(Sums64& d, const uint32_t (&a)[4], WgmmaOperand<T, kAcross> b) {
#ifdef __CUDACC__
  if constexpr (std::is_same_v<T, __half>) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 " RIBO_D ", " RIBO_A
                 : RIBO_32(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.descriptor()), "n"(int{kAdd}),
                   "n"(int{kAcross}));
  } else {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " RIBO_D ", " RIBO_A
                 : RIBO_32(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.descriptor()), "n"(int{kAdd}),
                   "n"(int{kAcross}));
  }
#else
  cuda_on_host::wgmma<T>(d, a, b, kAdd);
#endif
}

/// Likewise, with both in shared memory.
template <bool kAdd = true, class T, bool kAcrossA, bool kAcrossB>
__device__ inline void wgmma(Sums64& d, WgmmaOperand<T, kAcrossA> a, WgmmaOperand<T, kAcrossB> b) {
#ifdef __CUDACC__
  if constexpr (std::is_same_v<T, __half>) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 " RIBO_D ", " RIBO_SHARED_A
                 : RIBO_32(d)
                 : "l"(a.descriptor()), "l"(b.descriptor()), "n"(int{kAdd}), "n"(int{kAcrossA}),
                   "n"(int{kAcrossB}));
  } else {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " RIBO_D ", " RIBO_SHARED_A
                 : RIBO_32(d)
                 : "l"(a.descriptor()), "l"(b.descriptor()), "n"(int{kAdd}), "n"(int{kAcrossA}),
                   "n"(int{kAcrossB}));
  }
#else
  cuda_on_host::wgmma_shared(d, a, b, kAdd);
#endif
}

namespace detail {

// No instruction: what follows takes the registers as written here.
__device__ inline void settle([[maybe_unused]] Sums64& d) {
#ifdef __CUDACC__
  asm volatile("" : RIBO_32(d)::"memory");
#endif
}
__device__ inline void settle([[maybe_unused]] float (&x)[4]) {
#ifdef __CUDACC__
  asm volatile("" : RIBO_4(x)::"memory");
#endif
}
__device__ inline void settle([[maybe_unused]] uint32_t (&a)[4]) {
#ifdef __CUDACC__
  asm volatile("" : "+r"(a[0]), "+r"(a[1]), "+r"(a[2]), "+r"(a[3])::"memory");
#endif
}
template <int kCount>
__device__ inline void settle(uint32_t (&a)[kCount][4]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) settle(a[i]);
}

}  // namespace detail

/// Takes the registers that have been written and that the instructions to follow use.
template <class... X>
__device__ inline void begin_wgmma(X&... registers) {
  (detail::settle(registers), ...);
#ifdef __CUDACC__
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

__device__ inline void end_wgmma() {
#ifdef __CUDACC__
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

/// Takes the registers, sums and operands, of the groups that have ended.
template <int kRunning, class... X>
__device__ inline void await_wgmma(X&... registers) {
#ifdef __CUDACC__
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kRunning) : "memory");
#endif
  (detail::settle(registers), ...);
}

/// Behind writing to shared memory, and before the barrier that lets these instructions read it.
__device__ inline void publish_to_wgmma() {
#ifdef __CUDACC__
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

#ifdef __CUDACC__
#undef RIBO_D
#undef RIBO_4
#undef RIBO_32
#undef RIBO_A
#undef RIBO_SHARED_A
#endif

}  // namespace ribo::kernels
