#include "common/letters.h"

#include <array>

#include "ribo/letters.h"

namespace ribo {
namespace {

constexpr std::array<int8_t, 256> kTable = [] {
  std::array<int8_t, 256> table{};
  for (int c = 0; c < 256; ++c) {
    table[static_cast<size_t>(c)] = static_cast<int8_t>(token_of(static_cast<char>(c)));
  }
  return table;
}();

}  // namespace

std::optional<size_t> encode_letters(std::string_view letters, std::vector<uint8_t>& tokens) {
  tokens.resize(letters.size());
  for (size_t i = 0; i < letters.size(); ++i) {
    const int8_t token = kTable[static_cast<unsigned char>(letters[i])];
    if (token < 0) return i;
    tokens[i] = static_cast<uint8_t>(token);
  }
  return std::nullopt;
}

}  // namespace ribo
