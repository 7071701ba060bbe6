#include "common/isa.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>
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
  static const bool allowed = ::syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  return allowed;
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

Isa start() {
  const char* value = std::getenv("RIBO_ISA");
  const std::string_view most = value ? value : "";
  Isa limit = Isa::amx;
  for (const auto& [name, isa] : {std::pair("generic", Isa::generic), std::pair("avx2", Isa::avx2),
                                  std::pair("avx512", Isa::avx512), std::pair("bf16", Isa::bf16)}) {
    if (most == name) limit = isa;
  }
  return std::min(limit, of_cpu());
}

Isa& current() {
  static Isa value = start();
  return value;
}

}  // namespace

Isa isa() { return current(); }

void limit_isa(Isa most) { current() = std::min(most, of_cpu()); }

}  // namespace ribo::kernels
