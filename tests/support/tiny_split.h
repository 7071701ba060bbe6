// A data source small enough to train on in milliseconds.
#pragma once

#include <ATen/ATen.h>

#include <utility>
#include <vector>

#include "ribo/data.h"

namespace ribo::testing {

/// Sequences of the given lengths. Their profile follows from each letter, so that there is
/// something to learn; a draw other than 0 replaces two letters by N.
class TinySplit final : public Split {
 public:
  explicit TinySplit(std::vector<int64_t> lengths) : lengths_(std::move(lengths)) {}

  int64_t size() const override { return static_cast<int64_t>(lengths_.size()); }
  int64_t length(int64_t i) const override { return lengths_[static_cast<size_t>(i)]; }
  std::string id(int64_t i) const override { return cat("tiny_", i); }
  Streams get(int64_t i, uint64_t draw) const override {
    auto generator = at::detail::createCPUGenerator(static_cast<uint64_t>(1000 + i));
    at::Tensor tokens = at::randint(0, 4, {length(i)}, generator, at::kLong);
    const at::Tensor levels = at::tensor({0.9f, 0.1f, 0.4f, 0.2f, 0.f, 0.8f, 0.3f, 0.6f});
    const at::Tensor target =
        at::stack({levels.index_select(0, tokens), levels.index_select(0, tokens + 4)}, 1);
    Streams out;
    out.set("target.reactivity", target + 0.05 * at::randn(target.sizes(), generator));
    if (draw != 0) {
      for (int64_t k = 0; k < 2; ++k) {
        tokens[static_cast<int64_t>((draw >> (8 * k)) % static_cast<uint64_t>(length(i)))] = 4;
      }
    }
    out.set("tokens", tokens);
    return out;
  }

 private:
  const std::vector<int64_t> lengths_;
};

/// `count` lengths between 6 and 15, in no order.
inline std::vector<int64_t> mixed_lengths(int64_t count) {
  std::vector<int64_t> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(6 + i * 7 % 10);
  return out;
}

}  // namespace ribo::testing
