#include "conv1d/conv1d_cuda.h"

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "common/cuda_calls.h"
#include "conv1d/conv1d_device.h"

namespace ribo::kernels {
namespace {

constexpr std::string_view kOp = "conv1d";

// f(arguments, stream), in the types that the tensors have.
template <class F>
void on_cuda(const Conv1dInputs& in, const F& f) {
  const c10::cuda::CUDAGuard device(in.x.device());
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
  switch (in.x.scalar_type()) {
    case at::kDouble:
      return expect_success(kOp, f(conv1d_args<double, double>(in), stream));
    case at::kBFloat16:
      return expect_success(kOp, f(conv1d_args<__nv_bfloat16, float>(in), stream));
    case at::kHalf:
      return expect_success(kOp, f(conv1d_args<__half, float>(in), stream));
    default:
      return expect_success(kOp, f(conv1d_args<float, float>(in), stream));
  }
}

}  // namespace

void conv1d_forward_on_cuda(const Conv1dInputs& in, const at::Tensor& y) {
  on_cuda(in, [&](auto args, cudaStream_t stream) {
    args.y = static_cast<decltype(args.y)>(y.mutable_data_ptr());
    return cuda_conv1d_forward(args, stream);
  });
}

void conv1d_backward_on_cuda(const Conv1dInputs& in, const at::Tensor& dy, const at::Tensor& dx,
                             const at::Tensor& sums) {
  on_cuda(in, [&](auto args, cudaStream_t stream) {
    set_gradients(args, dy, dx, sums);
    return cuda_conv1d_backward(args, stream);
  });
}

}  // namespace ribo::kernels
