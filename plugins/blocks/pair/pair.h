// What the blocks of the pair track share. Each block is a file of its own.
#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

#include "ribo/plugin.h"

namespace ribo::pair {

void register_outer_product_mean(Registrar& plugin);
void register_pair_transition(Registrar& plugin);
void register_relative_position(Registrar& plugin);
void register_triangle_attention(Registrar& plugin);
void register_triangle_multiply(Registrar& plugin);

/// Residues of each sequence, as the kernels take them. Undefined where the CPU sees that there is
/// no padding: then nothing is spent on it.
at::Tensor lengths(const Streams& streams);

/// Zero outside the sequences of these lengths: `x` [B, L, L, ...].
at::Tensor zero_pairs(const at::Tensor& x, const at::Tensor& lengths);

/// The factors of a dropout of `pair` [B, L, L, Z], 0 or 1 / (1 - p), with one draw for all rows
/// ("row": pairs of one column and channel live or die together) or for all columns ("column"), as
/// [B, 1, L, Z] or [B, L, 1, Z]: AlphaFold 2, supplement 1.11.6. Undefined where nothing drops.
at::Tensor kept(const at::Tensor& pair, double p, bool training, std::string_view wise);

/// `pair` and, after that dropout, `update`.
at::Tensor add_dropped(const at::Tensor& pair, const at::Tensor& update, double p, bool training,
                       std::string_view wise);

}  // namespace ribo::pair
