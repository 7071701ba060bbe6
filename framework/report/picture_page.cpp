#include "report/picture_page.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "report/svg.h"

namespace ribo {
namespace {

// Colours as variables, so that a dark page is the same page. The maps' images are inverted there
// and their hues turned back: what was near white is near black, and the order stays.
constexpr const char* kStyle = R"(
:root { color-scheme: light dark;
  --paper: #ffffff; --ink: #1c2127; --quiet: #59626d; --grid: #e4e7eb; --missing: #f2f4f6;
  --measured: #b4bec9; --error: #66707c; --predicted: #0a5ca8; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171b; --ink: #e6e9ec; --quiet: #9aa4af; --grid: #2b3138; --missing: #1d2126;
  --measured: #55606c; --error: #a3adb8; --predicted: #6cb6f5; }
  image { filter: invert(1) hue-rotate(180deg); } }
body { margin: 0 auto; padding: 28px 24px 48px; max-width: 1180px; background: var(--paper);
  color: var(--ink); font: 14px/1.5 system-ui, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 22px; margin: 0 0 4px; }
h2 { font-size: 17px; margin: 0; overflow-wrap: anywhere; }
h2 small { font-weight: normal; font-size: 14px; color: var(--quiet); margin-left: 8px; }
p { margin: 2px 0; }
.quiet, figcaption, nav { color: var(--quiet); font-size: 13px; }
nav a { color: var(--predicted); margin-right: 14px; }
section { border-top: 1px solid var(--grid); margin-top: 26px; padding-top: 18px; }
.wide { overflow-x: auto; margin-top: 10px; }
.key { display: inline-block; width: 18px; height: 10px; margin: 0 5px 0 16px; }
.key:first-child { margin-left: 0; }
.maps { display: flex; flex-wrap: wrap; gap: 22px 28px; margin-top: 18px; }
figure { margin: 0; max-width: 100%; }
figcaption { max-width: 540px; }
svg { display: block; max-width: none; }
figure svg { max-width: 100%; height: auto; }
text { fill: var(--ink); font: 11px system-ui, "Helvetica Neue", Arial, sans-serif; }
.tick { fill: var(--quiet); font-variant-numeric: tabular-nums; }
.base { font: 10px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
.name { font-size: 12px; font-weight: 600; }
.label { font-size: 12px; }
.grid { stroke: var(--grid); }
.axis { stroke: var(--quiet); }
.frame { fill: none; stroke: var(--quiet); }
.missing { fill: var(--missing); }
.measured { fill: var(--measured); }
.error { stroke: var(--error); fill: none; }
.predicted { stroke: var(--predicted); stroke-width: 1.6; stroke-linejoin: round; fill: none; }
.dots { stroke-width: 3.6; stroke-linecap: round; }
)";

std::string fixed(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string three_digits(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

std::string paragraph(std::string_view words, std::string_view style = "") {
  return cat(style.empty() ? "<p>" : cat("<p class=\"", style, "\">"), escape_markup(words),
             "</p>\n");
}

std::string figure(const std::string& svg, std::string_view caption) {
  return cat("<figure>\n", svg, "<figcaption>", escape_markup(caption),
             "</figcaption>\n</figure>\n");
}

std::string pooling_note(size_t factor) {
  if (factor == 1) return "";
  return cat(" Each pixel shows the largest of ", factor, " × ", factor, " pairs.");
}

std::string error_in_words(const Picture& picture) {
  std::vector<std::pair<std::string, ProfileError>> errors;
  for (const ProfilePanel& panel : picture.profile) {
    const ProfileError error = profile_error(panel);
    if (error.positions > 0) errors.emplace_back(panel.target, error);
  }
  if (errors.empty()) return "Nothing was measured of this sequence.";
  const size_t positions = errors[0].second.positions;
  const bool alike = std::all_of(errors.begin(), errors.end(), [&](const auto& one) {
    return one.second.positions == positions;
  });
  const auto over = [](size_t n) {
    return cat(" over ", n, " measured position", n == 1 ? "" : "s");
  };
  std::string out = cat("Mean absolute error", alike ? over(positions) : "", ": ");
  for (size_t i = 0; i < errors.size(); ++i) {
    const auto& [target, error] = errors[i];
    out += cat(i > 0 ? ", " : "", target, " ", fixed(error.mae, 3),
               alike ? "" : over(error.positions));
  }
  return out + ".";
}

std::string profile_key(const std::vector<ProfilePanel>& panels) {
  const bool measured = std::any_of(panels.begin(), panels.end(),
                                    [](const ProfilePanel& p) { return !p.measured.empty(); });
  const bool errors = std::any_of(panels.begin(), panels.end(), [](const ProfilePanel& p) {
    return std::any_of(p.error.begin(), p.error.end(), [](float e) { return std::isfinite(e); });
  });
  const auto entry = [](const char* shape, const char* words) {
    return cat("<svg class=\"key\" viewBox=\"0 0 18 10\" aria-hidden=\"true\">", shape, "</svg>",
               words);
  };
  std::string out = "<p class=\"quiet\">";
  out += entry(
      "<path class=\"predicted\" d=\"M0 5H18\"/>"
      "<path class=\"predicted dots\" d=\"M9 5h0\"/>",
      "predicted");
  if (measured) {
    out += entry("<path class=\"measured\" d=\"M5 0h8V10h-8z\"/>", "measured");
    if (errors) out += entry("<path class=\"error\" d=\"M9 0V10\"/>", "± error");
    out += entry("<path class=\"missing\" d=\"M0 0h18V10h-18z\"/>", "not measured");
  }
  return out + "</p>\n";
}

std::string profile_part(const Picture& picture) {
  return cat(profile_key(picture.profile), "<div class=\"wide\">\n",
             profile_svg(picture.letters, picture.profile,
                         cat("Profile of ", picture.id, ". ", error_in_words(picture))),
             "</div>\n");
}

// The smallest and largest value off the diagonal; the other way round where there is none.
std::pair<double, double> range_of(const SquareMap& map) {
  double low = INFINITY, high = -INFINITY;
  for (size_t i = 0; i < map.size; ++i) {
    for (size_t j = 0; j < map.size; ++j) {
      if (i == j || !std::isfinite(map.at(i, j))) continue;
      low = std::min<double>(low, map.at(i, j));
      high = std::max<double>(high, map.at(i, j));
    }
  }
  return {low, high};
}

std::string pairing_part(const SquareMap& map) {
  const ColourScale scale{0, 1, ColourScale::Kind::root, "probability"};
  return figure(
      heat_map_svg(map, scale, {"residue i", "residue j"}, "Base pairing"),
      cat("The probability that residues i and j pair, the stream bpp; the colours follow "
          "its square root.",
          pooling_note(heat_map_pooling(map.size))));
}

std::string strength_part(const SquareMap& map, int64_t width) {
  SquareMap shown = map;
  const auto [low, high] = range_of(map);
  const double zero = low <= high ? low : 0, span = low < high ? high - low : 1;
  for (float& v : shown.values) v = static_cast<float>((v - zero) / span);
  const std::string ends =
      low < high    ? cat("0 and 1 are the smallest (", three_digits(low), ") and the largest (",
                          three_digits(high), ") off the diagonal.")
      : low == high ? cat("off the diagonal all are alike (", three_digits(low), ").")
                    : "there is none off the diagonal.";
  const ColourScale scale{0, 1, ColourScale::Kind::linear, "strength"};
  return figure(heat_map_svg(shown, scale, {"residue i", "residue j"}, "Pair track"),
                cat("The Euclidean norm over the ", width,
                    " channels of pair[i, j] behind the last block; ", ends,
                    pooling_note(heat_map_pooling(map.size))));
}

SquareMap mean_of(const std::vector<SquareMap>& maps) {
  SquareMap out = maps[0];
  for (size_t m = 1; m < maps.size(); ++m) {
    for (size_t k = 0; k < out.values.size(); ++k) out.values[k] += maps[m].values[k];
  }
  for (float& v : out.values) v /= static_cast<float>(maps.size());
  return out;
}

std::string attention_part(const Picture& picture) {
  // In multiples of what each residue gets where all get alike.
  std::vector<SquareMap> shown = picture.attention;
  const size_t heads = shown.size(), length = picture.letters.size();
  float largest = 2;
  for (SquareMap& map : shown) {
    for (float& v : map.values) largest = std::max(largest, v *= static_cast<float>(length));
  }
  const ColourScale scale{1, largest, ColourScale::Kind::logarithmic, cat("× 1/", length)};
  const MapAxes axes{"residue i, which attends", "residue j, attended to"};
  const std::string what = cat("Attention of layer ", picture.layer, " of ", picture.layers);
  return figure(heat_map_svg(mean_of(shown), scale, axes, cat(what, ", mean of ", heads, " heads")),
                cat("How much residue i attends to residue j, in multiples of 1/", length,
                    ", which every one would get in even attention; less is blank. The weights of "
                    "a row "
                    "sum to 1.",
                    pooling_note(heat_map_pooling(length)))) +
         figure(heat_map_grid_svg(shown, scale, "head", cat(what, ", each head")),
                cat("Each head of this layer, on the same axes and scale.",
                    pooling_note(heat_map_grid_pooling(length, heads))));
}

std::string maps_part(const Picture& picture) {
  std::string pairs;
  if (picture.pairing) pairs += pairing_part(*picture.pairing);
  if (picture.pair_strength) pairs += strength_part(*picture.pair_strength, picture.pair_width);
  std::string out;
  for (const std::string& row : {pairs, picture.attention.empty() ? "" : attention_part(picture)}) {
    if (!row.empty()) out += cat("<div class=\"maps\">\n", row, "</div>\n");
  }
  return out;
}

// What the model has nothing of.
std::string absent_part(const Picture& picture) {
  std::string out;
  if (!picture.pairing) out += "This model has no pairing probabilities (stream bpp). ";
  if (!picture.pair_strength) out += "This model has no pair track (stream pair). ";
  if (picture.attention.empty()) out += "This model has no block that shows its attention. ";
  return out.empty() ? "" : paragraph(out, "quiet");
}

}  // namespace

PicturePage::PicturePage(std::string title, std::vector<std::string> facts)
    : title_(std::move(title)), facts_(std::move(facts)) {}

void PicturePage::add(const Picture& picture) {
  ids_.push_back(picture.id);
  absent_ = absent_part(picture);
  sections_ +=
      cat("<section id=\"s", ids_.size(), "\">\n<h2>", escape_markup(picture.id), "<small>",
          picture.letters.size(), " nt</small></h2>\n", paragraph(error_in_words(picture)),
          profile_part(picture), maps_part(picture), "</section>\n");
}

std::string PicturePage::html() const {
  std::string out =
      cat("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
          "<meta name=\"viewport\" content=\"width=device-width\"/>\n<title>",
          escape_markup(title_), "</title>\n<style>", kStyle, "</style>\n</head>\n<body>\n<h1>",
          escape_markup(title_), "</h1>\n");
  for (const std::string& fact : facts_) out += paragraph(fact, "quiet");
  out += absent_ + "<nav>";
  for (size_t i = 0; ids_.size() > 1 && i < ids_.size(); ++i) {
    out += cat("<a href=\"#s", i + 1, "\">", escape_markup(ids_[i]), "</a> ");
  }
  return out + "</nav>\n" + sections_ + "</body>\n</html>\n";
}

}  // namespace ribo
