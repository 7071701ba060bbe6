// Every form of a warpgroup's matrix instruction (kernels/common/wgmma.cuh) that the kernels use.
#pragma once

#include <cuda_runtime_api.h>

namespace ribo::kernels {

/// Where the operands lie, and whether k runs along the rows of shared memory or across them.
enum class WgmmaForm { registers_along, registers_across, along_along, across_across };

/// Enqueues d [64, 64] = a b, where a [64 m, 64 k] or, across, [64 k, 64 m], and b [64 n, 64 k] or
/// [64 k, 64 n]. Of `T`s, float16 or bfloat16; d is float32. Pointers are to the device.
cudaError_t wgmma_product(bool float16, WgmmaForm form, const void* a, const void* b, float* d,
                          cudaStream_t stream);

}  // namespace ribo::kernels
