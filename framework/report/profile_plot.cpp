#include "report/profile_plot.h"

#include <algorithm>
#include <cmath>

#include "report/colour_scale.h"
#include "report/svg.h"

namespace ribo {
namespace {

// Pixels.
constexpr double kWidth = 1180, kLeft = 58, kRight = 10, kTop = 8;
constexpr double kPanel = 88, kBetween = 10, kLetters = 34, kBetweenRows = 14;
constexpr double kWidestBase = 16;
constexpr size_t kMostInRow = 120, kTickEvery = 10;

// The share `q` of the finite values lies below.
double quantile(const std::vector<float>& values, double q) {
  std::vector<float> finite;
  std::copy_if(values.begin(), values.end(), std::back_inserter(finite),
               [](float v) { return std::isfinite(v); });
  if (finite.empty()) return 0;
  const auto at =
      finite.begin() + static_cast<std::ptrdiff_t>(q * static_cast<double>(finite.size() - 1));
  std::nth_element(finite.begin(), at, finite.end());
  return *at;
}

// Values of a panel to heights in it.
class Axis {
 public:
  explicit Axis(const ProfilePanel& panel) {
    // A few extreme measurements must not flatten everything else: they are cut, and marked.
    low_ = std::min({0.0, quantile(panel.predicted, 0), quantile(panel.measured, 0.01)});
    high_ = std::max({0.0, quantile(panel.predicted, 1), quantile(panel.measured, 0.99)});
    if (high_ - low_ < 1e-6) high_ = low_ + 1;
    high_ += 0.06 * (high_ - low_);
  }
  std::vector<double> ticks() const { return nice_ticks(low_, high_, 3); }
  double low() const { return low_; }
  bool above(double v) const { return v > high_; }
  /// Below the panel's upper edge.
  double y(double v) const {
    return kPanel * (high_ - std::clamp(v, low_, high_)) / (high_ - low_);
  }

 private:
  double low_, high_;
};

// What fits along a panel's height.
std::string shortened(const std::string& name) {
  constexpr size_t kFits = 12;
  return name.size() <= kFits ? name : name.substr(0, kFits - 1) + "…";
}

bool has(const std::vector<float>& values, size_t i) {
  return i < values.size() && std::isfinite(values[i]);
}

// The residues [first, last) of one panel, drawn with its upper edge at `top`.
class Row {
 public:
  Row(Svg& svg, const ProfilePanel& panel, size_t first, size_t last, double top, double base)
      : svg_(svg),
        panel_(panel),
        axis_(panel),
        first_(first),
        last_(last),
        top_(top),
        base_(base) {}

  void draw() {
    const double right = kLeft + base_ * static_cast<double>(last_ - first_);
    draw_missing();
    for (const double tick : axis_.ticks()) {
      svg_.line(kLeft, y(tick), right, y(tick), tick == 0 ? "axis" : "grid");
      svg_.text(kLeft - 6, y(tick) + 3.5, tick_label(tick), "tick", "end");
    }
    svg_.text(16, top_ + kPanel / 2, shortened(panel_.target), "name", "middle", -90);
    draw_measured();
    draw_predicted();
  }

 private:
  double middle(size_t i) const { return kLeft + base_ * (static_cast<double>(i - first_) + 0.5); }
  double y(double v) const { return top_ + axis_.y(v); }

  void draw_missing() {
    if (panel_.measured.empty()) return;
    for (size_t i = first_; i < last_; ++i) {
      const size_t begin = i;
      while (i < last_ && !has(panel_.measured, i)) ++i;
      if (i == begin) continue;
      svg_.rect(middle(begin) - base_ / 2, top_, base_ * static_cast<double>(i - begin), kPanel,
                "missing");
    }
  }

  void draw_measured() {
    std::string bars, errors, cut;
    const double half = 0.36 * base_;
    for (size_t i = first_; i < last_; ++i) {
      if (!has(panel_.measured, i)) continue;
      const double v = panel_.measured[i], x = middle(i);
      bars += cat('M', pixels(x - half), ' ', pixels(y(0)), 'V', pixels(y(v)), 'h',
                  pixels(2 * half), 'V', pixels(y(0)), 'z');
      if (axis_.above(v)) {
        cut += cat('M', pixels(x - half), ' ', pixels(top_ - 1), 'h', pixels(2 * half), 'l',
                   pixels(-half), " -5z");
      }
      if (has(panel_.error, i)) {
        const double e = panel_.error[i];
        errors += cat('M', pixels(x), ' ', pixels(y(v - e)), 'V', pixels(y(v + e)));
      }
    }
    svg_.path(bars, "measured");
    svg_.path(cut, "measured");
    svg_.path(errors, "error");
  }

  void draw_predicted() {
    std::string line, dots;
    bool drawing = false;
    for (size_t i = first_; i < last_; ++i) {
      if (!has(panel_.predicted, i)) {
        drawing = false;
        continue;
      }
      const std::string at = cat(pixels(middle(i)), ' ', pixels(y(panel_.predicted[i])));
      line += (drawing ? 'L' : 'M') + at;
      dots += cat('M', at, "h0");  // with round caps: a dot
      drawing = true;
    }
    svg_.path(line, "predicted");
    svg_.path(dots, "predicted dots");
  }

  Svg& svg_;
  const ProfilePanel& panel_;
  const Axis axis_;
  const size_t first_, last_;
  const double top_, base_;
};

void draw_letters(Svg& svg, std::string_view letters, size_t first, size_t last, double top,
                  double base) {
  for (size_t i = first; i < last; ++i) {
    const double x = kLeft + base * (static_cast<double>(i - first) + 0.5);
    svg.text(x, top + 12, letters.substr(i, 1), "base", "middle");
    if ((i + 1) % kTickEvery == 0 || i == first) {
      svg.text(x, top + 25, std::to_string(i + 1), "tick", "middle");
    }
  }
}

}  // namespace

ProfileError profile_error(const ProfilePanel& panel) {
  ProfileError out;
  for (size_t i = 0; i < panel.predicted.size(); ++i) {
    if (!has(panel.predicted, i) || !has(panel.measured, i)) continue;
    out.mae += std::abs(double{panel.predicted[i]} - panel.measured[i]);
    ++out.positions;
  }
  if (out.positions > 0) out.mae /= static_cast<double>(out.positions);
  return out;
}

std::string profile_svg(std::string_view letters, const std::vector<ProfilePanel>& panels,
                        std::string_view label) {
  const size_t length = letters.size();
  const size_t rows = std::max<size_t>(1, (length + kMostInRow - 1) / kMostInRow);
  // Rows of equal length, in tens, so that ticks stand below each other.
  const size_t in_row = ((length + rows - 1) / rows + kTickEvery - 1) / kTickEvery * kTickEvery;
  const double base =
      std::min(kWidestBase, (kWidth - kLeft - kRight) / static_cast<double>(in_row));
  const double row_height =
      static_cast<double>(panels.size()) * (kPanel + kBetween) + kLetters + kBetweenRows;
  Svg svg(kLeft + base * static_cast<double>(in_row) + kRight,
          kTop + row_height * static_cast<double>(rows) - kBetweenRows, label);
  double top = kTop;
  for (size_t first = 0; first < length; first += in_row, top += row_height) {
    const size_t last = std::min(length, first + in_row);
    double panel_top = top;
    for (const ProfilePanel& panel : panels) {
      Row(svg, panel, first, last, panel_top, base).draw();
      panel_top += kPanel + kBetween;
    }
    draw_letters(svg, letters, first, last, panel_top - kBetween, base);
  }
  return svg.str();
}

}  // namespace ribo
