// Cases on a GPU. Without CUDA in the build there is none.
#pragma once

#include "bench/bench.h"

namespace ribo::kernels::bench {

#ifdef RIBO_CUDA_VERSION

inline bool has_gpu() { return at::hasCUDA(); }

/// Registers `name`/cuda, which times what `pass` makes of a problem: the GPU alone, without what
/// the host takes to launch it. Problems take turns, as many as keep their inputs out of the L2
/// cache. Counters: `fastest`, the milliseconds of a call in the fastest round of calls; its work
/// per second; and, in % of that call's time, what each part of the work takes at this GPU's rates,
/// `limit_copy`, `limit_exp`, `limit_ops` and `limit_products`. `limit` is the largest of them:
/// bytes, exponentials, float32 arithmetic and matrix products have units of their own, which work
/// beside each other. The label says which it is, or "host" where the GPU waited for launches.
void add_on_gpu(const std::string& name, const Work& work, const std::function<Problem()>& make,
                Call (*pass)(const Problem&));

/// The rates themselves.
void add_gpu();

#else

inline bool has_gpu() { return false; }
inline void add_on_gpu(const std::string&, const Work&, const std::function<Problem()>&,
                       Call (*)(const Problem&)) {}
inline void add_gpu() {}

#endif

}  // namespace ribo::kernels::bench
