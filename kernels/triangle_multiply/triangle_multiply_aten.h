// The triangle multiplicative update by LibTorch's own operators, for devices without a kernel.
#pragma once

#include <ATen/core/Tensor.h>

#include "ribo/error.h"

namespace ribo::kernels {

/// What both implementations compute with; all of one type.
struct TriangleTensors {
  at::Tensor x;                       // [B, L, L, C]
  at::Tensor in_weight, in_bias;      // [5 H, C], [5 H]: TriangleParameters says which
  at::Tensor norm_weight, norm_bias;  // [H]
  at::Tensor out_weight, out_bias;    // [H, C], [C]
  at::Tensor lengths;                 // [B], int64 on the CPU
  bool outgoing;
  // The CPU's kernels alone:
  bool bf16 = false;      // operands of products may be rounded to bfloat16
  bool residual = false;  // y is x + keep y
  at::Tensor keep = {};   // [B, L, L, C], of which either L may have the stride 0; or undefined: 1
};

/// The result, and what the backward pass needs besides the arguments, [B, H, ...].
struct TriangleResult {
  at::Tensor y, left, right, product;
};

/// The gradients of TriangleTensors, in their types.
struct TriangleGrads {
  at::Tensor x, in_weight, in_bias, norm_weight, norm_bias, out_weight, out_bias;
};

/// Works on some rows at a time, so that memory stays that of x and of the result.
RIBO_API TriangleResult triangle_forward_aten(const TriangleTensors& in);
RIBO_API TriangleGrads triangle_backward_aten(const TriangleTensors& in,
                                              const TriangleResult& result, const at::Tensor& d_y);

}  // namespace ribo::kernels
