// Builds a Value from yaml-cpp's events, and refuses what yaml-cpp would take in silence.
#pragma once

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/mark.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ribo/config.h"

namespace ribo {

/// Takes the events of one text. Problems that leave the rest readable are collected; behind
/// others it throws YamlBuilder::Abandon, having told the problem.
class YamlBuilder final : public YAML::EventHandler {
 public:
  struct Abandon {};

  /// `text` = what is parsed, without a byte order mark. `flow_only`: block style is refused, and
  /// marks carry no line.
  YamlBuilder(std::string_view text, const std::string& file_name, bool flow_only,
              Diagnostics& diagnostics);

  /// The document; null if there was none.
  Value& root() { return root_; }
  Mark mark(const YAML::Mark& place) const;
  /// Tells of a quote that is never closed; yaml-cpp would end it with the file. True if told.
  bool check_last_quote();

  void OnDocumentStart(const YAML::Mark& mark) override;
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override;
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override;
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override;
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value style) override;
  void OnSequenceEnd() override;
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override;
  void OnMapEnd() override;
  void OnAnchor(const YAML::Mark& mark, const std::string& name) override;

 private:
  struct Key {
    std::string text;
    Mark mark;
    size_t end = 0;       // the offset behind it, if it is plain text
    bool usable = false;  // its value is kept
  };
  struct Frame {
    Value value;
    YAML::Mark place;
    std::optional<Key> key;  // of a map: read, and its value is awaited
    std::unordered_map<std::string, Mark> seen;
  };

  bool at_key() const;
  void take_key(Value value, const YAML::Mark& place);
  void check_colon(const Key& key);
  void add(Value value, const YAML::Mark& place);
  void open(Value container, const YAML::Mark& mark, const std::string& tag,
            YAML::EmitterStyle::value style);
  void close();
  void count(const YAML::Mark& mark);
  void check_tag(const YAML::Mark& mark, const std::string& tag);
  void error(const Mark& mark, std::string_view what) { diagnostics_.error(mark, "", what); }

  size_t offset(const YAML::Mark& place) const;

  std::string_view text_;
  std::vector<size_t> lines_ = {0};  // the offset of each line
  std::shared_ptr<const std::string> file_;
  bool flow_only_;
  Diagnostics& diagnostics_;
  std::vector<Frame> stack_;
  Value root_;
  std::optional<YAML::Mark> last_quoted_;
  size_t values_ = 0;
  bool started_ = false;
  bool told_alias_ = false;
};

}  // namespace ribo
