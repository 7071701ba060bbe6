#include "common/isa.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace ribo::kernels {
namespace {

Isa of_cpu() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return Isa::avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
  return Isa::generic;
}

Isa start() {
  const char* value = std::getenv("RIBO_ISA");
  const std::string_view most = value ? value : "";
  if (most == "generic") return Isa::generic;
  if (most == "avx2") return std::min(Isa::avx2, of_cpu());
  return of_cpu();
}

Isa& current() {
  static Isa value = start();
  return value;
}

}  // namespace

Isa isa() { return current(); }

void limit_isa(Isa most) { current() = std::min(most, of_cpu()); }

}  // namespace ribo::kernels
