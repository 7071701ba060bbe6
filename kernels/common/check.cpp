#include "common/check.h"

#include <ATen/core/grad_mode.h>

namespace ribo::kernels {
namespace {

std::string describe(const at::Tensor& x) {
  if (!x.defined()) return "not given";
  return cat(c10::toString(x.scalar_type()), " ", x.sizes(), " on ", x.device());
}

}  // namespace

void expect(bool ok, std::string_view op, std::string_view name, const at::Tensor& x,
            std::string_view expected) {
  if (!ok) throw Error(cat(op, ": ", name, " is ", describe(x), ", expected ", expected));
}

void expect_shape(std::string_view op, std::string_view name, const at::Tensor& x,
                  at::IntArrayRef shape, std::string_view letters) {
  bool ok = x.defined() && x.dim() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; ok && i < shape.size(); ++i) {
    ok = shape[i] < 0 || x.size(static_cast<int64_t>(i)) == shape[i];
  }
  if (ok) return;
  std::string sizes;
  for (const int64_t n : shape) sizes += cat(sizes.empty() ? "" : ", ", n < 0 ? "any" : cat(n));
  throw Error(cat(op, ": ", name, " is ", describe(x), ", expected ", letters, " = [", sizes, "]"));
}

void expect_device(std::string_view op, std::string_view name, const at::Tensor& x,
                   const at::Tensor& u) {
  expect(x.device() == u.device(), op, name, x, cat("a tensor on ", u.device()));
}

void refuse_second_derivative(std::string_view op) {
  if (at::GradMode::is_enabled()) throw Error(cat(op, " is differentiable only once"));
}

}  // namespace ribo::kernels
