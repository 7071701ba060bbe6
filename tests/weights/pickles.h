// Pickles written by hand, as Python's torch.save writes them or as no one should.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ribo::testing {

inline std::string little_endian(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> 8 * i);
  return out;
}
inline std::string text(const std::string& s) { return "X" + little_endian(s.size(), 4) + s; }
inline std::string integer(int64_t v) {
  return "\x8a\x08" + little_endian(static_cast<uint64_t>(v), 8);
}
inline std::string tuple(const std::vector<std::string>& items) {
  std::string out = "(";
  for (const std::string& item : items) out += item;
  return out + "t";
}
inline std::string integers(const std::vector<int64_t>& values) {
  std::vector<std::string> items;
  for (const int64_t v : values) items.push_back(integer(v));
  return tuple(items);
}
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string ordered_dict() { return global("collections", "OrderedDict") + ")R"; }

struct HandTensor {
  std::string type = "FloatStorage", key = "0";
  int64_t elements = 6, offset = 0;
  std::vector<int64_t> shape = {2, 3}, strides = {3, 1};

  std::string str() const {
    return global("torch._utils", "_rebuild_tensor_v2") +
           tuple({tuple({text("storage"), global("torch", type), text(key), text("cpu"),
                         integer(elements)}) +
                      "Q",
                  integer(offset), integers(shape), integers(strides), "\x89", ordered_dict()}) +
           "R";
  }
};

/// A state_dict of named values, which are pickled already.
inline std::string dict(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string out = ordered_dict() + "(";
  for (const auto& [name, value] : members) out += text(name) + value;
  return out + "u";
}
inline std::string pickle(const std::string& value) { return "\x80\x02" + value + "."; }

}  // namespace ribo::testing
