// One source, several instruction sets. A file `<op>_cpu.cpp` is compiled once for each of them,
// with RIBO_ISA defined as its name, and defines `template <Isa> f` explicitly for Isa::RIBO_ISA;
// callers choose at run time:
//
//   with_isa([&](auto isa) { scan_forward<isa>(args); });
//
// What such a file defines besides lives in `namespace RIBO_ISA`, and it uses no standard
// container: the linker merges inline functions of equal names, and would hand AVX-512 code to an
// older CPU.
#pragma once

#include <cstdint>
#include <type_traits>

namespace ribo::kernels {

enum class Isa { generic, avx2, avx512, bf16, amx };

/// The best instruction set that this CPU has, or a lower one that $RIBO_ISA (generic, avx2,
/// avx512, bf16, amx) or limit_isa() names. avx2 stands for x86-64-v3, avx512 for x86-64-v4, bf16
/// for that and AVX512-BF16. amx has AMX-BF16 besides: it runs what is compiled for bf16, which
/// asks.
Isa isa();

/// For tests and benchmarks: from now on isa() is at most `most`, and what $RIBO_ISA says. Not
/// thread-safe.
void limit_isa(Isa most);

/// A bfloat16 number in memory.
struct Bf16 {
  uint16_t bits;
};

/// As what a file compiled for `isa` may store a T that a product has made or will read: where it
/// would be rounded anyway, as bfloat16.
#if defined(__x86_64__)
template <Isa isa, class T>
using Stored = std::conditional_t<isa == Isa::bf16 && std::is_same_v<T, float>, Bf16, T>;
#else
template <Isa isa, class T>
using Stored = T;
#endif

/// f(std::integral_constant<Isa, i>{}) with the best i <= avx512 that isa() allows.
template <class F>
decltype(auto) with_isa(F&& f) {
  switch (isa()) {
    case Isa::generic:
      return f(std::integral_constant<Isa, Isa::generic>{});
    case Isa::avx2:
      return f(std::integral_constant<Isa, Isa::avx2>{});
    default:
      return f(std::integral_constant<Isa, Isa::avx512>{});
  }
}

/// The same for operators that are compiled for bf16 too, where gemm() rounds its operands: taken
/// if `bf16` allows it and the CPU has it.
template <class F>
decltype(auto) with_isa(bool bf16, F&& f) {
  if (bf16 && isa() >= Isa::bf16) return f(std::integral_constant<Isa, Isa::bf16>{});
  return with_isa(f);
}

}  // namespace ribo::kernels
