// What tensors on a GPU are stored in.
#pragma once

namespace ribo::kernels {

enum class CudaFloat { float32, bfloat16, float16 };

}  // namespace ribo::kernels
