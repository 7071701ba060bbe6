// See cuda_runtime.h. A copy takes place when it is waited for, not before.
#pragma once

#include "cuda_runtime.h"

inline void __pipeline_memcpy_async(void* to, const void* from, size_t size, size_t zeros = 0) {
  cuda_on_host::fibers[threadIdx.x].copies.push_back({to, from, size - zeros, zeros});
}
inline void __pipeline_commit() {}
inline void __pipeline_wait_prior(int) {
  for (const auto& copy : cuda_on_host::fibers[threadIdx.x].copies) {
    if (copy.size > 0) std::memcpy(copy.to, copy.from, copy.size);
    std::memset(static_cast<char*>(copy.to) + copy.size, 0, copy.zeros);
  }
  cuda_on_host::fibers[threadIdx.x].copies.clear();
}
