// Products of gemm() beside their definition, compiled once for each instruction set.
#pragma once

#include "common/isa.h"

namespace ribo::kernels {

/// How B lies: float32 in panels or where it is; or, with A and C, bfloat16 whose rows or columns
/// lie side by side.
enum class RightFactor { packed, in_place, rows, columns };

struct GemmCase {
  int m, n, k;
  RightFactor right;
  bool transposed;  // A lies column by column
  bool accumulate;
  bool narrow;  // C is bfloat16, too
};

/// The largest difference from the definition, of matrices whose values bfloat16 holds exactly, and
/// of what `finish` added, as a share of all that was added up; infinite where something outside of
/// C was written.
template <Isa isa>
double gemm_error(const GemmCase& c);

}  // namespace ribo::kernels
