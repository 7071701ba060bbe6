#include "report/svg.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "config/text.h"
#include "report/png.h"

namespace ribo {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

std::string attribute(std::string_view name, std::string_view value) {
  return cat(' ', name, "=\"", escape_markup(value), '"');
}

std::string attribute(std::string_view name, double value) {
  return cat(' ', name, "=\"", pixels(value), '"');
}

}  // namespace

std::string escape_markup(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t valid = std::min(find_invalid_utf8(text), text.size());
    for (const char c : text.substr(0, valid)) {
      switch (c) {
        case '&':
          out += "&amp;";
          break;
        case '<':
          out += "&lt;";
          break;
        case '>':
          out += "&gt;";
          break;
        case '"':
          out += "&quot;";
          break;
        case '\'':
          out += "&#39;";
          break;
        default:
          if (static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n') {
            out += kReplacement;
          } else {
            out += c;
          }
      }
    }
    if (valid < text.size()) out += kReplacement;
    text.remove_prefix(std::min(valid + 1, text.size()));
  }
  return out;
}

std::string pixels(double value) {
  char text[32];
  const double rounded = std::round(value * 100) / 100;
  std::snprintf(text, sizeof text, "%.10g", rounded == 0 ? 0 : rounded);  // no "-0"
  return text;
}

Svg::Svg(double width, double height, std::string_view label)
    : out_(cat("<svg", attribute("width", width), attribute("height", height), " viewBox=\"0 0 ",
               pixels(width), ' ', pixels(height), "\" role=\"img\"",
               attribute("aria-label", label), ">\n")) {}

void Svg::rect(double x, double y, double width, double height, std::string_view style) {
  out_ += cat("<rect", attribute("class", style), attribute("x", x), attribute("y", y),
              attribute("width", width), attribute("height", height), "/>\n");
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view style) {
  out_ += cat("<line", attribute("class", style), attribute("x1", x1), attribute("y1", y1),
              attribute("x2", x2), attribute("y2", y2), "/>\n");
}

void Svg::path(std::string_view data, std::string_view style) {
  if (data.empty()) return;
  out_ += cat("<path", attribute("class", style), attribute("d", data), "/>\n");
}

void Svg::text(double x, double y, std::string_view words, std::string_view style,
               std::string_view anchor, double degrees) {
  out_ += cat("<text", attribute("class", style), attribute("x", x), attribute("y", y));
  if (anchor != "start") out_ += attribute("text-anchor", anchor);
  if (degrees != 0) {
    out_ += cat(" transform=\"rotate(", pixels(degrees), ' ', pixels(x), ' ', pixels(y), ")\"");
  }
  out_ += cat('>', escape_markup(words), "</text>\n");
}

void Svg::image(double x, double y, double width, double height, std::string_view png, bool sharp) {
  out_ +=
      cat("<image", attribute("x", x), attribute("y", y), attribute("width", width),
          attribute("height", height), " preserveAspectRatio=\"none\"",
          sharp ? " style=\"image-rendering:pixelated\"" : "", " href=\"", png_uri(png), "\"/>\n");
}

}  // namespace ribo
