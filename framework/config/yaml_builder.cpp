#include "config/yaml_builder.h"

#include <algorithm>

#include "config/text.h"
#include "config/yaml_reader.h"

namespace ribo {

YamlBuilder::YamlBuilder(std::string_view text, const std::string& file_name, bool flow_only,
                         Diagnostics& diagnostics)
    : text_(text),
      file_(std::make_shared<const std::string>(file_name)),
      flow_only_(flow_only),
      diagnostics_(diagnostics) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') lines_.push_back(i + 1);
  }
}

size_t YamlBuilder::offset(const YAML::Mark& place) const {
  const auto line = static_cast<size_t>(std::max(place.line, 0));
  const size_t start = line < lines_.size() ? lines_[line] : text_.size();
  return std::min(start + static_cast<size_t>(std::max(place.column, 0)), text_.size());
}

Mark YamlBuilder::mark(const YAML::Mark& place) const {
  if (flow_only_ || place.line < 0) return {file_, 0, 0};
  return {file_, place.line + 1, place.column + 1};
}

void YamlBuilder::OnDocumentStart(const YAML::Mark& place) {
  if (started_) {
    error(mark(place), text_.substr(offset(place)).starts_with("---")
                           ? "a second document starts here; keep one document in a file"
                           : "this does not continue what stands above; check the indentation");
    throw Abandon();
  }
  started_ = true;
}

void YamlBuilder::OnNull(const YAML::Mark& place, YAML::anchor_t) {
  count(place);
  Value null;
  null.mark = mark(place);
  // Where nothing is written, yaml-cpp gives the place of whatever follows.
  if (!stack_.empty() && stack_.back().key) {
    const Key& key = *stack_.back().key;
    if (key.mark.line != null.mark.line) null.mark = key.mark;
    if (key.usable) check_colon(key);
  }
  add(std::move(null), place);
}

void YamlBuilder::OnAnchor(const YAML::Mark& place, const std::string& name) {
  error(mark(place),
        cat("anchors such as ", quote("&" + name), " are not supported; use define: and use:"));
}

void YamlBuilder::OnAlias(const YAML::Mark& place, YAML::anchor_t) {
  // Once: a file that uses them uses many.
  if (!told_alias_) error(mark(place), "aliases are not supported; use define: and use:");
  told_alias_ = true;
  add(Value::scalar("", mark(place)), place);
}

void YamlBuilder::OnScalar(const YAML::Mark& place, const std::string& tag, YAML::anchor_t,
                           const std::string& text) {
  count(place);
  check_tag(place, tag);
  const bool plain = tag != "!";
  if (!plain) last_quoted_ = place;
  Value value = Value::scalar(text, mark(place), !plain);
  if (at_key()) {
    take_key(std::move(value), place);
    return;
  }
  const std::string wrong = expand_environment(value.text);
  if (!wrong.empty()) error(value.mark, wrong);
  if (plain && value.text != text) {
    if (value.text.empty()) {
      value.quoted = true;
    } else if (is_null_text(value.text)) {
      value = Value();
      value.mark = mark(place);
    }
  }
  add(std::move(value), place);
}

void YamlBuilder::OnSequenceStart(const YAML::Mark& place, const std::string& tag, YAML::anchor_t,
                                  YAML::EmitterStyle::value style) {
  open(Value::list(mark(place)), place, tag, style);
}

void YamlBuilder::OnSequenceEnd() { close(); }

void YamlBuilder::OnMapStart(const YAML::Mark& place, const std::string& tag, YAML::anchor_t,
                             YAML::EmitterStyle::value style) {
  open(Value::map(mark(place)), place, tag, style);
}

void YamlBuilder::OnMapEnd() { close(); }

bool YamlBuilder::at_key() const {
  return !stack_.empty() && stack_.back().value.is_map() && !stack_.back().key;
}

