#include "triangle_multiply/triangle_multiply_cuda.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <limits>

#include "common/cuda_calls.h"
#include "triangle_multiply/triangle_multiply_device.h"

namespace ribo::kernels {
namespace {

constexpr std::string_view kOp = "triangle_multiply";

CudaTriangle sizes(const at::Tensor& x, int64_t hidden, at::ScalarType type) {
  CudaTriangle a;
  a.type = cuda_narrow(type);
  a.wide = x.scalar_type() == at::kFloat;
  a.batch = static_cast<int>(x.size(0)), a.length = static_cast<int>(x.size(1));
  a.channels = static_cast<int>(x.size(3)), a.hidden = static_cast<int>(hidden);
  a.multiprocessors = device_attribute(kOp, cudaDevAttrMultiProcessorCount, x);
  a.begins_early = device_attribute(kOp, cudaDevAttrComputeCapabilityMajor, x) >= 9;
  a.shared_memory = device_attribute(kOp, cudaDevAttrMaxSharedMemoryPerBlockOptin, x);
  return a;
}

// Calls f(pointer, i) for the pointers of all weights, TriangleWeights' i-th member.
template <class P, class F>
void each_weight(CudaTriangleWeights<P>& w, F&& f) {
  f(w.norm_weight, 0), f(w.norm_bias, 1);
  for (size_t map = 0; map < 5; ++map) {
    f(w.map_weight[map], 2 + 2 * map), f(w.map_bias[map], 3 + 2 * map);
  }
  f(w.out_norm_weight, 12), f(w.out_norm_bias, 13), f(w.out_weight, 14), f(w.out_bias, 15);
}

// The arguments as the kernels take them, alive as long as this is; on the tensors' device.
struct Problem {
  c10::cuda::CUDAGuard device;
  at::ScalarType type;
  at::Tensor x, lengths;
  std::vector<at::Tensor> weights;
  CudaTriangle pass;

  explicit Problem(const TriangleOnDevice& in)
      : device(in.x.device()),
        type(in.type),
        x(aligned(in.x, in.x.scalar_type())),
        pass(sizes(x, in.weights[2].size(0), type)) {
    pass.x = x.const_data_ptr();
    const at::ScalarType stored = weight_type(in.weights, type);
    pass.wide_weights = stored == at::kFloat;
    for (const at::Tensor& w : in.weights) weights.push_back(aligned(w, stored));
    each_weight(pass.weights, [&](const void*& p, size_t i) { p = weights[i].const_data_ptr(); });
    if (!in.lengths.defined()) return;
    lengths = in.lengths.to(x.device(), at::kLong).contiguous();
    pass.lengths = lengths.const_data_ptr<int64_t>();
  }

  cudaStream_t stream() const { return c10::cuda::getCurrentCUDAStream(); }

  // A plane for each sequence and channel, as at::bmm takes them.
  at::Tensor planes() const {
    return at::empty({int64_t{pass.batch} * pass.hidden, pass.pitch(), pass.pitch()},
                     x.options().dtype(type));
  }
};

}  // namespace

bool triangle_fits_cuda(const at::Tensor& x, int64_t hidden, at::ScalarType type) {
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  return x.is_cuda() && (type == at::kBFloat16 || type == at::kHalf) && x.size(0) <= kMost &&
         x.size(1) <= kMost && x.size(3) <= kMost && hidden <= kMost &&
         cuda_triangle_takes(sizes(x, hidden, type));
}

TriangleResult triangle_forward_on_cuda(const TriangleOnDevice& in) {
  const Problem p(in);
  TriangleResult out = {at::empty(p.x.sizes(), p.x.options()), p.planes(), p.planes(), {}};
  expect_success(
      kOp, cuda_triangle_project(
               {p.pass, out.left.mutable_data_ptr(), out.right.mutable_data_ptr()}, p.stream()));
  out.product = in.outgoing ? at::bmm(out.left, out.right.transpose(1, 2))
                            : at::bmm(out.right.transpose(1, 2), out.left);
  expect_success(
      kOp, cuda_triangle_output({p.pass, out.product.const_data_ptr(), out.y.mutable_data_ptr()},
                                p.stream()));
  return out;
}

std::vector<at::Tensor> triangle_backward_on_cuda(const TriangleOnDevice& in,
                                                  const TriangleResult& result,
                                                  const at::Tensor& d_y_) {
  const Problem p(in);
  std::vector<at::Tensor> grads = {at::empty(p.x.sizes(), p.x.options())};
  for (const at::Tensor& w : p.weights) grads.push_back(at::empty_like(w));
  const at::Tensor d_y = aligned(d_y_, p.x.scalar_type());
  const at::Tensor d_product = p.planes(), d_gate = p.planes();
  const at::Tensor scratch =
      at::empty({cuda_triangle_scratch(p.pass)}, p.x.options().dtype(at::kFloat));
  const CudaTriangleBackward backward = {p.pass, scratch.mutable_data_ptr<float>()};
  expect_success(kOp, cuda_triangle_output_backward(
                          {backward, result.product.const_data_ptr(), d_y.const_data_ptr(),
                           d_product.mutable_data_ptr(), d_gate.mutable_data_ptr()},
                          p.stream()));
  const at::Tensor turned = d_product.transpose(1, 2);
  const at::Tensor d_left =
      in.outgoing ? at::bmm(d_product, result.right) : at::bmm(result.right, d_product);
  const at::Tensor d_right =
      in.outgoing ? at::bmm(turned, result.left) : at::bmm(result.left, turned);
  expect_success(kOp, cuda_triangle_project_backward(
                          {backward, d_left.const_data_ptr(), d_right.const_data_ptr(),
                           d_gate.const_data_ptr(), grads[0].mutable_data_ptr()},
                          p.stream()));
  CudaTriangleGradients last{backward};
  each_weight(last.d, [&](void*& to, size_t i) { to = grads[1 + i].mutable_data_ptr(); });
  expect_success(kOp, cuda_triangle_gradients(last, p.stream()));
  return grads;
}

}  // namespace ribo::kernels
