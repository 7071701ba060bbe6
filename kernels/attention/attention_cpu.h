// The attention that pair_bias_attention and triangle_attention share: for every sequence b, group
// g and head h, with a bias that all groups share,
//
//   out[b, g, i, h] = sum_j softmax_j(scale q[b, g, i, h] k[b, g, j, h] + bias[b, h, i, j])
//                           keep[b, h, i, j] v[b, g, j, h]
//
// over the positions i, j < lengths[b]; groups from lengths[b] on are padding as well. One group is
// plain attention; the groups of triangle attention are the rows (or columns) of the pair
// representation.
#pragma once

#include <cstdint>

#include "common/isa.h"

namespace ribo::kernels {

/// Elements from one sequence, group, position or head to the next; channels are adjacent.
struct AttentionStrides {
  int64_t batch, group, position, head;
};

template <class T>
struct AttentionArgs {
  int64_t batch, groups, length, heads, width;
  T scale;
  const int64_t* lengths;  // [batch], each of 0..length
  const T *q, *k, *v;
  AttentionStrides q_strides, k_strides, v_strides;
  const T* bias;     // [batch, heads, length, length]
  const bool* keep;  // the same shape, or null: every weight is kept
  T kept;            // factor of a kept weight
  T* log_sum;        // [batch, heads, groups, length]: forward writes, backward reads
  T* scratch;        // attention_*_scratch() elements for each of workers()
};

/// Writes every element of out, zeros in the padding.
template <class T>
struct AttentionForwardArgs : AttentionArgs<T> {
  T* out;
  AttentionStrides out_strides;
};

/// Writes every element of q_grad, k_grad and v_grad.
template <class T>
struct AttentionBackwardArgs : AttentionArgs<T> {
  const T* out_grad;
  AttentionStrides out_grad_strides;
  T *q_grad, *k_grad, *v_grad;
  AttentionStrides q_grad_strides, k_grad_strides, v_grad_strides;
  /// [slices, batch, heads, length, length], zero before; to be summed over the slices, each of
  /// which adds up its share of the groups.
  T* bias_grad;
  int64_t slices;
};

template <Isa isa, class T>
int64_t attention_forward_scratch(int64_t length, int64_t width);
template <Isa isa, class T>
int64_t attention_backward_scratch(int64_t length, int64_t width);
template <Isa isa, class T>
void attention_forward(const AttentionForwardArgs<T>& args);
template <Isa isa, class T>
void attention_backward(const AttentionBackwardArgs<T>& args);

}  // namespace ribo::kernels
