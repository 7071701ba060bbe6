// Letters of a sequence -> the framework's tokens, in one byte each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "ribo/letters.h"

namespace ribo {

/// Replaces `tokens` by those of `letters` (A C G U/T N, either case). Returns the position of the
/// first letter that is none of them, or nothing when all are fine.
std::optional<size_t> encode_letters(std::string_view letters, std::vector<uint8_t>& tokens);

}  // namespace ribo
