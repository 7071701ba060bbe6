#include "report/png.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <random>
#include <vector>

namespace ribo {
namespace {

uint32_t big_endian(const std::string& bytes, size_t at) {
  uint32_t v = 0;
  for (size_t i = 0; i < 4; ++i) v = v << 8 | static_cast<uint8_t>(bytes.at(at + i));
  return v;
}

struct Image {
  uint32_t width = 0, height = 0;
  std::vector<Colour> pixels;
};

// Of files with one byte a pixel, a palette and rows without filters; checks every sum.
Image decode(const std::string& png) {
  EXPECT_EQ(png.substr(0, 8), "\x89PNG\r\n\x1A\n");
  Image out;
  std::string palette, packed;
  for (size_t at = 8; at < png.size();) {
    const size_t size = big_endian(png, at);
    const std::string body = png.substr(at + 4, size + 4), type = body.substr(0, 4);
    EXPECT_EQ(
        big_endian(png, at + 8 + size),
        ::crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size())));
    if (type == "IHDR") {
      out.width = big_endian(body, 4);
      out.height = big_endian(body, 8);
      EXPECT_EQ(body.substr(12), std::string("\x08\x03\0\0\0", 5));
    } else if (type == "PLTE") {
      palette = body.substr(4);
    } else if (type == "IDAT") {
      packed = body.substr(4);
    }
    at += 12 + size;
  }
  uLongf size = uLongf{out.width + 1} * out.height;
  std::string rows(size, '\0');
  EXPECT_EQ(::uncompress(reinterpret_cast<Bytef*>(rows.data()), &size,
                         reinterpret_cast<const Bytef*>(packed.data()), packed.size()),
            Z_OK);
  EXPECT_EQ(size, rows.size());
  for (size_t y = 0; y < out.height; ++y) {
    EXPECT_EQ(rows[y * (out.width + 1)], 0);
    for (size_t x = 0; x < out.width; ++x) {
      const size_t index = static_cast<uint8_t>(rows[y * (out.width + 1) + 1 + x]);
      Colour& pixel = out.pixels.emplace_back();
      for (size_t c = 0; c < 3; ++c) pixel[c] = static_cast<uint8_t>(palette.at(3 * index + c));
    }
  }
  return out;
}

TEST(Png, HoldsEveryPixel) {
  std::mt19937 random(1);
  const std::pair<uint32_t, uint32_t> sizes[] = {{1, 1}, {1, 256}, {177, 177}, {30, 7}};
  for (const auto& [width, height] : sizes) {
    for (const size_t colours : {size_t{1}, size_t{7}, size_t{256}}) {
      std::vector<Colour> palette(colours);
      for (Colour& colour : palette) {
        for (uint8_t& part : colour) part = static_cast<uint8_t>(random());
      }
      std::vector<uint8_t> indices(size_t{width} * height);
      for (uint8_t& index : indices) index = static_cast<uint8_t>(random() % colours);
      const Image image = decode(encode_png(width, height, indices, palette));
      ASSERT_EQ(image.width, width);
      ASSERT_EQ(image.height, height);
      for (size_t i = 0; i < indices.size(); ++i) ASSERT_EQ(image.pixels[i], palette[indices[i]]);
    }
  }
}

TEST(Png, AsAUri) {
  EXPECT_EQ(png_uri(""), "data:image/png;base64,");
  EXPECT_EQ(png_uri("f"), "data:image/png;base64,Zg==");
  EXPECT_EQ(png_uri("foobar"), "data:image/png;base64,Zm9vYmFy");
}

}  // namespace
}  // namespace ribo
