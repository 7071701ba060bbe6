// What a device does for attention.cpp, which has checked the arguments.
#pragma once

#include <ATen/ATen.h>

#include "attention/attention_aten.h"

namespace ribo::kernels {

/// A tensor [B, G, L, H, d] whose memory is [B, L, G, H, d] if `columns`.
inline at::Tensor empty_for(const at::Tensor& q, at::ScalarType type, bool columns) {
  if (!columns) return at::empty(q.sizes(), q.options().dtype(type));
  return at::empty(q.transpose(1, 2).sizes(), q.options().dtype(type)).transpose(1, 2);
}

/// What a forward pass leaves for the backward pass.
struct AttentionResult {
  at::Tensor out;      // [B, G, L, H, d]
  at::Tensor log_sum;  // [B, H, G, L], of a row's weights
  at::Tensor bias;     // as CUDA's kernels read it, if that is not as it comes
};

#ifdef RIBO_CUDA_VERSION
/// Whether the kernels of attention_cuda.h take the problem; what they do not take is left to
/// LibTorch's operators.
bool attention_fits_cuda(const AttentionTensors& in);

/// in.bias may have any strides.
AttentionResult attention_forward_on_cuda(const AttentionTensors& in, bool columns);
/// in.bias is the result's, if there is one; its gradient is float32 if `wide_bias`, otherwise of
/// q's type.
AttentionGrads attention_backward_on_cuda(const AttentionTensors& in, const AttentionResult& result,
                                          const at::Tensor& out_grad, bool columns, bool wide_bias);
#endif

}  // namespace ribo::kernels
