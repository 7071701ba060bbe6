// A parsed configuration: a tree of values, each with the place it came from.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ribo/error.h"

namespace ribo {

/// Where a value stands: `file:line:col`, both counted from 1. Line 0 = no position (a default, or
/// `--set`, whose text is then the file).
struct RIBO_API Mark {
  std::shared_ptr<const std::string> file;
  int line = 0;
  int column = 0;
  std::string str() const;
};

/// One node of a configuration. A plain value type: copies are deep, nothing aliases.
class RIBO_API Value {
 public:
  enum class Kind { null, scalar, list, map };
  struct Member;

  Value() = default;
  static Value scalar(std::string text, Mark mark = {}, bool quoted = false);
  static Value list(Mark mark = {});
  static Value map(Mark mark = {});

  Kind kind = Kind::null;
  std::string text;      // of a scalar, as written
  bool quoted = false;   // a quoted scalar is a string whatever it looks like
  std::vector<Value> items;      // of a list
  std::vector<Member> members;   // of a map, in the order of the file
  Mark mark;

  bool is_null() const { return kind == Kind::null; }
  bool is_scalar() const { return kind == Kind::scalar; }
  bool is_list() const { return kind == Kind::list; }
  bool is_map() const { return kind == Kind::map; }

  /// The member of a map with that key, or null.
  const Value* find(std::string_view key) const;
  Value* find(std::string_view key);
  /// Sets or appends a member; returns it.
  Value& set(std::string key, Value value, Mark key_mark = {});
  void erase(std::string_view key);

  /// `a map`, `a list`, `an empty value`, `"12"`: how an error message names this value.
  std::string describe() const;
};

struct Value::Member {
  std::string key;
  Mark key_mark;
  Value value;
};

/// Equal content; positions, quoting and the order of a map don't matter.
RIBO_API bool operator==(const Value& a, const Value& b);

/// YAML of a value, in blocks but for short lists of scalars; it reads back as an equal value.
/// A literal `${` is written `$${`, for the reader replaces environment variables.
RIBO_API std::string to_yaml(const Value& value);

/// Collects every problem of a configuration, so that the user sees all of them at once.
class RIBO_API Diagnostics {
 public:
  /// `what` may end in a remedy: `unknown key "kernle"; did you mean "kernel"?` The same line twice
  /// is told once.
  void error(const Mark& mark, std::string_view path, std::string_view what);
  bool ok() const { return errors_.empty(); }
  /// Each as `file:line:col: path: what`, sorted by place.
  const std::vector<std::string>& errors() const { return errors_; }
  /// Throws one ConfigError with all lines, or the first of very many; nothing if there is none.
  void throw_if_any() const;

 private:
  std::vector<std::string> errors_;
  std::vector<Mark> marks_;  // of each error
};

/// `; did you mean "x"?` for the closest candidate by edit distance, or "" if none is near.
RIBO_API std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace ribo
