// The rates of this machine that bound an operator, measured when first asked for.
#pragma once

#include "bench/bench.h"

namespace ribo::kernels::bench {

/// Exponentials (of common/vec.h), multiply-adds in registers and multiply-adds of at::mm per
/// second, on `threads` threads; the best of several tries.
double exp_rate(int threads);
double op_rate(int threads);
double product_rate(int threads);

/// Bytes per second, read and written, of a copy whose two ends take `bytes` together: in a cache
/// that holds them it is many times that of the memory.
double copy_rate(int threads, double bytes);

/// The seconds that the work needs here. Exponentials and other arithmetic share the same units, so
/// their times add up; the copying may happen beside them. `bound` names what takes longest.
double least_seconds(const Work& work, int threads, const char*& bound);

}  // namespace ribo::kernels::bench
