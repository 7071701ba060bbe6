#include "common/lengths.h"

#include <ATen/ATen.h>

#include "common/check.h"

namespace ribo::kernels {

void expect_lengths(std::string_view op, const at::Tensor& lengths, int64_t batch) {
  if (!lengths.defined()) return;
  expect(at::isIntegralType(lengths.scalar_type(), /*includeBool=*/false), op, "lengths", lengths,
         "whole numbers");
  expect_shape(op, "lengths", lengths, {batch}, "[B]");
}

at::Tensor lengths_on_cpu(std::string_view op, const at::Tensor& lengths, int64_t batch,
                          int64_t length) {
  expect_lengths(op, lengths, batch);
  if (!lengths.defined()) return at::full({batch}, length, at::kLong);
  const at::Tensor out = lengths.to(at::kCPU, at::kLong).contiguous();
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t n = out.const_data_ptr<int64_t>()[b];
    if (n < 0 || n > length) {
      throw Error(cat(op, ": lengths[", b, "] is ", n, ", expected 0 to ", length));
    }
  }
  return out;
}

at::Tensor inside(const at::Tensor& lengths, int64_t length, at::Device device) {
  const at::Tensor ends = lengths.to(device, at::kLong, /*non_blocking=*/true);
  return at::arange(length, ends.options()).unsqueeze(0) < ends.unsqueeze(1);
}

}  // namespace ribo::kernels
