#include "config/yaml_reader.h"

#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "config/text.h"
#include "config/yaml_builder.h"

namespace ribo {
namespace {

// yaml-cpp ends its input at a NUL or an EOT byte, silently, and takes tabs where others don't.
bool check_characters(std::string_view text, const std::shared_ptr<const std::string>& file,
                      Diagnostics& diagnostics) {
  const auto error = [&](size_t offset, std::string_view what) {
    const Place place = place_of(text, offset);
    diagnostics.error({file, place.line, place.column}, "", what);
  };
  if (const size_t bad = find_invalid_utf8(text); bad != std::string_view::npos) {
    error(bad, "invalid UTF-8; save the file as UTF-8 text");
    return false;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == '\t') {
      error(i, "a tab; indent with spaces, and write \\t inside double quotes");
      return false;
    }
    if ((byte < 0x20 && byte != '\n' && byte != '\r') || byte == 0x7F) {
      error(i, cat(byte == 0 ? "a NUL byte" : "a control character", "; this is no YAML text"));
      return false;
    }
  }
  return true;
}

// `line` = the one that the problem stands in, `column` where, from 0.
std::string remedy(std::string_view problem, std::string_view line, int column) {
  static const std::pair<std::string_view, std::string_view> kRemedies[] = {
      {"illegal map value", "; quote text that holds \": \""},
      {"end of map not found", "; check the indentation"},
      {"end of sequence not found", "; check the indentation"},
      {"illegal block entry", "; check the indentation"},
      {"end of map flow not found", "; a \",\" or \"}\" is missing"},
      {"end of sequence flow not found", "; a \",\" or \"]\" is missing"},
      {"illegal flow end", "; there is a \"]\" or \"}\" too many"},
      {"illegal EOF in scalar", "; close the quotes"},
      {"unknown token", "; quote text that starts with %, @ or `"},
      {"the referenced anchor", "; aliases are not supported: use define: and use:"},
  };
  if (line.find("${") != std::string_view::npos) {
    return "; inside [..] and {..}, quote text that holds ${...}";
  }
  // The first colon of its line: this line was read as the rest of a value above.
  const std::string_view before = line.substr(0, static_cast<size_t>(std::max(column, 0)));
  if (problem.starts_with("illegal map value") && before.find(':') == std::string_view::npos) {
    return "; check the indentation: this line stands deeper than the one above it";
  }
  for (const auto& [start, text] : kRemedies) {
    if (problem.starts_with(start)) return std::string(text);
  }
  return "";
}

std::string_view line_at(std::string_view text, int line) {
  for (; line > 0; --line) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return "";
    text.remove_prefix(end + 1);
  }
  return text.substr(0, text.find('\n'));
}

std::optional<Value> read(std::string_view text, const std::string& file_name, bool flow_only,
                          Diagnostics& diagnostics) {
  const auto file = std::make_shared<const std::string>(file_name);
  if (text.size() > kMaxYamlBytes) {
    diagnostics.error({file, 0, 0}, "", "larger than 1 MiB; keep data out of the pipeline");
    return std::nullopt;
  }
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  if (!check_characters(text, file, diagnostics)) return std::nullopt;
  const size_t before = diagnostics.errors().size();
  YamlBuilder builder(text, file_name, flow_only, diagnostics);
  std::istringstream stream{std::string(text)};
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
    builder.check_last_quote();
  } catch (const YamlBuilder::Abandon&) {
    // told already
  } catch (const YAML::Exception& e) {
    if (builder.check_last_quote()) return std::nullopt;
    const std::string hint = remedy(e.msg, line_at(text, e.mark.line), e.mark.column);
    diagnostics.error(builder.mark(e.mark), "", cat("not valid YAML: ", e.msg, hint));
  }
  if (diagnostics.errors().size() > before) return std::nullopt;
  return std::move(builder.root());
}

}  // namespace

std::string read_text_file(const std::string& path, std::string& text) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    return cat(quote(path), " is a directory; give a YAML file");
  }
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    const int error = errno;
    return cat("cannot read ", quote(path), ": ", std::strerror(error),
               error == EACCES ? "; give yourself the right to read it and to enter its folders"
                               : "; check the path");
  }
  // One byte more than allowed tells a file that is too large; /dev/zero ends here too.
  text.resize(kMaxYamlBytes + 1);
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  return in.bad() ? cat("cannot read ", quote(path), ": ", std::strerror(errno)) : "";
}

std::optional<Value> read_yaml(std::string_view text, const std::string& file_name,
                               Diagnostics& diagnostics) {
  std::optional<Value> root = read(text, file_name, false, diagnostics);
  if (root && root->is_null()) {
    diagnostics.error({std::make_shared<const std::string>(file_name), 0, 0}, "",
                      "the file is empty; see pipelines/ for examples");
    return std::nullopt;
  }
  return root;
}

std::optional<Value> read_flow_yaml(std::string_view text, const std::string& origin,
                                    Diagnostics& diagnostics) {
  return read(text, origin, true, diagnostics);
}

Value read_yaml(std::string_view text, const std::string& file_name) {
  Diagnostics diagnostics;
  std::optional<Value> value = read_yaml(text, file_name, diagnostics);
  diagnostics.throw_if_any();
  return std::move(*value);
}

Value read_yaml_file(const std::string& path) {
  std::string text;
  const std::string wrong = read_text_file(path, text);
  if (!wrong.empty()) throw ConfigError(wrong);
  return read_yaml(text, path);
}

}  // namespace ribo
