// Drawings as SVG inside a page, whose style sheet gives the classes their looks.
#pragma once

#include <string>
#include <string_view>

#include "ribo/error.h"

namespace ribo {

/// `text` as it may stand in HTML and XML, between tags and in quoted attributes: & < > " ' become
/// entities; what XML cannot hold (control characters, broken UTF-8) becomes U+FFFD.
std::string escape_markup(std::string_view text);

/// A coordinate or length in pixels, with two decimals at most.
std::string pixels(double value);

/// One drawing, in pixels from its upper left corner. Later shapes lie over earlier ones.
class Svg {
 public:
  /// `label` says in words what is to be seen, for who cannot see it.
  Svg(double width, double height, std::string_view label);

  void rect(double x, double y, double width, double height, std::string_view style);
  void line(double x1, double y1, double x2, double y2, std::string_view style);
  /// `data` as in SVG's attribute d.
  void path(std::string_view data, std::string_view style);
  /// `anchor`: which part of the text lies at x: start, middle or end. Turned by `degrees`.
  void text(double x, double y, std::string_view words, std::string_view style,
            std::string_view anchor = "start", double degrees = 0);
  /// A PNG file stretched over the rectangle; `sharp`: its pixels keep their edges.
  void image(double x, double y, double width, double height, std::string_view png, bool sharp);

  /// The element <svg>, well-formed XML.
  std::string str() const { return out_ + "</svg>\n"; }

 private:
  std::string out_;
};

}  // namespace ribo
