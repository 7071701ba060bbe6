// Validation metrics, as sums that add up over batches and processes.
#pragma once

#include <string>

#include "ribo/schema.h"
#include "ribo/shapes.h"
#include "ribo/streams.h"

namespace ribo {

/// A metric type adds `struct Options`, `static Schema<Options> schema()` and a constructor
/// (const Options&).
class RIBO_API Metric {
 public:
  virtual ~Metric();
  /// As Loss::shapes(): called once, before accumulate().
  virtual void shapes(Shapes& shapes) = 0;
  /// This batch's contribution: a 1-D double tensor of a fixed size on the CPU. Contributions are
  /// added over batches (and ranks), then given to finish().
  virtual at::Tensor accumulate(const Streams& streams) const = 0;
  /// The metric from the sums; NaN when nothing was measured.
  virtual double finish(const at::Tensor& sums) const = 0;
  virtual bool lower_is_better() const { return true; }
  /// It compares `pred.<target>` with `target.<target>`, both [B, L, T].
  virtual std::string target() const = 0;
};

}  // namespace ribo
