// Loops that run at a limit of one core. No torch here: compiled for each instruction set.
#pragma once

#include <cstdint>

#include "common/isa.h"

namespace ribo::kernels::bench {

/// About `count` exponentials of common/vec.h, in registers; the value keeps them from being
/// left out.
template <Isa isa>
float exponentials(int64_t count);

/// About `count` multiply-adds, in registers.
template <Isa isa>
float multiply_adds(int64_t count);

/// Copies n floats with plain stores, which read what they overwrite; std::memcpy does not for
/// large n.
template <Isa isa>
void copy(float* to, const float* from, int64_t n);

}  // namespace ribo::kernels::bench
