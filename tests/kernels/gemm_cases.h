// Products of gemm() beside their definition, compiled once for each instruction set.
#pragma once

#include "common/isa.h"

namespace ribo::kernels {

struct GemmCase {
  int m, n, k;
  bool transposed;  // A lies column by column
  bool packed;      // B in panels, else where it is
  bool accumulate;
};

/// The largest difference from the definition, of matrices whose values bfloat16 holds exactly, and
/// of what `finish` added; infinite where something outside of C was written.
template <Isa isa>
double gemm_error(const GemmCase& c);

}  // namespace ribo::kernels
