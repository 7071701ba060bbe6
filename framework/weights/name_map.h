// A map file: how this framework's names of a model's tensors correspond to another program's.
#pragma once

#include <string>
#include <vector>

#include "ribo/config.h"
#include "weights/name_pattern.h"

namespace ribo {

/// The two sets of names that a map joins.
enum class Side { ours, theirs };

/// Tensors of one side that make tensors of the other: one becomes one, or one is cut into equal
/// parts along its first dimension, or several are joined along it.
struct Renaming {
  std::vector<std::string> from, to;
};

/// What a map makes of a list of names.
struct RenamingPlan {
  std::vector<Renaming> renamings;
  std::vector<std::string> surplus;  // names that no pattern matches
  std::vector<std::string> missing;  // parts that a joined tensor lacks
};

/// A map file is YAML:
///
///   extends: other.yaml                  a map, relative to this one; this one's `names` come first
///   largest:                             numbers that the names themselves tell
///     last: {ours: "blocks.3.{last-1}.norm.weight", theirs: "layers.{last}.norm.weight"}
///   define:                              shorthands, each a list of pairs: a pattern that holds
///     layer:                             {layer} stands for one pattern a pair, in this order
///       - {ours: blocks.4.0, theirs: "layers.{last}"}
///       - {ours: "blocks.3.{i}", theirs: "layers.{i}"}
///   names:                               the first pair that matches a name is its own
///     - {ours: "{layer}.norm.{w}", theirs: "{layer}.ln.{w}"}
///     - {ours: "{layer}.qkv.weight", theirs: ["{layer}.q.weight", "{layer}.k.weight"]}
///
/// One map serves both directions. NamePattern says what the placeholders mean; both sides of a
/// pair hold the same ones.
class NameMap {
 public:
  /// Reads a file. Throws ConfigError that holds all problems with their places.
  static NameMap read(const std::string& file);

  /// The side whose patterns match more of `names`. Throws Error where neither matches any.
  Side side_of(const std::vector<std::string>& names) const;
  /// How tensors called `names`, all of the side `from`, become the other side's. Throws Error where
  /// two of them would get the same name.
  RenamingPlan plan(const std::vector<std::string>& names, Side from) const;

 private:
  struct Sides {
    std::vector<NamePattern> ours, theirs;
    const std::vector<NamePattern>& of(Side side) const {
      return side == Side::ours ? ours : theirs;
    }
  };
  struct Largest {
    std::string name;
    Sides patterns;
  };
  friend class NameMapReader;

  Bindings numbers(const std::vector<std::string>& names, Side side) const;

  std::string file_;
  std::vector<Sides> pairs_;
  std::vector<Largest> largest_;
};

}  // namespace ribo
