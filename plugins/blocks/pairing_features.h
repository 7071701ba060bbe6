// What blocks see of a pairing probability.
#pragma once

#include <ATen/ATen.h>

#include <cmath>

namespace ribo::blocks {

/// Features of a pairing probability, and what they are multiplied by: a weight under Adam moves by
/// about the learning rate a step, so features of size 4 let a layer go four times as far in a
/// step as those of size 1. At a rate of 1e-3 a pair's effect can then change by 1 within 250
/// updates.
inline constexpr int64_t kPairingFeatures = 2;
inline constexpr double kPairingScale = 4;

/// 4 p and 4 l of bpp [B, L, L], as [B, 2, L, L]. l is 0 for p <= 1e-4 and 1 for p = 1, linear in
/// log(p) between: it tells unlikely pairs from impossible ones.
inline at::Tensor pairing_features(const at::Tensor& bpp) {
  const at::Tensor log = at::log(bpp.clamp_min(1e-4) * 1e4) / std::log(1e4);
  return at::stack({bpp, log}, 1) * kPairingScale;
}

}  // namespace ribo::blocks
