#include "attention/attention_cuda.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <cmath>
#include <limits>

#include "attention/attention_device.h"
#include "common/cuda_calls.h"

namespace ribo::kernels {
namespace {

constexpr std::string_view kOp = "attention";

// Sizes and types, without pointers.
CudaAttention shape(const AttentionTensors& in) {
  CudaAttention p;
  p.type = cuda_narrow(in.q.scalar_type());
  p.batch = static_cast<int>(in.q.size(0)), p.groups = static_cast<int>(in.q.size(1));
  p.length = static_cast<int>(in.q.size(2)), p.heads = static_cast<int>(in.q.size(3));
  p.width = static_cast<int>(in.q.size(4));
  p.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(p.width)));
  p.kept = static_cast<float>(in.kept);
  p.multiprocessors = device_attribute(kOp, cudaDevAttrMultiProcessorCount, in.q);
  p.shared_memory = device_attribute(kOp, cudaDevAttrMaxSharedMemoryPerBlockOptin, in.q);
  return p;
}

// x where kernels can read its rows 16 bytes at a time, else a copy.
at::Tensor readable(const at::Tensor& x) {
  bool can = x.stride(4) == 1 && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0 &&
             x.stride(2) <= std::numeric_limits<int>::max();
  for (int i = 0; i < 4; ++i) can = can && (x.size(i) == 1 || x.stride(i) % 8 == 0);
  return can ? x : aligned(x, x.scalar_type());
}

CudaAttentionTensor tensor(const at::Tensor& x) {
  return {const_cast<void*>(x.const_data_ptr()), x.stride(0), x.stride(1), x.stride(2),
          x.stride(3)};
}

void set_bias(CudaAttention& p, const at::Tensor& bias) {
  p.bias = bias.const_data_ptr();
  for (int i = 0; i < 3 && bias.dim() == 4; ++i) p.bias_steps[i] = bias.stride(i);
  p.wide_bias = bias.scalar_type() == at::kFloat;
}

// `bias` [B, H, L, L] times `factor` in `type`, or the transpose of an arranged one
// (CudaAttentionBias).
at::Tensor arrange(const CudaAttention& p, const at::Tensor& bias, at::ScalarType type,
                   double factor, bool transposed) {
  const at::Tensor to =
      at::empty({p.batch, p.heads, cuda_attention_arranged(p.length)}, bias.options().dtype(type));
  CudaAttentionBias a;
  a.type = p.type;
  a.batch = p.batch, a.heads = p.heads, a.length = p.length;
  a.from = bias.const_data_ptr();
  for (int i = 0; !transposed && i < 4; ++i) a.steps[i] = bias.stride(i);
  a.wide_from = bias.scalar_type() == at::kFloat;
  a.factor = static_cast<float>(factor);
  a.transposed = transposed;
  a.to = to.mutable_data_ptr();
  a.wide_to = type == at::kFloat;
  expect_success(kOp, cuda_attention_bias(a, c10::cuda::getCurrentCUDAStream()));
  return to;
}

// What the groups' bias, divided by the scale, can be without rounding: bfloat16 again where the
// scale is a power of two.
at::ScalarType arranged_type(const AttentionTensors& in) {
  const bool exact = in.q.size(4) == 16 || in.q.size(4) == 64;
  return exact && in.bias.scalar_type() == at::kBFloat16 ? at::kBFloat16 : at::kFloat;
}

// The arguments as the kernels take them, alive as long as this is.
struct Problem {
  at::Tensor q, k, v, lengths;
  CudaAttention problem;

  explicit Problem(const AttentionTensors& in)
      : q(readable(in.q)), k(readable(in.k)), v(readable(in.v)), problem(shape(in)) {
    problem.q = tensor(q), problem.k = tensor(k), problem.v = tensor(v);
    if (in.keep.defined()) {
      problem.keep = static_cast<const uint8_t*>(in.keep.const_data_ptr());
    }
    if (!in.lengths.defined()) return;
    lengths = in.lengths.to(q.device(), at::kLong).contiguous();
    problem.lengths = lengths.const_data_ptr<int64_t>();
  }
};

}  // namespace

