// A machine for the pickles of torch.save: plain values, and tensors as descriptions.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ribo/error.h"

namespace ribo {

/// A value of a pickle; others are named by their index in Pickle::values, so that no depth of
/// nesting can exhaust the stack.
struct PickleValue {
  enum class Kind { none, boolean, integer, real, text, tuple, list, dict, global, storage, tensor };
  Kind kind = Kind::none;
  int64_t integer = 0;  // of a boolean, too; of a storage: its elements
  std::string text = {};  // of a text, a global ("torch FloatStorage"), a storage's key
  std::vector<uint32_t> items = {};  // of a tuple or a list; of a tensor: what its constructor got
  std::vector<std::pair<uint32_t, uint32_t>> members = {};  // of a dict
};

class Pickle {
 public:
  /// Runs the whole pickle. Throws Error.
  explicit Pickle(std::string_view bytes);

  const PickleValue& root() const { return values_[root_]; }
  const PickleValue& operator[](uint32_t index) const { return values_[index]; }

 private:
  using Kind = PickleValue::Kind;

  bool step();  // false after the last instruction
  std::string_view take(uint64_t bytes);
  uint64_t number(size_t bytes);  // little-endian
  std::string_view line();
  uint32_t pop();
  std::vector<uint32_t> pop_to_mark();
  void push(PickleValue value);
  void push(Kind kind, int64_t integer = 0) { push({.kind = kind, .integer = integer}); }
  void push_text(Kind kind, std::string_view text);
  void push_tuple(size_t size);
  void push_global(std::string_view module, std::string_view name);
  void set_members(uint32_t dict, const std::vector<uint32_t>& keys_and_values);
  void append(uint32_t list, const std::vector<uint32_t>& items);
  void memoize(uint32_t key);
  void recall(uint32_t key);
  void reduce();
  void load_storage();
  PickleValue& expect(uint32_t index, Kind kind, const char* what);

  std::string_view rest_;
  std::vector<PickleValue> values_;
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;  // heights of the stack
  std::unordered_map<uint32_t, uint32_t> memo_;
  uint32_t root_ = 0;
};

}  // namespace ribo
