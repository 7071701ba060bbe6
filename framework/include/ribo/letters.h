// The letters of a sequence and the framework's tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "ribo/error.h"

namespace ribo {

/// A C G U/T N (either case) -> 0 1 2 3 4; -1 for any other letter.
constexpr int64_t token_of(char letter) {
  switch (letter) {
    case 'A': case 'a': return 0;
    case 'C': case 'c': return 1;
    case 'G': case 'g': return 2;
    case 'U': case 'u': case 'T': case 't': return 3;
    case 'N': case 'n': return 4;
    default: return -1;
  }
}
inline constexpr int64_t kPadToken = 4;  // padding shares N's token; the mask tells them apart
inline constexpr int64_t kTokens = 5;

/// The text of an error about the letter at `position` of a sequence, which has no token: which it
/// is, what it may stand for (an IUPAC code, a gap) and what to write instead.
RIBO_API std::string bad_letter(std::string_view letters, size_t position);

}  // namespace ribo
