#include "config/merge.h"

namespace ribo {
namespace {

// The key that decides what a map's other keys mean, or null.
const Value::Member* identity(const Value& map) {
  const Value::Member* found = nullptr;
  for (const Value::Member& m : map.members) {
    if (!m.value.is_scalar()) continue;
    if (m.key == "use" || (m.key == "type" && !found)) found = &m;
  }
  return found;
}

std::string name_of(const Value::Member& m) {
  return m.key == "use" ? "use " + m.value.text : m.value.text;
}

Value start_afresh(const Value& base, const Value& child, const std::string& change,
                   std::vector<std::string>& notes) {
  Value result = Value::map(child.mark);
  for (const Value::Member& m : child.members) {
    if (!m.value.is_null() || !base.find(m.key)) result.members.push_back(m);
  }
  std::string dropped;
  for (const Value::Member& m : base.members) {
    if (m.key == "type" || m.key == "use" || child.find(m.key)) continue;
    dropped += (dropped.empty() ? "" : ", ") + m.key;
  }
  if (!dropped.empty()) notes.push_back(cat(change, "; dropped keys: ", dropped));
  return result;
}

}  // namespace

std::string join_path(std::string_view path, std::string_view key) {
  return path.empty() ? std::string(key) : cat(path, ".", key);
}

Value merge(Value base, const Value& child, const std::string& path,
            std::vector<std::string>& notes) {
  if (!base.is_map() || !child.is_map()) return child;
  const Value::Member* was = identity(base);
  const Value::Member* is = identity(child);
  if (was && is && name_of(*was) != name_of(*is)) {
    const std::string place = is->value.mark.str();
    return start_afresh(base, child,
                        cat(place, place.empty() ? "" : ": ", path, ": type changed from ",
                            name_of(*was), " to ", name_of(*is)),
                        notes);
  }
  base.mark = child.mark;
  for (const Value::Member& m : child.members) {
    Value* inherited = base.find(m.key);
    if (!inherited) {
      base.members.push_back(m);
    } else if (m.value.is_null()) {
      base.erase(m.key);
    } else {
      base.set(m.key, merge(std::move(*inherited), m.value, join_path(path, m.key), notes),
               m.key_mark);
    }
  }
  return base;
}

}  // namespace ribo
