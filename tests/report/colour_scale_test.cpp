#include "report/colour_scale.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>

namespace ribo {
namespace {

// Relative luminance (WCAG 2).
double luminance(const Colour& c) {
  const auto linear = [](uint8_t v) {
    const double x = v / 255.0;
    return x <= 0.04045 ? x / 12.92 : std::pow((x + 0.055) / 1.055, 2.4);
  };
  return 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
}

TEST(Colours, GetDarkerWithEveryStepSoThatTheirOrderNeedsNoHue) {
  const auto colours = sequential_colours();
  ASSERT_EQ(colours.size(), 256u);
  for (size_t i = 8; i < colours.size(); ++i) {
    EXPECT_LT(luminance(colours[i]), luminance(colours[i - 8])) << i;
  }
  EXPECT_GT(luminance(colours.front()), 0.85);
  EXPECT_LT(luminance(colours.back()), 0.05);
}

TEST(Ticks, AreEvenWithinTheRangeAndTellApart) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> exponent(-4, 5), share(-2, 1);
  for (int draw = 0; draw < 1000; ++draw) {
    const double span = std::pow(10, exponent(random)), low = span * share(random);
    const auto ticks = nice_ticks(low, low + span, 4);
    ASSERT_GE(ticks.size(), 2u) << low << " + " << span;
    ASSERT_LE(ticks.size(), 7u) << low << " + " << span;
    EXPECT_GE(ticks.front(), low - 1e-6 * span);
    EXPECT_LE(ticks.back(), low + span * (1 + 1e-6));
    std::set<std::string> labels;
    for (const double tick : ticks) labels.insert(tick_label(tick));
    EXPECT_EQ(labels.size(), ticks.size()) << low << " + " << span;
  }
}

TEST(ColourScale, GrowsFrom0To1AndItsTicksLieOnIt) {
  using Kind = ColourScale::Kind;
  for (const Kind kind : {Kind::linear, Kind::root, Kind::logarithmic}) {
    const ColourScale scale{0.01, 0.9, kind, ""};
    EXPECT_EQ(scale.position(-1), 0);
    EXPECT_EQ(scale.position(0.01), 0);
    EXPECT_EQ(scale.position(0.9), 1);
    EXPECT_EQ(scale.position(7), 1);
    double before = -1;
    for (double v = 0.01; v < 0.9; v += 0.01) {
      EXPECT_GT(scale.position(v), before);
      before = scale.position(v);
    }
    EXPECT_GE(scale.ticks().size(), 3u);
    for (const double tick : scale.ticks()) {
      EXPECT_GE(tick, 0.01);
      EXPECT_LE(tick, 0.9 + 1e-9);
    }
  }
}

}  // namespace
}  // namespace ribo
