// The shared attention by LibTorch's own operators, for devices without a kernel of their own.
#pragma once

#include <ATen/core/Tensor.h>

#include "ribo/error.h"

namespace ribo::kernels {

/// attention_cpu.h says what is computed.
struct AttentionTensors {
  at::Tensor q, k, v;  // [B, G, L, H, d]
  at::Tensor bias;     // [B, H, L, L]
  at::Tensor lengths;  // [B], or undefined
  at::Tensor keep;     // bool [B, H, L, L], or undefined
  double kept = 1;     // factor of a kept weight
};

/// [B, G, L, H, d] in q's type. Works on some groups at a time, so that memory stays that of the
/// arguments and a few [B, H, L, L].
RIBO_API at::Tensor attention_forward_aten(const AttentionTensors& in);

struct AttentionGrads {
  at::Tensor q, k, v, bias;
};
/// The gradients, in the arguments' types, but bias's in float32 (float64).
RIBO_API AttentionGrads attention_backward_aten(const AttentionTensors& in,
                                                const at::Tensor& out_grad);

}  // namespace ribo::kernels
