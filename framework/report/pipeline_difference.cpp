#include "report/pipeline_difference.h"

#include <algorithm>

namespace ribo {
namespace {

bool is_list_of_scalars(const Value& value) {
  return value.is_list() && std::all_of(value.items.begin(), value.items.end(),
                                        [](const Value& item) { return item.is_scalar(); });
}

void compare(const Value* a, const Value* b, const std::string& key,
             std::vector<PipelineDifference>& out) {
  if (a && b && *a == *b) return;
  if (a && b && a->is_map() && b->is_map()) {
    const std::string front = key.empty() ? "" : key + ".";
    for (const auto& member : a->members) {
      compare(&member.value, b->find(member.key), front + member.key, out);
    }
    for (const auto& member : b->members) {
      if (!a->find(member.key)) compare(nullptr, &member.value, front + member.key, out);
    }
    return;
  }
  if (a && b && a->is_list() && b->is_list() &&
      !(is_list_of_scalars(*a) && is_list_of_scalars(*b))) {
    for (size_t i = 0; i < std::max(a->items.size(), b->items.size()); ++i) {
      compare(i < a->items.size() ? &a->items[i] : nullptr,
              i < b->items.size() ? &b->items[i] : nullptr, cat(key, "[", i, "]"), out);
    }
    return;
  }
  out.push_back({key, a ? one_line(*a) : "-", b ? one_line(*b) : "-"});
}

}  // namespace

std::string one_line(const Value& value) {
  if (value.is_scalar()) return value.text;
  if (value.is_null()) return "null";
  std::string text;
  const auto add = [&text](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  for (const Value& item : value.items) add(one_line(item));
  for (const auto& member : value.members) add(cat(member.key, ": ", one_line(member.value)));
  return value.is_list() ? cat("[", text, "]") : cat("{", text, "}");
}

std::vector<PipelineDifference> differences(const Value& a, const Value& b) {
  std::vector<PipelineDifference> out;
  compare(&a, &b, "", out);
  return out;
}

}  // namespace ribo