bool attention_fits_cuda(const AttentionTensors& in) {
  const at::ScalarType type = in.q.scalar_type(), bias = in.bias.scalar_type();
  return in.q.is_cuda() && (type == at::kBFloat16 || type == at::kHalf) &&
         (bias == at::kFloat || bias == type) && cuda_attention_takes(shape(in));
}

AttentionResult attention_forward_on_cuda(const AttentionTensors& in, bool columns) {
  const c10::cuda::CUDAGuard device(in.q.device());
  Problem p(in);
  AttentionResult result = {empty_for(in.q, in.q.scalar_type(), columns),
                            at::empty({in.q.size(0), in.q.size(3), in.q.size(1), in.q.size(2)},
                                      in.q.options().dtype(at::kFloat)),
                            {}};
  if (in.q.size(1) > 1) {
    result.bias = arrange(p.problem, in.bias, arranged_type(in), 1.0 / p.problem.scale,
                          /*transposed=*/false);
  } else if (in.bias.stride(3) != 1) {
    result.bias = in.bias.contiguous();
  }
  set_bias(p.problem, result.bias.defined() ? result.bias : in.bias);
  CudaAttentionForward forward{p.problem};
  forward.log_sum = result.log_sum.mutable_data_ptr<float>();
  forward.out = tensor(result.out);
  expect_success(kOp, cuda_attention_forward(forward, c10::cuda::getCurrentCUDAStream()));
  return result;
}

AttentionGrads attention_backward_on_cuda(const AttentionTensors& in, const AttentionResult& result,
                                          const at::Tensor& out_grad, bool columns,
                                          bool wide_bias) {
  const c10::cuda::CUDAGuard device(in.q.device());
  Problem p(in);
  const at::Tensor g = readable(out_grad.to(in.q.scalar_type()));
  const auto sums = in.q.options().dtype(at::kFloat);
  set_bias(p.problem, in.bias);
  at::Tensor transposed, bias_sums;
  CudaAttentionBackward backward{p.problem};
  cuda_attention_plan(backward);
  const auto like_q = [&] { return empty_for(in.q, in.q.scalar_type(), columns); };
  AttentionGrads grads{like_q(), like_q(), like_q(), {}};
  const at::Tensor delta = at::empty_like(result.log_sum);
  const at::Tensor q_sums =
      at::empty({backward.parts > 1 ? result.log_sum.numel() * in.q.size(4) : 0}, sums);
  if (in.q.size(1) > 1) {
    transposed = arrange(p.problem, in.bias, in.bias.scalar_type(), 1, /*transposed=*/true);
    bias_sums = at::empty({backward.slices, in.q.size(0), in.q.size(3), in.q.size(2),
                           cuda_attention_pitch(backward.length)},
                          sums);
    backward.bias_transposed = transposed.const_data_ptr();
    backward.bias_sums = bias_sums.mutable_data_ptr<float>();
  }
  grads.bias = at::empty({in.q.size(0), in.q.size(3), in.q.size(2), in.q.size(2)},
                         sums.dtype(wide_bias ? at::kFloat : in.q.scalar_type()));
  backward.log_sum = result.log_sum.mutable_data_ptr<float>();
  backward.out = tensor(result.out);
  backward.out_grad = tensor(g);
  backward.q_grad = tensor(grads.q);
  backward.k_grad = tensor(grads.k);
  backward.v_grad = tensor(grads.v);
  backward.delta = delta.mutable_data_ptr<float>();
  backward.q_sums = q_sums.mutable_data_ptr<float>();
  backward.bias_grad = grads.bias.mutable_data_ptr();
  backward.wide_bias_grad = wide_bias;
  expect_success(kOp, cuda_attention_backward(backward, c10::cuda::getCurrentCUDAStream()));
  return grads;
}

}  // namespace ribo::kernels
