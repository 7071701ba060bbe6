#include "ribo/schema.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "config/text.h"

namespace ribo {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string range_in_words(double low, double high) {
  if (high == kInfinity) return "at least " + format_number(low);
  if (low == -kInfinity) return "at most " + format_number(high);
  return cat(format_number(low), "..", format_number(high));
}

std::string step_in_words(double low, double step) {
  if (step == 2 && low == std::floor(low)) return std::fmod(low, 2) == 0 ? "even" : "odd";
  if (low == 0) return "a multiple of " + format_number(step);
  return cat(format_number(low), " plus a multiple of ", format_number(step));
}

std::string size_in_words(int64_t low, int64_t high) {
  const auto entries = [](int64_t n) { return n == 1 ? "1 entry" : cat(n, " entries"); };
  if (low == high) return entries(low);
  if (high == std::numeric_limits<int64_t>::max()) return "at least " + entries(low);
  return cat(low, "..", entries(high));
}

double step_origin(const Param& p) { return p.low && std::isfinite(*p.low) ? *p.low : 0; }

// What is wrong with one scalar of a parameter, or "". Values that are no number pass here: their
// type has its own message.
std::string check_scalar(const Param& p, const Value& value) {
  if (!p.allowed.empty() &&
      std::find(p.allowed.begin(), p.allowed.end(), value.text) == p.allowed.end()) {
    const std::string hint = did_you_mean(value.text, p.allowed);
    return cat("must be one of ", join(p.allowed), ", got ", value.describe(), hint);
  }
  if (!p.low && !p.stride) return "";
  double number = 0;
  Interval interval;
  if (read_value(value, interval).empty()) {
    number = interval.count;
  } else if (!read_value(value, number).empty()) {
    return "";
  }
  if (p.low && (number < *p.low || number > *p.high)) {
    const std::string limits = range_in_words(*p.low, *p.high);
    return cat("must ", limits.starts_with("at ") ? "be " : "lie in ", limits, ", got ",
               value.text);
  }
  if (p.stride) {
    const double steps = (number - step_origin(p)) / *p.stride;
    if (std::abs(steps - std::round(steps)) > 1e-9 * std::max(1.0, std::abs(steps))) {
      return cat("must be ", step_in_words(step_origin(p), *p.stride), ", got ", value.text);
    }
  }
  return "";
}

}  // namespace

Param& Param::range(double lo, double hi) {
  low = lo;
  high = hi;
  return *this;
}

Param& Param::step(double step) {
  stride = step;
  return *this;
}

Param& Param::choices(std::vector<std::string> words) {
  allowed = std::move(words);
  return *this;
}

Param& Param::size(int64_t lo, int64_t hi) {
  size_low = lo;
  size_high = hi;
  return *this;
}

Param& Param::required() {
  is_required = true;
  return *this;
}

std::string Param::constraint() const {
  std::vector<std::string> parts;
  if (low) parts.push_back(range_in_words(*low, *high));
  if (stride) parts.push_back(step_in_words(step_origin(*this), *stride));
  if (!allowed.empty()) parts.push_back("one of " + join(allowed));
  if (size_low) parts.push_back(size_in_words(*size_low, *size_high));
  return join(parts);
}

SchemaBase::~SchemaBase() = default;

Param& SchemaBase::add(std::string name, std::string doc, std::string type, Value default_value,
                       std::function<std::string(void*, const Value&)> assign) {
  for (const Param& p : params_) {
    if (p.name == name) throw Error(cat("a schema names two parameters ", quote(name)));
  }
  Param& p = params_.emplace_back();
  p.name = std::move(name);
  p.doc = std::move(doc);
  p.type = std::move(type);
  p.default_value = std::move(default_value);
  p.assign_ = std::move(assign);
  return p;
}

void SchemaBase::parse(const Value& map, std::string_view path,
                       const std::vector<std::string>& host_keys, Diagnostics& diagnostics,
                       void* options) const {
  bool sound = true;
  const auto error = [&](const Mark& mark, std::string_view where, std::string_view what) {
    diagnostics.error(mark, where, what);
    sound = false;
  };
  if (!map.is_map()) {
    error(map.mark, path, cat("expected a map, got ", map.describe()));
    return;
  }
  std::vector<std::string> names;
  for (const Param& p : params_) names.push_back(p.name);
  std::vector<std::string> known = names;
  known.insert(known.end(), host_keys.begin(), host_keys.end());
  for (const Value::Member& m : map.members) {
    if (std::find(known.begin(), known.end(), m.key) != known.end()) continue;
    error(m.key_mark, path, unknown_key(m.key, known, names));
  }

  for (const Param& p : params_) {
    const Value* value = map.find(p.name);
    if (!value) {
      if (p.is_required) error(map.mark, path, cat("missing key ", quote(p.name), ": ", p.doc));
      continue;
    }
    const std::string where = path.empty() ? p.name : cat(path, ".", p.name);
    const bool is_list_param = p.type.starts_with("list");
    bool entries_sound = true;
    // An entry reads as a list of one: that gives each entry's error its own place.
    const auto check = [&](const Value& entry, const std::string& at) {
      std::string wrong = p.assign_(options, entry);
      if (wrong.empty() && entry.is_scalar()) wrong = check_scalar(p, entry);
      if (wrong.empty()) return;
      error(entry.mark, at, wrong);
      entries_sound = false;
    };
    if (is_list_param && value->is_list()) {
      for (size_t i = 0; i < value->items.size(); ++i) {
        check(value->items[i], cat(where, "[", i, "]"));
      }
      if (!entries_sound) continue;
    }
    check(*value, where);
    if (!entries_sound || !p.size_low) continue;
    const int64_t size = value->is_list() ? static_cast<int64_t>(value->items.size()) : 1;
    if (size < *p.size_low || size > *p.size_high) {
      error(value->mark, where,
            cat("must have ", size_in_words(*p.size_low, *p.size_high), ", got ", size));
    }
  }

  // A rule over several members means nothing while one of them is wrong.
  if (!sound) return;
  for (const auto& rule : checks_) {
    const std::string wrong = rule(options);
    if (!wrong.empty()) error(map.mark, path, wrong);
  }
}

}  // namespace ribo
