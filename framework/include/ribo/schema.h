// A Schema describes an Options struct once; parsing, ranges, did-you-mean, `ribo-run inspect`,
// JSON Schema and the fuzzing tests are all made from it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ribo/config.h"

namespace ribo {

/// A span of training: `500u` (updates), `2e` (epochs), `30m` (minutes), `90s` (seconds), `1h`.
struct RIBO_API Interval {
  enum class Unit { updates, epochs, seconds };
  double count = 0;
  Unit unit = Unit::updates;
  std::string str() const;
  bool operator==(const Interval&) const = default;
};

/// Reads a value into `out`. Returns "" or what is wrong: `expected an integer, got "fast"`.
/// Integers are decimal (`010` is refused: YAML 1.1 reads 8, a person 10); `1e3` is an integer;
/// booleans are true and false only. An optional reads `auto` as empty; a list member may be
/// written as a single scalar.
RIBO_API std::string read_value(const Value& value, bool& out);
RIBO_API std::string read_value(const Value& value, int64_t& out);
RIBO_API std::string read_value(const Value& value, double& out);
RIBO_API std::string read_value(const Value& value, std::string& out);
RIBO_API std::string read_value(const Value& value, Interval& out);
RIBO_API std::string read_value(const Value& value, std::optional<int64_t>& out);
RIBO_API std::string read_value(const Value& value, std::optional<double>& out);
RIBO_API std::string read_value(const Value& value, std::optional<Interval>& out);
RIBO_API std::string read_value(const Value& value, std::vector<int64_t>& out);
RIBO_API std::string read_value(const Value& value, std::vector<double>& out);
RIBO_API std::string read_value(const Value& value, std::vector<std::string>& out);
RIBO_API std::string read_value(const Value& value, Value& out);

RIBO_API Value write_value(bool v);
RIBO_API Value write_value(int64_t v);
RIBO_API Value write_value(double v);
RIBO_API Value write_value(const std::string& v);
RIBO_API Value write_value(const Interval& v);
RIBO_API Value write_value(const std::optional<int64_t>& v);
RIBO_API Value write_value(const std::optional<double>& v);
RIBO_API Value write_value(const std::optional<Interval>& v);
RIBO_API Value write_value(const std::vector<int64_t>& v);
RIBO_API Value write_value(const std::vector<double>& v);
RIBO_API Value write_value(const std::vector<std::string>& v);
RIBO_API Value write_value(const Value& v);

/// How `inspect` and errors name a C++ type: "integer", "number", "true|false", "string",
/// "interval", "integer or auto", "list of integers" ...
inline const char* type_name(const bool&) { return "true|false"; }
inline const char* type_name(const int64_t&) { return "integer"; }
inline const char* type_name(const double&) { return "number"; }
inline const char* type_name(const std::string&) { return "string"; }
inline const char* type_name(const Interval&) { return "interval"; }
inline const char* type_name(const std::optional<int64_t>&) { return "integer or auto"; }
inline const char* type_name(const std::optional<double>&) { return "number or auto"; }
inline const char* type_name(const std::optional<Interval>&) { return "interval or auto"; }
inline const char* type_name(const std::vector<int64_t>&) { return "list of integers"; }
inline const char* type_name(const std::vector<double>&) { return "list of numbers"; }
inline const char* type_name(const std::vector<std::string>&) { return "list of strings"; }
inline const char* type_name(const Value&) { return "map"; }

/// One key of an Options struct. The setters chain: `s.param(...).range(1, 63).step(2);`
class RIBO_API Param {
 public:
  /// Numbers (each of a list) must lie in lo..hi, both ends included.
  Param& range(double lo, double hi);
  /// Numbers must be lo + k * step of the range: range(1, 63).step(2) = odd.
  Param& step(double step);
  /// Strings (each of a list) must be one of these.
  Param& choices(std::vector<std::string> allowed);
  /// A list must have lo..hi entries.
  Param& size(int64_t lo, int64_t hi);
  /// There is no sensible default: the pipeline must say it.
  Param& required();

  std::string name;
  std::string doc;
  std::string type;
  Value default_value;
  std::optional<double> low, high, stride;
  std::vector<std::string> allowed;
  std::optional<int64_t> size_low, size_high;
  bool is_required = false;

  /// "1..63, odd" / "one of a, b" / "": the constraint in words.
  std::string constraint() const;

 private:
  friend class SchemaBase;
  std::function<std::string(void* options, const Value&)> assign_;
};

/// The type-erased part of Schema<Options>.
class RIBO_API SchemaBase {
 public:
  explicit SchemaBase(std::string doc) : doc(std::move(doc)) {}
  virtual ~SchemaBase();
  virtual std::shared_ptr<void> make_options() const = 0;

  /// Reads a map into `options`. Every problem goes to `diagnostics` with its position: unknown
  /// keys (with a suggestion), wrong types, ranges, missing keys, failed checks. Keys in
  /// `host_keys` belong to the host and are passed over. `path` = the YAML path of the map.
  void parse(const Value& map, std::string_view path, const std::vector<std::string>& host_keys,
             Diagnostics& diagnostics, void* options) const;

  const std::string doc;
  const std::vector<Param>& params() const { return params_; }

 protected:
  Param& add(std::string name, std::string doc, std::string type, Value default_value,
             std::function<std::string(void*, const Value&)> assign);
  std::vector<std::function<std::string(const void*)>> checks_;

 private:
  std::vector<Param> params_;
};

/// Binds the keys of a YAML map to the members of `Options`; defaults stand in the struct alone.
template <class Options>
class Schema final : public SchemaBase {
 public:
  /// `doc`: one sentence, then detail and source as needed.
  explicit Schema(std::string doc) : SchemaBase(std::move(doc)) {}

  std::shared_ptr<void> make_options() const override { return std::make_shared<Options>(); }

  /// A key of the map; `member` may belong to a base of Options. The reference is valid until the
  /// next call of param().
  template <class T, class Base>
    requires std::is_base_of_v<Base, Options>
  Param& param(std::string name, T Base::*member, std::string doc) {
    const Options defaults{};
    return add(std::move(name), std::move(doc), type_name(defaults.*member),
               write_value(defaults.*member), [member](void* options, const Value& value) {
                 return read_value(value, static_cast<Options*>(options)->*member);
               });
  }

  /// A rule over several members: returns "" or what is wrong, in words.
  void check(std::function<std::string(const Options&)> rule) {
    checks_.push_back(
        [rule = std::move(rule)](const void* o) { return rule(*static_cast<const Options*>(o)); });
  }
};

}  // namespace ribo
