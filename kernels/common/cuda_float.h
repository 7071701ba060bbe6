// The types of values on a GPU.
#pragma once

namespace ribo::kernels {

enum class CudaFloat { float32, bfloat16, float16 };

/// What operands of products on tensor cores are; sums are float32.
enum class CudaNarrow { bfloat16, float16 };

}  // namespace ribo::kernels
