#include "ribo/letters.h"

#include <gtest/gtest.h>

namespace ribo {
namespace {

TEST(Letters, TheErrorSaysWhatALetterMayMean) {
  const std::pair<const char*, const char*> cases[] = {
      {"ACGUx", "`x` at position 5 of the sequence is not one of A C G U T N; write a modified or "
                "unknown residue as N"},
      {"ry", "`r` (A or G in IUPAC's code) at position 1"},
      {"-ACGU", "`-` (a gap of an alignment) at position 1 of the sequence is not one of A C G U T "
                "N; remove the gaps"},
      {"\xCE\xA8"
       "AC",
       "`\xCE\xA8` at position 1"},
      {"\x01", "the character 1 at position 1"},
  };
  for (const auto& [letters, text] : cases) {
    size_t position = 0;
    while (token_of(letters[position]) >= 0) ++position;
    EXPECT_EQ(bad_letter(letters, position).substr(0, std::string(text).size()), text);
  }
}

}  // namespace
}  // namespace ribo
