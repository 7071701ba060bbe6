#include "selective_scan/selective_scan_cuda.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <limits>

#include "common/check.h"
#include "common/cuda_calls.h"
#include "selective_scan/selective_scan_device.h"

namespace ribo::kernels {
namespace {

constexpr std::string_view kOp = "selective_scan";

// bfloat16 and float16 stay what they are where u, delta, z, B and C agree.
at::ScalarType stored_type(const SelectiveScanArgs& a) {
  const at::ScalarType type = a.u.scalar_type();
  if (type == at::kDouble) return type;
  for (const at::Tensor* x : {&a.delta, &a.B, &a.C, &a.z}) {
    if (x->defined() && x->scalar_type() != type) return at::kFloat;
  }
  return type == at::kBFloat16 || type == at::kHalf ? type : at::kFloat;
}

CudaScanIo io_of(at::ScalarType type) {
  switch (type) {
    case at::kBFloat16:
      return CudaScanIo::bfloat16;
    case at::kHalf:
      return CudaScanIo::float16;
    case at::kDouble:
      return CudaScanIo::float64;
    default:
      return CudaScanIo::float32;
  }
}

// x, or a copy of it whose rows [D] or [(G,) N] are contiguous.
at::Tensor with_rows(const at::Tensor& x, at::ScalarType type) {
  if (!x.defined()) return x;
  at::Tensor y = x.to(type);
  const bool rows = (y.size(-1) == 1 || y.stride(-1) == 1) &&
                    (y.dim() == 3 || y.size(2) == 1 || y.stride(2) == y.size(3)) &&
                    y.stride(1) <= std::numeric_limits<int>::max() / 8;  // in bytes
  return rows ? y : y.contiguous();
}
CudaScanRows rows(const at::Tensor& x) {
  if (!x.defined()) return {};
  return {x.const_data_ptr(), x.stride(0), x.stride(1)};
}

const void* pointer(const at::Tensor& x) { return x.defined() ? x.const_data_ptr() : nullptr; }

// The arguments as the kernels take them, alive as long as this is.
struct Problem {
  SelectiveScanArgs x;
  at::ScalarType io, real;
  CudaScanProblem problem{};

  Problem(const SelectiveScanArgs& a, bool backward)
      : x(a), io(stored_type(a)), real(io == at::kDouble ? at::kDouble : at::kFloat) {
    for (at::Tensor* t : {&x.u, &x.delta, &x.z, &x.B, &x.C}) *t = with_rows(*t, io);
    for (at::Tensor* t : {&x.A, &x.D, &x.delta_bias, &x.initial_state}) {
      if (t->defined()) *t = t->to(real).contiguous();
    }
    if (x.lengths.defined()) x.lengths = x.lengths.to(x.u.device(), at::kLong).contiguous();
    CudaScanProblem& p = problem;
    p.io = io_of(io);
    p.batch = x.u.size(0), p.length = x.u.size(1), p.channels = x.u.size(2);
    p.groups = x.B.dim() == 4 ? x.B.size(2) : 1, p.states = x.A.size(1);
    p.delta_softplus = x.delta_softplus, p.reverse = x.reverse;
    p.lengths = x.lengths.defined() ? x.lengths.const_data_ptr<int64_t>() : nullptr;
    p.u = rows(x.u), p.delta = rows(x.delta), p.z = rows(x.z), p.B = rows(x.B), p.C = rows(x.C);
    p.A = pointer(x.A), p.D = pointer(x.D), p.delta_bias = pointer(x.delta_bias);
    p.initial_state = pointer(x.initial_state);
    expect(p.channels * p.states < int64_t{1} << 28, kOp, "A", x.A,
           "fewer than 2^28 numbers on a GPU");
    if (cuda_scan_shared(p) > device_attribute(kOp, cudaDevAttrMaxSharedMemoryPerBlockOptin, x.u)) {
      throw Error(cat("selective_scan: A: ", p.states, " states in ", io,
                      " need more shared memory than this GPU has; use float32 or fewer states"));
    }
    p.multiprocessors = device_attribute(kOp, cudaDevAttrMultiProcessorCount, x.u);
    p.segments = cuda_scan_segments(p, backward);
  }