void YamlBuilder::take_key(Value value, const YAML::Mark& place) {
  constexpr size_t kLongestKey = 200;
  Frame& frame = stack_.back();
  Key key{value.text, value.mark, 0, false};
  if (value.is_scalar() && !value.quoted) key.end = offset(place) + key.text.size();
  if (!value.is_scalar()) {
    error(value.mark, cat("a key must be text, got ", value.describe(),
                          value.is_null() ? "; quote a key that is called \"null\" or \"~\"" : ""));
  } else if (!value.quoted && key.text == "<<") {
    error(key.mark, "merge keys (<<) are not supported; use extends:, or define: and use:");
  } else if (key.text.size() > kLongestKey) {
    error(key.mark,
          cat("a key of ", key.text.size(), " bytes; at most ", kLongestKey, " are read"));
  } else if (const auto [first, fresh] = frame.seen.emplace(key.text, key.mark); !fresh) {
    const Mark& there = first->second;
    error(key.mark, cat("duplicate key ", quote(key.text), there.line == 0 ? "" : "; it stands at ",
                        there.line == 0 ? "" : there.str(), there.line == 0 ? "" : " already",
                        "; keep one of them"));
  } else {
    key.usable = true;
  }
  frame.key = std::move(key);
}

// yaml-cpp reads a line `b` of a map, or `{lr:1}`, as a key with an empty value.
void YamlBuilder::check_colon(const Key& key) {
  if (key.end == 0) return;
  const size_t next = text_.find_first_not_of(" \r\n", key.end);
  if (next != std::string_view::npos && text_[next] == ':') return;
  const size_t colon = key.text.find(':');
  error(key.mark, cat(quote(key.text), " has no value; write ",
                      colon == std::string::npos
                          ? quote(key.text + ": value")
                          : quote(key.text.substr(0, colon) + ": " + key.text.substr(colon + 1))));
}

bool YamlBuilder::check_last_quote() {
  if (!last_quoted_) return false;
  size_t i = offset(*last_quoted_);
  const char mark_char = i < text_.size() ? text_[i] : ' ';
  if (mark_char != '"' && mark_char != '\'') return false;  // a block scalar
  for (++i; i < text_.size(); ++i) {
    if (mark_char == '"' && text_[i] == '\\') {
      ++i;
    } else if (text_[i] == mark_char) {
      if (mark_char == '"' || !text_.substr(i + 1).starts_with('\'')) return false;
      ++i;
    }
  }
  error(mark(*last_quoted_), "the quote that opens here is never closed");
  return true;
}

void YamlBuilder::add(Value value, const YAML::Mark& place) {
  if (stack_.empty()) {
    root_ = std::move(value);
    return;
  }
  if (at_key()) {
    take_key(std::move(value), place);
    return;
  }
  Frame& frame = stack_.back();
  if (frame.value.is_list()) {
    frame.value.items.push_back(std::move(value));
    return;
  }
  if (frame.key->usable) {
    frame.value.members.push_back(
        {std::move(frame.key->text), std::move(frame.key->mark), std::move(value)});
  }
  frame.key.reset();
}

void YamlBuilder::open(Value container, const YAML::Mark& place, const std::string& tag,
                       YAML::EmitterStyle::value style) {
  count(place);
  check_tag(place, tag);
  if (flow_only_ && style == YAML::EmitterStyle::Block) {
    error(mark(place), "write a list as [a, b], a map as {a: b}, and quote other text");
    throw Abandon();
  }
  if (stack_.size() == kMaxYamlDepth) {
    error(mark(place), cat("nested deeper than ", kMaxYamlDepth, " levels; flatten it"));
    throw Abandon();
  }
  stack_.push_back({std::move(container), place, std::nullopt, {}});
}

void YamlBuilder::close() {
  Frame done = std::move(stack_.back());
  stack_.pop_back();
  add(std::move(done.value), done.place);
}

void YamlBuilder::count(const YAML::Mark& place) {
  if (++values_ <= kMaxYamlValues) return;
  error(mark(place), cat("more than ", kMaxYamlValues, " values; keep data out of the pipeline"));
  throw Abandon();
}

void YamlBuilder::check_tag(const YAML::Mark& place, const std::string& tag) {
  if (tag.empty() || tag == "?" || tag == "!") return;
  error(mark(place), cat("the tag ", quote(tag), " is not supported; remove it"));
}

}  // namespace ribo
