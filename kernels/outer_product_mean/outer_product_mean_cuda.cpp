#include "outer_product_mean/outer_product_mean_cuda.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "common/cuda_calls.h"
#include "outer_product_mean/outer_product_mean_device.h"

namespace ribo::kernels {
namespace {

constexpr std::string_view kOp = "outer_product_mean";

// Sizes and types, without pointers.
CudaOuterProduct shape(const OuterProductTensors& in, at::ScalarType pairs) {
  CudaOuterProduct p;
  p.type = cuda_narrow(in.a.scalar_type());
  p.wide = pairs == at::kFloat;
  p.batch = static_cast<int>(in.a.size(0));
  p.length = static_cast<int>(in.a.size(1));
  p.width = static_cast<int>(in.a.size(2));
  p.channels = static_cast<int>(in.weight.size(0));
  p.multiprocessors = device_attribute(kOp, cudaDevAttrMultiProcessorCount, in.a);
  return p;
}

// The arguments as the kernels take them, alive as long as this is.
struct Problem {
  at::ScalarType type;
  at::Tensor a, b, weight, projected, lengths;  // weight [C K, K]
  CudaOuterProduct problem;

  Problem(const OuterProductTensors& in, at::ScalarType pairs)
      : type(in.a.scalar_type()),
        a(aligned(in.a, type)),
        b(aligned(in.b, type)),
        weight(in.weight.to(type).reshape({-1, in.a.size(2)})),
        projected(at::matmul(a, weight.t())),
        problem(shape(in, pairs)) {
    problem.b = b.const_data_ptr();
    problem.projected = projected.const_data_ptr();
    if (!in.lengths.defined()) return;
    lengths = in.lengths.to(b.device(), at::kLong).contiguous();
    problem.lengths = lengths.const_data_ptr<int64_t>();
  }
};

}  // namespace

bool outer_product_fits_cuda(const OuterProductTensors& in, at::ScalarType pairs) {
  const at::ScalarType type = in.a.scalar_type();
  return in.a.is_cuda() && (type == at::kBFloat16 || type == at::kHalf) &&
         (pairs == at::kFloat || pairs == type) && cuda_outer_product_takes(shape(in, pairs));
}

at::Tensor outer_product_forward_on_cuda(const OuterProductTensors& in) {
  const c10::cuda::CUDAGuard device(in.a.device());
  const at::ScalarType pairs = (in.residual.defined() ? in.residual : in.a).scalar_type();
  const Problem p(in, pairs);
  const at::Tensor bias =
      in.bias.defined() ? aligned(in.bias, weight_type({in.bias}, p.type)) : at::Tensor();
  const at::Tensor residual = in.residual.defined() ? aligned(in.residual, pairs) : at::Tensor();
  const at::Tensor out = at::empty({in.a.size(0), in.a.size(1), in.a.size(1), in.weight.size(0)},
                                   in.a.options().dtype(pairs));
  CudaOuterProductForward forward{p.problem};
  if (bias.defined()) {
    forward.bias = bias.const_data_ptr();
    forward.wide_bias = bias.scalar_type() == at::kFloat;
  }
  if (residual.defined()) forward.residual = residual.const_data_ptr();
  forward.out = out.mutable_data_ptr();
  expect_success(kOp, cuda_outer_product_forward(forward, c10::cuda::getCurrentCUDAStream()));
  return out;
}

OuterProductGrads outer_product_backward_on_cuda(const OuterProductTensors& in,
                                                 const at::Tensor& out_grad) {
  const c10::cuda::CUDAGuard device(in.a.device());
  const at::ScalarType pairs = out_grad.scalar_type();
  const Problem p(in, pairs);
  const at::Tensor g = aligned(out_grad, pairs);
  CudaOuterProductBackward backward{p.problem};
  cuda_outer_product_plan(backward);
  const auto sums = in.a.options().dtype(at::kFloat);
  const at::Tensor projected_grad = backward.pieces == 1
                                        ? at::empty_like(p.projected)
                                        : at::empty({backward.pieces, p.projected.numel()}, sums);
  const at::Tensor b_sums = at::empty({backward.slices, p.b.numel()}, sums);
  const at::Tensor bias_sums =
      at::empty({in.a.size(0) * backward.slices * backward.pieces, in.weight.size(0)}, sums);
  OuterProductGrads grads;
  grads.b = at::empty_like(p.b);
  grads.bias = at::empty({in.weight.size(0)}, sums);
  grads.residual = p.lengths.defined() ? at::empty_like(g) : out_grad;
  const at::Tensor a = p.lengths.defined() ? at::empty_like(p.a) : p.a;
  if (p.lengths.defined()) {
    backward.a = p.a.const_data_ptr();
    backward.real_a = a.mutable_data_ptr();
  }
  backward.out_grad = g.const_data_ptr();
  backward.residual_grad = p.lengths.defined() ? grads.residual.mutable_data_ptr() : nullptr;
  backward.projected_grad = projected_grad.mutable_data_ptr();
  backward.b_grad = grads.b.mutable_data_ptr();
  backward.bias_grad = grads.bias.mutable_data_ptr<float>();
  backward.b_sums = b_sums.mutable_data_ptr<float>();
  backward.bias_sums = bias_sums.mutable_data_ptr<float>();
  expect_success(kOp, cuda_outer_product_backward(backward, c10::cuda::getCurrentCUDAStream()));

  const at::Tensor by_position =
      (backward.pieces == 1 ? projected_grad : at::sum(projected_grad, 0).to(p.type))
          .view({in.a.size(0) * in.a.size(1), -1});
  grads.weight = at::mm(by_position.t(), a.view({-1, in.a.size(2)})).view(in.weight.sizes());
  grads.a = at::mm(by_position, p.weight).view(in.a.sizes());
  return grads;
}

}  // namespace ribo::kernels
