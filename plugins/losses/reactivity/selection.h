// Which predictions are compared with which measurements: the part that all losses and metrics of
// this plugin share.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "ribo/schema.h"
#include "ribo/shapes.h"
#include "ribo/streams.h"

namespace ribo::reactivity {

/// The base of every Options struct here.
struct Selection {
  std::string target = "reactivity";
  std::vector<std::string> columns;
};

/// Adds Selection's keys to a schema of options derived from it.
template <class Options>
void add_selection(Schema<Options>& schema) {
  schema.param("target", static_cast<std::string Options::*>(&Options::target),
               "what is compared: pred.<target> with target.<target>");
  schema.param("columns", static_cast<std::vector<std::string> Options::*>(&Options::columns),
               "columns that count, by name; empty = all that are predicted");
}

/// Predictions and measurements of a batch, side by side.
struct Pairs {
  at::Tensor pred,
      target;        // [B, L, K], zero where not valid; float32, or float64 if asked or given
  at::Tensor valid;  // [B, L, K] bool: a residue with a measured value
};

/// Finds the columns once (in shapes()) and then cuts each batch's pairs.
class Comparison {
 public:
  /// `both`: a position is valid only where every selected column has a value.
  explicit Comparison(Selection selection, bool both = false)
      : selection_(std::move(selection)), both_(both) {}

  /// Needs pred.<target>, target.<target> and mask. Throws ConfigError for a column that is not
  /// measured or not predicted.
  void resolve(Shapes& shapes);

  /// Unmeasured values (NaN) and padding are replaced by zeros on both sides before any arithmetic,
  /// so that neither their values nor their gradients are NaN.
  Pairs pairs(const Streams& streams, at::ScalarType least = at::kFloat) const;

  int64_t columns() const { return static_cast<int64_t>(in_target_.size()); }
  const std::string& target() const { return selection_.target; }

 private:
  const Selection selection_;
  const bool both_;
  std::vector<int64_t> in_pred_, in_target_;  // each column's index on either side
};

}  // namespace ribo::reactivity
