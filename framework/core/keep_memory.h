// What ribo-run asks of the system's memory, for programs that are measured as it runs.
#pragma once

#include <malloc.h>

#include <cstdlib>

namespace ribo {

/// Called before LibTorch is loaded or allocates. Each update asks for the same memory again, but
/// by default glibc returns large blocks to the system, which clears them anew: a quarter of the
/// time of a small model with a pair track. Where lengths vary, keeping them takes more memory
/// (docs/kernels.md). And where LibTorch asks for huge pages for tensors of 2 MiB and more, a fresh
/// one costs a page fault a 2 MiB instead of 512. What the environment says of either
/// (THP_MEM_ALLOC_ENABLE, MALLOC_MMAP_MAX_ ...) stands.
inline void keep_memory() {
  setenv("THP_MEM_ALLOC_ENABLE", "1", 0);
  const auto unless_set = [](const char* variable, int option, int value) {
    if (!std::getenv(variable)) mallopt(option, value);
  };
  unless_set("MALLOC_MMAP_MAX_", M_MMAP_MAX, 0);
  unless_set("MALLOC_TRIM_THRESHOLD_", M_TRIM_THRESHOLD, -1);
  unless_set("MALLOC_TOP_PAD_", M_TOP_PAD, 64 << 20);
}

}  // namespace ribo
