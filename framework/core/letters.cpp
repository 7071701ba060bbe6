#include "ribo/letters.h"

#include <algorithm>

namespace ribo {
namespace {

// What else sequence files hold. The codes are those of IUPAC (Cornish-Bowden 1985).
std::string_view meaning_of(char letter) {
  switch (letter & ~0x20) {  // upper case
    case 'R': return "A or G in IUPAC's code";
    case 'Y': return "C or U in IUPAC's code";
    case 'S': return "C or G in IUPAC's code";
    case 'W': return "A or U in IUPAC's code";
    case 'K': return "G or U in IUPAC's code";
    case 'M': return "A or C in IUPAC's code";
    case 'B': return "not A in IUPAC's code";
    case 'D': return "not C in IUPAC's code";
    case 'H': return "not G in IUPAC's code";
    case 'V': return "not U in IUPAC's code";
    case 'I': return "inosine";
    case 'P': return "pseudouridine";
    default: return letter == '-' || letter == '.' ? "a gap of an alignment" : "";
  }
}

// One character of UTF-8, which may take several bytes.
std::string_view character_at(std::string_view text, size_t position) {
  size_t end = position + 1;
  while (end < text.size() && (text[end] & 0xC0) == 0x80) ++end;
  return text.substr(position, end - position);
}

}  // namespace

std::string bad_letter(std::string_view letters, size_t position) {
  const std::string_view letter = character_at(letters, position);
  const bool is_visible = static_cast<unsigned char>(letter[0]) > ' ' && letter[0] != 0x7F;
  const std::string_view meaning = meaning_of(letter[0]);
  const bool is_gap = letter == "-" || letter == ".";
  return cat(is_visible ? cat("`", letter, "`")
                        : cat("the character ", static_cast<int>(static_cast<unsigned char>(letter[0]))),
             meaning.empty() ? "" : cat(" (", meaning, ")"), " at position ", position + 1,
             " of the sequence is not one of A C G U T N; ",
             is_gap ? "remove the gaps" : "write a modified or unknown residue as N");
}

}  // namespace ribo
