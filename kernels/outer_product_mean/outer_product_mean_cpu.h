// The part of outer_product_mean whose size is that of the pairs: a product of [L, K] and [K, C]
// for every position i. One side, which holds K C numbers a position, is projected before.
#pragma once

#include <cstdint>

#include "common/isa.h"

namespace ribo::kernels {

/// Rows that hold K or C numbers are padded to a multiple of this where it says "padded": whole
/// vectors whatever the instruction set.
inline constexpr int64_t kOuterProductPad = 32;

template <class T>
struct OuterProductForwardArgs {
  int64_t batch, length, width, channels;  // B, L, K, C
  const int64_t* lengths;                  // [B], each of 0..L
  const T* b;                              // [B, L, K]
  const T* projected;                      // [B, L, K, padded C]: sum_d weight[z, c, d] a[i, d]
  const T* bias;                           // [C], or null
  const T* residual;                       // [B, L, L, C], or null
  T* out;                                  // [B, L, L, C], zeros in the padding
};

template <class T>
struct OuterProductBackwardArgs {
  int64_t batch, length, width, channels;
  const int64_t* lengths;
  const T* b;
  const T* projected;  // [B, L, C, padded K]: as above, the other way round
  const T* out_grad;   // [B, L, L, C]
  T* projected_grad;   // [B, L, K, padded C], its padding undefined
  T* residual_grad;    // [B, L, L, C], or null: out_grad without its padding
  /// To be summed over the slices, each of which adds up its share of the positions i; zero before.
  int64_t slices;
  T* b_grad;     // [slices, B, L, padded K]
  T* bias_grad;  // [slices, B, C]
  T* scratch;    // length * padded C elements for each of workers()
};

template <Isa isa, class T>
void outer_product_forward(const OuterProductForwardArgs<T>& args);
template <Isa isa, class T>
void outer_product_backward(const OuterProductBackwardArgs<T>& args);

}  // namespace ribo::kernels
