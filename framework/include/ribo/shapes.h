// What a block may know before any weight exists: the streams in front of it and their shapes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ribo/error.h"

namespace ribo {

/// Sizes that only a batch decides.
namespace dim {
inline constexpr int64_t batch = -1;
inline constexpr int64_t length = -2;
}  // namespace dim

using Shape = std::vector<int64_t>;

/// "[B, L, 128]"
RIBO_API std::string to_string(const Shape& shape);

/// The streams at one point of the plan. A block's static `shapes()` asks for what it reads and
/// says what it writes; both end up in `ribo-run check`'s table.
class RIBO_API Shapes {
 public:
  struct Stream {
    Shape shape;
    std::vector<std::string> labels;  // names of the last dimension's columns, where it has them
  };
  using Map = std::map<std::string, Stream, std::less<>>;

  /// Requires a stream of that rank and returns its shape. Throws ConfigError that lists the
  /// streams which do exist here.
  Shape need(std::string_view name, int64_t rank);
  bool has(std::string_view name) const { return streams_.find(name) != streams_.end(); }
  /// The last dimension of a stream that was needed or may be read.
  int64_t width(std::string_view name) const;
  /// The stream's column names; empty where it has none.
  const std::vector<std::string>& labels(std::string_view name) const;
  /// Adds or replaces a stream.
  void produce(std::string name, Shape shape, std::vector<std::string> labels = {});

  /// The width that the pipeline's `model.streams` gives to a stream that does not exist yet.
  /// Throws ConfigError when it says none.
  int64_t declared(std::string_view name) const;
  /// Whether it gives one.
  bool declares(std::string_view name) const { return declared_.find(name) != declared_.end(); }
  void declare(std::string name, int64_t width) { declared_[std::move(name)] = width; }

  const Map& streams() const { return streams_; }
  const std::vector<std::string>& needed() const { return needed_; }
  const std::vector<std::string>& produced() const { return produced_; }
  /// The same streams with an empty record of needs and products: what the next block starts from.
  Shapes next() const;

 private:
  const Stream& find(std::string_view name) const;
  Map streams_;
  std::map<std::string, int64_t, std::less<>> declared_;
  std::vector<std::string> needed_, produced_;
};

}  // namespace ribo
