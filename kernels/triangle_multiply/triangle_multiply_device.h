// What a device does for triangle_multiply.cpp, which has checked the arguments.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "triangle_multiply/triangle_multiply_aten.h"

namespace ribo::kernels {

struct TriangleOnDevice {
  at::Tensor x;                     // [B, L, L, C], contiguous
  std::vector<at::Tensor> weights;  // TriangleWeights' members in their order
  at::Tensor lengths;               // [B], or undefined
  bool outgoing;
  at::ScalarType type;  // of the operands of products; x has it or is float32
};

#ifdef RIBO_CUDA_VERSION
/// Whether there is a kernel for x [B, L, L, C] and that type.
bool triangle_fits_cuda(const at::Tensor& x, int64_t hidden, at::ScalarType type);

TriangleResult triangle_forward_on_cuda(const TriangleOnDevice& in);
/// The gradients of x and of the weights.
std::vector<at::Tensor> triangle_backward_on_cuda(const TriangleOnDevice& in,
                                                  const TriangleResult& result,
                                                  const at::Tensor& d_y);
#endif

}  // namespace ribo::kernels
