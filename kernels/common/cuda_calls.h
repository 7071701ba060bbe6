// What the files share that hand tensors to CUDA kernels.
#pragma once

#include <ATen/core/Tensor.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "common/cuda_float.h"
#include "ribo/error.h"

namespace ribo::kernels {

/// Throws Error in the name of operator `op` where a call of CUDA's has failed.
inline void expect_success(std::string_view op, cudaError_t error) {
  if (error != cudaSuccess) throw Error(cat(op, ": CUDA: ", cudaGetErrorString(error)));
}

/// What the GPU that x is on has of something.
inline int device_attribute(std::string_view op, cudaDeviceAttr of, const at::Tensor& x) {
  int value = 0;
  expect_success(op, cudaDeviceGetAttribute(&value, of, x.get_device()));
  return value;
}

/// The types that tensors of CudaFloat have.
inline bool is_cuda_float(at::ScalarType type) {
  return type == at::kFloat || type == at::kBFloat16 || type == at::kHalf;
}
inline CudaFloat cuda_float(at::ScalarType type) {
  return type == at::kFloat  ? CudaFloat::float32
         : type == at::kHalf ? CudaFloat::float16
                             : CudaFloat::bfloat16;
}

inline CudaNarrow cuda_narrow(at::ScalarType type) {
  return type == at::kHalf ? CudaNarrow::float16 : CudaNarrow::bfloat16;
}

/// x in `type`, contiguous, where kernels can read it 16 bytes at a time.
inline at::Tensor aligned(const at::Tensor& x, at::ScalarType type) {
  const at::Tensor y = x.to(type).contiguous();
  return reinterpret_cast<uintptr_t>(y.const_data_ptr()) % 16 == 0 ? y : y.clone();
}

/// The type that all weights have, if that is `type`, that of products; otherwise float32.
inline at::ScalarType weight_type(at::ArrayRef<at::Tensor> weights, at::ScalarType type) {
  const bool narrow = std::all_of(weights.begin(), weights.end(),
                                  [&](const at::Tensor& w) { return w.scalar_type() == type; });
  return narrow ? type : at::kFloat;
}

}  // namespace ribo::kernels
