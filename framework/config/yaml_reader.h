// Strict YAML: one document whose meaning no reader could mistake, every value with its place.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "ribo/config.h"

namespace ribo {

/// What a pipeline may be at most; far above any real one, far below what hurts.
inline constexpr size_t kMaxYamlBytes = size_t{1} << 20;
inline constexpr size_t kMaxYamlValues = 100'000;
inline constexpr int kMaxYamlDepth = 32;

/// Reads a YAML file. Refused, each with its place and a remedy: duplicate keys, anchors, aliases,
/// merge keys, tags, keys that aren't text, several documents, tabs, control characters, invalid
/// UTF-8, an empty file, and more than the limits above. `${VAR}` and `${VAR:-default}` in scalars
/// are replaced from the environment. Throws ConfigError holding all problems.
Value read_yaml_file(const std::string& path);

/// The same for a text that errors call `file_name`.
Value read_yaml(std::string_view text, const std::string& file_name);

/// The same, but problems go to `diagnostics`; empty if there were any.
std::optional<Value> read_yaml(std::string_view text, const std::string& file_name,
                               Diagnostics& diagnostics);

/// Reads the value of one command-line argument: a scalar, `[a, b]` or `{a: b}`. Every mark is
/// `origin` without a line.
std::optional<Value> read_flow_yaml(std::string_view text, const std::string& origin,
                                    Diagnostics& diagnostics);

/// The bytes of a file of at most kMaxYamlBytes; returns "" or what is wrong.
std::string read_text_file(const std::string& path, std::string& text);

}  // namespace ribo
