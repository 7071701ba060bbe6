// Layer normalisation, with a kernel for narrow rows on a GPU.
#pragma once

#include <ATen/core/Tensor.h>

#include "ribo/error.h"

namespace torch {
class Library;
}

namespace ribo::kernels {

/// (x - mean) / sqrt(variance + eps) weight + bias over the last dimension of x [..., C], in x's
/// type; weight [C] and bias [C] may be undefined. Statistics are float32 (float64 where x is).
///
/// On a GPU rows of 16, 32, 64 or 128 channels, a pair track's, take a kernel of their own, which
/// keeps nothing but x and is differentiable once; everything else is at::layer_norm. Throws Error
/// where shapes, types or devices disagree.
///
/// Source: Ba, Kiros and Hinton 2016, arXiv:1607.06450.
RIBO_API at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& bias, double eps = 1e-5);

/// Registers ribo::layer_norm.
void register_layer_norm(torch::Library& m);

}  // namespace ribo::kernels
