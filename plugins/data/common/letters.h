// Letters of a sequence -> the framework's tokens, in one byte each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ribo {

/// Replaces `tokens` by those of `letters` (A C G U/T N, either case). Returns the position of the
/// first letter that is none of them, or nothing when all are fine.
std::optional<size_t> encode_letters(std::string_view letters, std::vector<uint8_t>& tokens);

/// The text of an error about that letter: "`X` at position 12 of the sequence is not ...".
std::string bad_letter(std::string_view letters, size_t position);

}  // namespace ribo
