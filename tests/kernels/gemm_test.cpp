#include <gtest/gtest.h>

#include "gemm_cases.h"

namespace ribo::kernels {
namespace {

TEST(Gemm, EveryInstructionSetAgreesWithTheDefinition) {
  const Isa best = isa();
  // Around blocks of 6, 12, 16 and 32, and around the depth of 256 that is added at once.
  for (const int m : {1, 7, 12, 16, 17, 33, 200}) {
    for (const int n : {1, 15, 16, 17, 32, 33, 70}) {
      for (const int k : {0, 1, 31, 32, 33, 64, 257, 300}) {
        for (int options = 0; options < 32; ++options) {
          const GemmCase c{m,
                           n,
                           k,
                           static_cast<RightFactor>(options % 4),
                           (options & 4) != 0,
                           (options & 8) != 0,
                           (options & 16) != 0};
          if (c.right >= RightFactor::rows && !c.narrow) continue;
          for (const Isa most : {Isa::generic, Isa::avx2, Isa::avx512, Isa::bf16, Isa::amx}) {
            limit_isa(most);
            if (isa() != most || (c.narrow && most < Isa::bf16)) continue;
            const double error =
                with_isa(most >= Isa::bf16, [&](auto isa) { return gemm_error<isa>(c); });
            ASSERT_LE(error, c.narrow ? 1.0 / 256 : 1e-7)
                << "[" << m << ", " << k << "] [" << k << ", " << n << "], options " << options
                << ", instruction set " << static_cast<int>(most);
          }
        }
      }
    }
  }
  limit_isa(best);
}

}  // namespace
}  // namespace ribo::kernels
