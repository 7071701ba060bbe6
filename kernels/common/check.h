// Refusals of a kernel: which argument, what came, what was expected.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

#include "ribo/error.h"

namespace ribo::kernels {

/// Throws Error "op: name is float32 [2, 3] on cpu, expected ..." unless `ok`.
void expect(bool ok, std::string_view op, std::string_view name, const at::Tensor& x,
            std::string_view expected);

/// Same, for the size and the device of an argument; -1 in `shape` stands for any size. `letters`
/// names the dimensions, e.g. "[B, L, D]".
void expect_shape(std::string_view op, std::string_view name, const at::Tensor& x,
                  at::IntArrayRef shape, std::string_view letters);
/// x is on u's device.
void expect_device(std::string_view op, std::string_view name, const at::Tensor& x,
                   const at::Tensor& u);

/// x as an operator of the dispatcher takes what may be missing.
inline std::optional<at::Tensor> optional(const at::Tensor& x) {
  return x.defined() ? std::optional(x) : std::nullopt;
}

/// Called first in a backward pass that autograd cannot go through again. Throws Error.
void refuse_second_derivative(std::string_view op);

}  // namespace ribo::kernels
