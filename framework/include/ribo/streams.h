// Named tensors flowing through the blocks of a model.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <string_view>

#include "ribo/error.h"

namespace ribo {

/// The tensors of one batch by name. Well-known streams:
///   tokens  [B, L] int64, A C G U = 0..3, 4 = N, modified, or padding
///   mask    [B, L] bool, true = a residue
///   single  [B, L, C], pair [B, L, L, Z]
///   pred.*, target.*   what heads predict and data sources measured (NaN = not measured)
/// Invariant: after every block each float stream is zero outside the mask, and no value inside
/// depends on how much padding there is or what it holds.
class RIBO_API Streams {
 public:
  using Map = std::map<std::string, at::Tensor, std::less<>>;

  bool has(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  /// Throws Error naming the streams that exist.
  const at::Tensor& get(std::string_view name) const;
  void set(std::string name, at::Tensor tensor) { tensors_[std::move(name)] = std::move(tensor); }
  void erase(std::string_view name);

  const at::Tensor& tokens() const { return get("tokens"); }
  const at::Tensor& mask() const { return get("mask"); }
  const at::Tensor& single() const { return get("single"); }

  Map::const_iterator begin() const { return tensors_.begin(); }
  Map::const_iterator end() const { return tensors_.end(); }

 private:
  Map tensors_;
};

/// `x` [B, L, ...] with every position outside `mask` [B, L] set to zero; NaN there vanishes too.
RIBO_API at::Tensor zero_padding(const at::Tensor& x, const at::Tensor& mask);

}  // namespace ribo
