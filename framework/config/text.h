// What the reader, the writer and the error messages of a configuration agree on about text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace ribo {

/// The text between double quotes, on one line and cut after 60 bytes: for error messages.
std::string quote(std::string_view text);

/// The words with the separator between them.
std::string join(const std::vector<std::string>& words, std::string_view separator = ", ");

/// `unknown key "kernle"; did you mean "kernel"?`, by the nearest of `known`, or with the list of
/// `valid` keys where none is near.
std::string unknown_key(std::string_view key, const std::vector<std::string>& known,
                        const std::vector<std::string>& valid);

/// Whether a plain scalar of this text is YAML's null.
bool is_null_text(std::string_view text);

/// The shortest text that reads back as `v`; whole numbers below 1e15 without an exponent.
std::string format_number(double v);

/// The line and the column, both from 1, of the byte at `offset`.
struct Place {
  int line = 1;
  int column = 1;
};
Place place_of(std::string_view text, size_t offset);

/// The offset of the first byte that is no part of well-formed UTF-8, or npos.
size_t find_invalid_utf8(std::string_view text);

/// Replaces `${VAR}` and `${VAR:-default}` (for a variable that is unset or empty) in `text`;
/// `$${` is a literal `${`. Returns "" or what is wrong.
std::string expand_environment(std::string& text);

/// Makes expand_environment() give `text` back.
std::string escape_environment(std::string_view text);

}  // namespace ribo
