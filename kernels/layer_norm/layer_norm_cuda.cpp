#include "layer_norm/layer_norm_cuda.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "common/cuda_calls.h"
#include "layer_norm/layer_norm_device.h"

namespace ribo::kernels {
namespace {

constexpr std::string_view kOp = "layer_norm";

// The arguments as the kernels take them, alive as long as this is.
struct Problem {
  at::Tensor x, weight, bias;
  CudaLayerNorm problem;

  explicit Problem(const LayerNormTensors& in)
      : x(aligned(in.x, in.x.scalar_type())),
        weight(in.weight.defined() ? aligned(in.weight, at::kFloat) : in.weight),
        bias(in.bias.defined() ? aligned(in.bias, at::kFloat) : in.bias) {
    problem.type = cuda_float(x.scalar_type());
    problem.channels = static_cast<int>(x.size(-1));
    problem.rows = x.numel() / x.size(-1);
    problem.eps = static_cast<float>(in.eps);
    problem.multiprocessors = device_attribute(kOp, cudaDevAttrMultiProcessorCount, x);
    problem.x = x.const_data_ptr();
    if (weight.defined()) problem.weight = weight.const_data_ptr<float>();
    if (bias.defined()) problem.bias = bias.const_data_ptr<float>();
  }
};

}  // namespace

bool layer_norm_fits_cuda(const LayerNormTensors& in) {
  return in.x.is_cuda() && is_cuda_float(in.x.scalar_type()) &&
         cuda_layer_norm_takes(static_cast<int>(in.x.size(-1)));
}

at::Tensor layer_norm_forward_on_cuda(const LayerNormTensors& in) {
  const c10::cuda::CUDAGuard device(in.x.device());
  const Problem p(in);
  const at::Tensor y = at::empty(p.x.sizes(), p.x.options());
  CudaLayerNormForward forward{p.problem};
  forward.y = y.mutable_data_ptr();
  expect_success(kOp, cuda_layer_norm_forward(forward, c10::cuda::getCurrentCUDAStream()));
  return y;
}

torch::autograd::variable_list layer_norm_backward_on_cuda(const LayerNormTensors& in,
                                                           const at::Tensor& d_y) {
  const c10::cuda::CUDAGuard device(in.x.device());
  const Problem p(in);
  const at::Tensor dy = aligned(d_y, p.x.scalar_type()), dx = at::empty(p.x.sizes(), p.x.options());
  const at::Tensor scratch =
      at::empty({cuda_layer_norm_scratch(p.problem)}, p.x.options().dtype(at::kFloat));
  at::Tensor d_weight, d_bias;
  CudaLayerNormBackward backward{p.problem};
  if (p.weight.defined()) {
    d_weight = at::empty_like(p.weight);
    backward.d_weight = d_weight.mutable_data_ptr<float>();
  }
  if (p.bias.defined()) {
    d_bias = at::empty_like(p.bias);
    backward.d_bias = d_bias.mutable_data_ptr<float>();
  }
  backward.dy = dy.const_data_ptr();
  backward.dx = dx.mutable_data_ptr();
  backward.scratch = scratch.mutable_data_ptr<float>();
  expect_success(kOp, cuda_layer_norm_backward(backward, c10::cuda::getCurrentCUDAStream()));
  const auto typed = [](const at::Tensor& d, const at::Tensor& w) {
    return d.defined() ? d.to(w.scalar_type()) : d;
  };
  return {dx, typed(d_weight, in.weight), typed(d_bias, in.bias)};
}

}  // namespace ribo::kernels
