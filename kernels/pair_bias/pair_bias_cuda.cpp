#include "pair_bias/pair_bias_cuda.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "common/cuda_calls.h"
#include "pair_bias/pair_bias_device.h"

namespace ribo::kernels {
namespace {

constexpr std::string_view kOp = "pair_bias";

// Sizes and types, without pointers.
CudaPairBias shape(const PairBiasTensors& in, at::ScalarType type) {
  CudaPairBias p;
  p.x_type = cuda_float(in.pair.scalar_type());
  p.y_type = cuda_float(type);
  p.channels = static_cast<int>(in.weight.size(1));
  p.heads = static_cast<int>(in.weight.size(0));
  p.batch = in.pair.size(0);
  p.positions = in.pair.size(1) * in.pair.size(2);
  p.eps = static_cast<float>(kPairBiasEps);
  p.multiprocessors = device_attribute(kOp, cudaDevAttrMultiProcessorCount, in.pair);
  return p;
}

// The arguments as the kernels take them, alive as long as this is.
struct Problem {
  at::Tensor x, norm_weight, norm_bias, weight;
  CudaPairBias problem;

  Problem(const PairBiasTensors& in, at::ScalarType type)
      : x(aligned(in.pair, in.pair.scalar_type())),
        norm_weight(aligned(in.norm_weight, at::kFloat)),
        norm_bias(in.norm_bias.defined() ? aligned(in.norm_bias, at::kFloat) : in.norm_bias),
        weight(aligned(in.weight, at::kFloat)),
        problem(shape(in, type)) {
    problem.x = x.const_data_ptr();
    problem.norm_weight = norm_weight.const_data_ptr<float>();
    if (norm_bias.defined()) problem.norm_bias = norm_bias.const_data_ptr<float>();
    problem.weight = weight.const_data_ptr<float>();
  }
};

}  // namespace

bool pair_bias_fits_cuda(const PairBiasTensors& in, at::ScalarType type) {
  return in.pair.is_cuda() && is_cuda_float(in.pair.scalar_type()) && is_cuda_float(type) &&
         in.norm_weight.scalar_type() != at::kDouble && in.weight.scalar_type() != at::kDouble &&
         cuda_pair_bias_takes(shape(in, type));
}

at::Tensor pair_bias_forward_on_cuda(const PairBiasTensors& in, at::ScalarType type) {
  const c10::cuda::CUDAGuard device(in.pair.device());
  const Problem p(in, type);
  const at::Tensor y =
      at::empty({in.pair.size(0), in.weight.size(0), in.pair.size(1), in.pair.size(2)},
                p.x.options().dtype(type));
  CudaPairBiasForward forward{p.problem};
  forward.y = y.mutable_data_ptr();
  expect_success(kOp, cuda_pair_bias_forward(forward, c10::cuda::getCurrentCUDAStream()));
  return y;
}

torch::autograd::variable_list pair_bias_backward_on_cuda(const PairBiasTensors& in,
                                                          const at::Tensor& d_y) {
  const c10::cuda::CUDAGuard device(in.pair.device());
  const Problem p(in, d_y.scalar_type());
  const at::Tensor dy = aligned(d_y, d_y.scalar_type()), dx = at::empty_like(p.x),
                   d_norm_weight = at::empty_like(p.norm_weight),
                   d_weight = at::empty_like(p.weight);
  const at::Tensor scratch =
      at::empty({cuda_pair_bias_scratch(p.problem)}, p.x.options().dtype(at::kFloat));
  at::Tensor d_norm_bias;
  CudaPairBiasBackward backward{p.problem};
  if (p.norm_bias.defined()) {
    d_norm_bias = at::empty_like(p.norm_bias);
    backward.d_norm_bias = d_norm_bias.mutable_data_ptr<float>();
  }
  backward.dy = dy.const_data_ptr();
  backward.dx = dx.mutable_data_ptr();
  backward.d_norm_weight = d_norm_weight.mutable_data_ptr<float>();
  backward.d_weight = d_weight.mutable_data_ptr<float>();
  backward.scratch = scratch.mutable_data_ptr<float>();
  expect_success(kOp, cuda_pair_bias_backward(backward, c10::cuda::getCurrentCUDAStream()));
  return {dx, d_norm_weight, d_norm_bias, d_weight};
}

}  // namespace ribo::kernels
