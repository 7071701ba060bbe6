// Padding: sequence b of a batch is its first lengths[b] positions.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

namespace ribo::kernels {

/// Throws Error unless `lengths` is undefined or an integer tensor [batch].
void expect_lengths(std::string_view op, const at::Tensor& lengths, int64_t batch);

/// int64 [batch] on the CPU, contiguous; undefined `lengths` means `length` everywhere. Throws
/// Error where one is not of 0..length. Waits for the device where `lengths` is on one.
at::Tensor lengths_on_cpu(std::string_view op, const at::Tensor& lengths, int64_t batch,
                          int64_t length);

/// Bool [batch, length] on `device`, true in front of the lengths.
at::Tensor inside(const at::Tensor& lengths, int64_t length, at::Device device);

}  // namespace ribo::kernels
