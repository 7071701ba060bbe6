// What autocast asks of an operator that does its own arithmetic.
#pragma once

#include <ATen/core/Tensor.h>

namespace ribo::kernels {

/// Whether an operator over `x` may round the operands of its matrix products to bfloat16: x is on
/// the CPU and not float64, and autocast to bfloat16 is on there.
bool rounds_products(const at::Tensor& x);

/// The type of an operator's products over `x`: that of autocast where it is on for x's device,
/// otherwise x's own, and always x's own where that is float64.
at::ScalarType product_type(const at::Tensor& x);

}  // namespace ribo::kernels