  at::Tensor empty(at::IntArrayRef shape, at::ScalarType type) const {
    return at::empty(shape, x.u.options().dtype(type));
  }
};

}  // namespace

ScanOnDevice scan_forward_on_cuda(const SelectiveScanArgs& a, bool keep) {
  const c10::cuda::CUDAGuard device(a.u.device());
  const Problem in(a, false);
  CudaScanForward scan{in.problem};
  const at::Tensor y = in.empty(a.u.sizes(), in.io);
  const at::Tensor last_state = in.empty({scan.batch, scan.channels, scan.states}, in.real);
  const int64_t strides = (scan.length + kCudaScanStride - 1) / kCudaScanStride;
  const at::Tensor kept =
      keep ? in.empty({scan.batch, strides, scan.states, scan.channels}, in.real) : at::Tensor();
  const at::Tensor scratch = in.empty({cuda_scan_scratch(scan, false)}, in.real);
  const at::Tensor ungated = keep && a.z.defined() ? in.empty(a.u.sizes(), in.io) : at::Tensor();
  scan.checkpoints = keep ? kept.mutable_data_ptr() : nullptr;
  scan.ungated = ungated.defined() ? ungated.mutable_data_ptr() : nullptr;
  scan.scratch = scratch.mutable_data_ptr();
  scan.y = y.mutable_data_ptr();
  scan.last_state = last_state.mutable_data_ptr();
  expect_success(kOp, cuda_scan_forward(scan, c10::cuda::getCurrentCUDAStream()));
  return {y.to(a.u.scalar_type()), last_state, {kept, ungated}};
}

SelectiveScanArgs scan_backward_on_cuda(const SelectiveScanArgs& a, const ScanKept& kept,
                                        const at::Tensor& dy, const at::Tensor& dlast_state) {
  const c10::cuda::CUDAGuard device(a.u.device());
  const Problem in(a, true);
  CudaScanBackward scan{in.problem};
  const at::Tensor dy_rows =
      dy.defined() ? with_rows(dy, in.io) : at::zeros(a.u.sizes(), a.u.options().dtype(in.io));
  const at::Tensor dlast =
      dlast_state.defined() ? dlast_state.to(in.real).contiguous() : at::Tensor();
  const at::Tensor scratch = in.empty({cuda_scan_scratch(scan, true)}, in.real);
  scan.checkpoints = kept.states.mutable_data_ptr();
  scan.ungated = kept.ungated.defined() ? kept.ungated.mutable_data_ptr() : nullptr;
  scan.scratch = scratch.mutable_data_ptr();
  scan.dy = rows(dy_rows);
  scan.d_last_state = pointer(dlast);

  SelectiveScanArgs d;
  const auto output = [&](at::Tensor& grad, void*& to, const at::Tensor& of, at::ScalarType type) {
    if (!of.defined()) return;
    grad = in.empty(of.sizes(), type);
    to = grad.mutable_data_ptr();
  };
  output(d.u, scan.du, a.u, in.io);
  output(d.delta, scan.ddelta, a.delta, in.io);
  output(d.z, scan.dz, a.z, in.io);
  output(d.B, scan.dB, a.B, in.io);
  output(d.C, scan.dC, a.C, in.io);
  output(d.A, scan.dA, a.A, in.real);
  output(d.D, scan.dD, a.D, in.real);
  output(d.delta_bias, scan.ddelta_bias, a.delta_bias, in.real);
  output(d.initial_state, scan.d_initial_state, a.initial_state, in.real);
  expect_success(kOp, cuda_scan_backward(scan, c10::cuda::getCurrentCUDAStream()));
  return d;
}

}  // namespace ribo::kernels
