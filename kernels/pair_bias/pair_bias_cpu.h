// pair_bias on the CPU. The mathematics stands in pair_bias.h.
#pragma once

#include <cstdint>

#include "common/isa.h"

namespace ribo::kernels {

/// Channels must be a multiple of this: whole vectors whatever the instruction set.
inline constexpr int kPairBiasVector = 16;

/// Contiguous tensors; positions: L^2.
template <class T>
struct PairBiasArgs {
  int64_t batch = 0, positions = 0;
  int channels = 0, heads = 0;
  const T* x = nullptr;                                  // [B, L^2, C]
  const T *norm_weight = nullptr, *norm_bias = nullptr;  // [C]; the second may be null
  const T* weight = nullptr;                             // [heads, C]
  T* y = nullptr;                                        // [B, heads, L^2]; forward
  const T* dy = nullptr;                                 // backward
  T *dx = nullptr, *d_norm_weight = nullptr, *d_weight = nullptr;
  T* d_norm_bias = nullptr;  // null where norm_bias is
  T* scratch = nullptr;      // [pair_bias_scratch()]
};

/// Elements of `scratch`.
template <Isa isa, class T>
int64_t pair_bias_scratch(const PairBiasArgs<T>& args);
template <Isa isa, class T>
void pair_bias_forward(const PairBiasArgs<T>& args);
/// The weights' gradients do not depend on the number of threads.
template <Isa isa, class T>
void pair_bias_backward(const PairBiasArgs<T>& args);

}  // namespace ribo::kernels
