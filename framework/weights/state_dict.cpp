#include "weights/state_dict.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "weights/pickle.h"

namespace ribo {
namespace {

using Kind = PickleValue::Kind;

std::string dtype_of(const std::string& storage) {
  static const std::map<std::string, std::string> dtypes = {
      {"torch DoubleStorage", "F64"}, {"torch FloatStorage", "F32"},
      {"torch HalfStorage", "F16"},   {"torch BFloat16Storage", "BF16"},
      {"torch LongStorage", "I64"},   {"torch IntStorage", "I32"},
      {"torch ShortStorage", "I16"},  {"torch CharStorage", "I8"},
      {"torch ByteStorage", "U8"},    {"torch BoolStorage", "BOOL"}};
  const auto it = dtypes.find(storage);
  if (it == dtypes.end()) throw Error(cat("its type, `", storage, "`, is not supported"));
  return it->second;
}

std::vector<int64_t> integers(const Pickle& pickle, uint32_t index, const char* what) {
  std::vector<int64_t> out;
  constexpr size_t kMaxRank = 64;
  if (pickle[index].kind != Kind::tuple) throw Error(cat("its ", what, " is none"));
  if (pickle[index].items.size() > kMaxRank) throw Error(cat("its ", what, " is too long"));
  for (const uint32_t item : pickle[index].items) {
    if (pickle[item].kind != Kind::integer || pickle[item].integer < 0) {
      throw Error(cat("its ", what, " is none"));
    }
    out.push_back(pickle[item].integer);
  }
  return out;
}

// Checks that every element lies in the storage, and that no more are claimed than it has: a stride
// of zero could make terabytes of a few bytes.
void check_extent(const PickledTensor& t) {
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  if (t.shape.size() != t.strides.size()) {
    throw Error("its shape and its strides do not fit together");
  }
  uint64_t last = t.offset, count = 1;
  bool empty = false;
  for (size_t i = 0; i < t.shape.size(); ++i) {
    const auto size = static_cast<uint64_t>(t.shape[i]), stride = static_cast<uint64_t>(t.strides[i]);
    empty = empty || size == 0;
    // Even of an empty tensor the sizes are multiplied.
    if (std::max<uint64_t>(size, 1) > kMost / count) throw Error("its shape is too large");
    count *= std::max<uint64_t>(size, 1);
    if (size < 2) continue;
    if (stride > (kMost - last) / (size - 1)) throw Error("its strides are too large");
    last += stride * (size - 1);
  }
  if (!empty && (last >= t.elements || count > t.elements)) {
    throw Error(cat("its shape reaches beyond its storage of ", t.elements, " elements"));
  }
}

PickledTensor describe(const Pickle& pickle, const std::string& name, const PickleValue& tensor) {
  PickledTensor out;
  out.name = name;
  const PickleValue& storage = pickle[tensor.items[0]];
  const PickleValue& offset = pickle[tensor.items[1]];
  if (storage.kind != Kind::storage || storage.integer < 0) throw Error("it has no storage");
  if (offset.kind != Kind::integer || offset.integer < 0) throw Error("its offset is none");
  out.dtype = dtype_of(pickle[storage.items[0]].text);
  out.storage = storage.text;
  out.elements = static_cast<uint64_t>(storage.integer);
  out.offset = static_cast<uint64_t>(offset.integer);
  out.shape = integers(pickle, tensor.items[2], "shape");
  out.strides = integers(pickle, tensor.items[3], "stride");
  check_extent(out);
  return out;
}

// The map of the tensors: the root, or what lies under a usual key.
const PickleValue& find_tensors(const Pickle& pickle) {
  const PickleValue& root = pickle.root();
  if (root.kind != Kind::dict) {
    throw Error("it holds no map of names to tensors; in Python, save one: "
                "torch.save(model.state_dict(), path)");
  }
  for (const char* wanted : {"model_state_dict", "state_dict", "model"}) {
    for (const auto& [key, value] : root.members) {
      const bool here = pickle[key].kind == Kind::text && pickle[key].text == wanted;
      if (here && pickle[value].kind == Kind::dict) return pickle[value];
    }
  }
  return root;
}

}  // namespace

std::vector<PickledTensor> read_state_dict(std::string_view bytes) {
  const Pickle pickle(bytes);
  std::vector<PickledTensor> out;
  std::set<std::string> names;
  for (const auto& [key, value] : find_tensors(pickle).members) {
    if (pickle[key].kind != Kind::text) throw Error("a tensor's name is no text");
    const std::string& name = pickle[key].text;
    const std::string place = cat("tensor `", name.substr(0, 200), "`: ");
    if (pickle[value].kind != Kind::tensor) throw Error(place + "is none");
    if (!names.insert(name).second) throw Error(place + "comes twice");
    try {
      out.push_back(describe(pickle, name, pickle[value]));
    } catch (const Error& e) {
      throw Error(place + e.what());
    }
  }
  if (out.empty()) throw Error("it holds no tensors");
  return out;
}

}  // namespace ribo
