#include "report/png.h"

#include <openssl/evp.h>
#include <zlib.h>

namespace ribo {
namespace {

const Bytef* bytes(std::string_view text) { return reinterpret_cast<const Bytef*>(text.data()); }

std::string big_endian(uint32_t v) {
  return {static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8),
          static_cast<char>(v)};
}

std::string chunk(std::string_view type, std::string_view content) {
  const std::string body = cat(type, content);
  const auto sum = static_cast<uint32_t>(::crc32(0, bytes(body), static_cast<uInt>(body.size())));
  return big_endian(static_cast<uint32_t>(content.size())) + body + big_endian(sum);
}

std::string compress(std::string_view raw) {
  uLongf size = ::compressBound(raw.size());
  std::string out(size, '\0');
  const int rc = ::compress2(reinterpret_cast<Bytef*>(out.data()), &size, bytes(raw), raw.size(),
                             Z_BEST_COMPRESSION);
  if (rc != Z_OK) throw Error(cat("cannot compress a picture of ", raw.size(), " bytes"));
  out.resize(size);
  return out;
}

}  // namespace

std::string encode_png(uint32_t width, uint32_t height, std::span<const uint8_t> indices,
                       std::span<const Colour> palette) {
  std::string colours, rows;
  for (const Colour& c : palette) colours.append(c.begin(), c.end());
  for (uint32_t y = 0; y < height; ++y) {
    const auto row = indices.subspan(size_t{y} * width, width);
    rows += '\0';  // no filter: neighbouring indices say little about each other
    rows.append(row.begin(), row.end());
  }
  // 8 bits a pixel, of a palette; deflate, adaptive filters, not interlaced.
  const std::string header =
      big_endian(width) + big_endian(height) + std::string("\x08\x03\0\0\0", 5);
  return "\x89PNG\r\n\x1A\n" + chunk("IHDR", header) + chunk("PLTE", colours) +
         chunk("IDAT", compress(rows)) + chunk("IEND", "");
}

std::string png_uri(std::string_view png) {
  std::string text(4 * ((png.size() + 2) / 3) + 1, '\0');  // EVP writes a final NUL
  const int size = ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes(png),
                                     static_cast<int>(png.size()));
  text.resize(static_cast<size_t>(size));
  return "data:image/png;base64," + text;
}

}  // namespace ribo
