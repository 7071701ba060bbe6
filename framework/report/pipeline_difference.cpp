#include "report/pipeline_difference.h"

#include <algorithm>

namespace ribo {
namespace {

bool is_list_of_scalars(const Value& value) {
  return value.is_list() && std::all_of(value.items.begin(), value.items.end(),
                                        [](const Value& item) { return item.is_scalar(); });
}

bool have_other_types(const Value& a, const Value& b) {
  const Value *one = a.find("type"), *two = b.find("type");
  return one && two ? !(*one == *two) : one || two;
}

// How much speaks for b being what a has become.
int likeness(const Value& a, const Value& b) {
  if (a == b) return 4;
  if (!a.is_map() || !b.is_map() || have_other_types(a, b)) return 1;
  return 3;
}

struct Pair {
  const Value *a, *b;  // null: only the other side has it
  size_t index;
};

// The entries of two lists in order, matched for the greatest likeness in all.
std::vector<Pair> match(const std::vector<Value>& a, const std::vector<Value>& b) {
  // best[i][j]: of what begins with a[i] and b[j].
  std::vector<std::vector<int>> best(a.size() + 1, std::vector<int>(b.size() + 1));
  for (size_t i = a.size(); i-- > 0;) {
    for (size_t j = b.size(); j-- > 0;) {
      best[i][j] = std::max({likeness(a[i], b[j]) + best[i + 1][j + 1], best[i + 1][j],
                             best[i][j + 1]});
    }
  }
  std::vector<Pair> out;
  for (size_t i = 0, j = 0; i < a.size() || j < b.size();) {
    if (i < a.size() && j < b.size() &&
        best[i][j] == likeness(a[i], b[j]) + best[i + 1][j + 1]) {
      out.push_back({&a[i], &b[j], i});
      ++i, ++j;
    } else if (i < a.size() && best[i][j] == best[i + 1][j]) {
      out.push_back({&a[i], nullptr, i});
      ++i;
    } else {
      out.push_back({nullptr, &b[j], j});
      ++j;
    }
  }
  return out;
}

void compare(const Value* a, const Value* b, const std::string& key,
             std::vector<PipelineDifference>& out) {
  if (a && b && *a == *b) return;
  if (a && b && a->is_map() && b->is_map() && !have_other_types(*a, *b)) {
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
    for (const Pair& pair : match(a->items, b->items)) {
      compare(pair.a, pair.b, cat(key, "[", pair.index, "]"), out);
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
