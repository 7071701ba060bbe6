// Copies from memory to shared memory that a thread starts and later waits for.
#pragma once

#include <cuda_pipeline.h>

#include "common/cuda.cuh"

namespace ribo::kernels {

/// Copies 16 bytes to shared memory, or zeros unless `there`; both ends at multiples of 16 bytes.
__device__ inline void copy_async(void* to, const void* from, bool there) {
#ifdef __CUDACC__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(there ? 16 : 0)
               : "memory");
#else
  __pipeline_memcpy_async(to, from, 16, there ? 0 : 16);
#endif
}

/// Copies a float, or zero.
__device__ inline void copy_number_async(float* to, const float* from, bool there) {
#ifdef __CUDACC__
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(there ? 4 : 0)
               : "memory");
#else
  __pipeline_memcpy_async(to, from, 4, there ? 0 : 4);
#endif
}

/// Ends a group of the copies that this thread has started.
__device__ inline void commit_copies() { __pipeline_commit(); }
/// Waits for this thread's copies but those of its last kGroups groups.
template <int kGroups>
__device__ inline void wait_for_copies() {
  __pipeline_wait_prior(kGroups);
}

}  // namespace ribo::kernels
