// Data sources: where sequences and measured profiles come from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ribo/letters.h"
#include "ribo/schema.h"
#include "ribo/shapes.h"
#include "ribo/streams.h"

namespace ribo {

/// One stream of a sample, without the batch dimension: dims are dim::length or fixed. The host
/// pads every dim::length to the batch's longest with `pad`.
struct RIBO_API StreamSpec {
  std::string name;
  Shape shape;
  at::ScalarType type = at::kFloat;
  double pad = 0;
  std::vector<std::string> labels = {};
};

/// An immutable collection of samples. Every method is pure and may be called from any thread.
class RIBO_API Split {
 public:
  virtual ~Split();
  virtual int64_t size() const = 0;
  /// Residues of sample i, without building it (for bucketing by length).
  virtual int64_t length(int64_t i) const = 0;
  /// The sample's name in its file, for messages and predictions.
  virtual std::string id(int64_t i) const = 0;
  /// The sample's streams, exactly those of DataSource::streams(). `draw` = 0: as measured. Any
  /// other value seeds this visit's random augmentation; equal draws give equal samples.
  virtual Streams get(int64_t i, uint64_t draw) const = 0;
};

struct RIBO_API DataContext {
  std::filesystem::path base;   // relative paths in the pipeline start here
  std::filesystem::path cache;  // a writable folder for derived files
  uint64_t seed = 0;
};

/// A data source type adds `struct Options`, `static Schema<Options> schema()` and a constructor
/// (const Options&, const DataContext&). Bad input throws Error with `file:line: what`; what is
/// skipped on purpose is counted and told by report().
class RIBO_API DataSource {
 public:
  virtual ~DataSource();
  /// The streams of each sample; `tokens` is one of them, the host adds `mask`.
  virtual std::vector<StreamSpec> streams() const = 0;
  /// "train", "valid" or "test"; null if this source has no such split.
  virtual std::shared_ptr<const Split> split(std::string_view name) const = 0;
  /// What a user should know about what was read and skipped, a line each.
  virtual std::vector<std::string> report() const { return {}; }
};

}  // namespace ribo
