#include "common/isa.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace ribo::kernels {
namespace {

#if defined(__x86_64__)
// AMX-TILE and AMX-BF16, and the kernel's leave to use their registers, for which a process asks
// once (Documentation/arch/x86/xstate.rst of Linux).
bool has_amx() {
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;  // of leaf 7's edx
  constexpr long kRequest = 0x1023, kTileData = 18;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & kBf16) || !(d & kTile)) return false;
  return ::syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}
#endif

Isa of_cpu() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    if (!__builtin_cpu_supports("avx512bf16")) return Isa::avx512;
    return has_amx() ? Isa::amx : Isa::bf16;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
  return Isa::generic;
}

constexpr std::pair<const char*, Isa> kNames[] = {{"generic", Isa::generic},
                                                  {"avx2", Isa::avx2},
                                                  {"avx512", Isa::avx512},
                                                  {"bf16", Isa::bf16},
                                                  {"amx", Isa::amx}};

Isa find_best() {
  const char* limit = std::getenv("RIBO_ISA");
  if (!limit) return of_cpu();
  for (const auto& [name, isa] : kNames) {
    if (std::strcmp(limit, name) == 0) return std::min(isa, of_cpu());
  }
  std::fprintf(stderr, "warning: RIBO_ISA=%s: expected generic, avx2, avx512, bf16 or amx\n", limit);
  return of_cpu();
}

Isa best() {
  static const Isa value = find_best();
  return value;
}

Isa& current() {
  static Isa value = best();
  return value;
}

}  // namespace

Isa isa() { return current(); }

void limit_isa(Isa most) { current() = std::min(most, best()); }

}  // namespace ribo::kernels
