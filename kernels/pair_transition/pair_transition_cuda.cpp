#include "pair_transition/pair_transition_cuda.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "common/cuda_calls.h"
#include "pair_transition/pair_transition_device.h"

namespace ribo::kernels {
namespace {

constexpr std::string_view kOp = "pair_transition";

// Sizes and types, without pointers.
CudaTransition shape(const TransitionTensors& in) {
  CudaTransition p;
  p.type = cuda_narrow(in.type);
  p.wide = in.x.scalar_type() == at::kFloat;
  p.channels = static_cast<int>(in.w1.size(1));
  p.hidden = static_cast<int>(in.w1.size(0));
  p.positions = in.x.numel() / in.x.size(-1);
  p.eps = static_cast<float>(in.eps);
  p.capability = 10 * device_attribute(kOp, cudaDevAttrComputeCapabilityMajor, in.x) +
                 device_attribute(kOp, cudaDevAttrComputeCapabilityMinor, in.x);
  p.multiprocessors = device_attribute(kOp, cudaDevAttrMultiProcessorCount, in.x);
  p.shared_memory = device_attribute(kOp, cudaDevAttrMaxSharedMemoryPerBlockOptin, in.x);
  return p;
}

// The arguments as the kernels take them, alive as long as this is.
struct Problem {
  at::ScalarType io, weights;
  at::Tensor x, norm_weight, norm_bias, w1, b1, w2, b2, lengths;
  CudaTransition problem;

  explicit Problem(const TransitionTensors& in)
      : io(in.x.scalar_type()),
        weights(weight_type({in.norm_weight, in.norm_bias, in.w1, in.b1, in.w2, in.b2}, in.type)),
        x(aligned(in.x, io)),
        norm_weight(aligned(in.norm_weight, weights)),
        norm_bias(aligned(in.norm_bias, weights)),
        w1(aligned(in.w1, weights)),
        b1(aligned(in.b1, weights)),
        w2(aligned(in.w2, weights)),
        b2(aligned(in.b2, weights)),
        problem(shape(in)) {
    problem.wide_weights = weights == at::kFloat;
    problem.x = x.const_data_ptr();
    problem.norm_weight = norm_weight.const_data_ptr();
    problem.norm_bias = norm_bias.const_data_ptr();
    problem.w1 = w1.const_data_ptr();
    problem.b1 = b1.const_data_ptr();
    problem.w2 = w2.const_data_ptr();
    problem.b2 = b2.const_data_ptr();
    if (!in.lengths.defined()) return;
    lengths = in.lengths.to(x.device(), at::kLong).contiguous();
    problem.length = in.x.size(1);
    problem.lengths = lengths.const_data_ptr<int64_t>();
  }
  at::Tensor scratch(int64_t count) const {
    return at::empty({count}, x.options().dtype(at::kFloat));
  }
};

}  // namespace

bool transition_fits_cuda(const TransitionTensors& in) {
  const at::ScalarType io = in.x.scalar_type();
  return in.x.is_cuda() && (in.type == at::kBFloat16 || in.type == at::kHalf) &&
         (io == at::kFloat || io == in.type) && cuda_transition_takes(shape(in));
}

at::Tensor transition_forward_on_cuda(const TransitionTensors& in) {
  const c10::cuda::CUDAGuard device(in.x.device());
  const Problem p(in);
  const at::Tensor y = at::empty(p.x.sizes(), p.x.options());
  CudaTransitionForward forward{p.problem};
  forward.y = y.mutable_data_ptr();
  const at::Tensor scratch = p.scratch(cuda_transition_forward_scratch(p.problem));
  forward.scratch = scratch.mutable_data_ptr<float>();
  expect_success(kOp, cuda_transition_forward(forward, c10::cuda::getCurrentCUDAStream()));
  return y;
}

TransitionGrads transition_backward_on_cuda(const TransitionTensors& in, const at::Tensor& y_grad) {
  const c10::cuda::CUDAGuard device(in.x.device());
  const Problem p(in);
  const at::Tensor dy = aligned(y_grad, p.io);
  const TransitionGrads grads = {at::empty(p.x.sizes(), p.x.options()),
                                 at::empty_like(p.norm_weight),
                                 at::empty_like(p.norm_bias),
                                 at::empty_like(p.w1),
                                 at::empty_like(p.b1),
                                 at::empty_like(p.w2),
                                 at::empty_like(p.b2)};
  const at::Tensor scratch = p.scratch(cuda_transition_backward_scratch(p.problem));
  CudaTransitionBackward backward{p.problem};
  backward.dy = dy.const_data_ptr();
  backward.dx = grads[0].mutable_data_ptr();
  backward.d_norm_weight = grads[1].mutable_data_ptr();
  backward.d_norm_bias = grads[2].mutable_data_ptr();
  backward.dw1 = grads[3].mutable_data_ptr();
  backward.db1 = grads[4].mutable_data_ptr();
  backward.dw2 = grads[5].mutable_data_ptr();
  backward.db2 = grads[6].mutable_data_ptr();
  backward.scratch = scratch.mutable_data_ptr<float>();
  expect_success(kOp, cuda_transition_backward(backward, c10::cuda::getCurrentCUDAStream()));
  return grads;
}

}  // namespace ribo::kernels
