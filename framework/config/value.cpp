#include <algorithm>

#include "config/text.h"
#include "ribo/config.h"

namespace ribo {

std::string Mark::str() const {
  if (!file) return "";
  return line == 0 ? *file : cat(*file, ":", line, ":", column);
}

Value Value::scalar(std::string text, Mark mark, bool quoted) {
  Value v;
  v.kind = Kind::scalar;
  v.text = std::move(text);
  v.quoted = quoted;
  v.mark = std::move(mark);
  return v;
}

Value Value::list(Mark mark) {
  Value v;
  v.kind = Kind::list;
  v.mark = std::move(mark);
  return v;
}

Value Value::map(Mark mark) {
  Value v;
  v.kind = Kind::map;
  v.mark = std::move(mark);
  return v;
}

const Value* Value::find(std::string_view key) const {
  for (const Member& m : members) {
    if (m.key == key) return &m.value;
  }
  return nullptr;
}

Value* Value::find(std::string_view key) {
  return const_cast<Value*>(std::as_const(*this).find(key));
}

Value& Value::set(std::string key, Value value, Mark key_mark) {
  for (Member& m : members) {
    if (m.key != key) continue;
    m.key_mark = std::move(key_mark);
    m.value = std::move(value);
    return m.value;
  }
  members.push_back({std::move(key), std::move(key_mark), std::move(value)});
  return members.back().value;
}

void Value::erase(std::string_view key) {
  std::erase_if(members, [key](const Member& m) { return m.key == key; });
}

std::string Value::describe() const {
  switch (kind) {
    case Kind::null:
      return "an empty value";
    case Kind::list:
      return "a list";
    case Kind::map:
      return "a map";
    case Kind::scalar:
      break;
  }
  return quote(text);
}

bool operator==(const Value& a, const Value& b) {
  if (a.kind != b.kind) return false;
  if (a.is_scalar()) return a.text == b.text;
  if (a.is_list()) return a.items == b.items;
  if (a.members.size() != b.members.size()) return false;
  return std::all_of(a.members.begin(), a.members.end(), [&](const Value::Member& m) {
    const Value* other = b.find(m.key);
    return other && m.value == *other;
  });
}

}  // namespace ribo
