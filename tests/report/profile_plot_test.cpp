#include "report/profile_plot.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <regex>

#include "xml.h"

namespace ribo {
namespace {

using testing::count_of;
using testing::xml_error;

// The attribute d of the paths of a class, one after the other.
std::string paths(const std::string& svg, const std::string& style) {
  std::string out;
  const std::regex path("<path class=\"" + style + "\" d=\"([^\"]*)\"");
  for (std::sregex_iterator it(svg.begin(), svg.end(), path), end; it != end; ++it) out += (*it)[1];
  return out;
}

size_t moves(const std::string& d) {
  return static_cast<size_t>(std::count(d.begin(), d.end(), 'M'));
}

TEST(ProfileError, CountsWhatBothHave) {
  EXPECT_EQ(profile_error({"2A3", {1, 2, NAN, 4}, {1.5, NAN, 3, 2}}).mae, 1.25);
  EXPECT_EQ(profile_error({"2A3", {1, 2, NAN, 4}, {1.5, NAN, 3, 2}}).positions, 2u);
  EXPECT_EQ(profile_error({"2A3", {1, 2}}).positions, 0u);
  EXPECT_EQ(profile_error({"2A3", {1, 2}, {NAN, NAN}}).mae, 0);
}

TEST(Profile, HasGapsWhereThereIsNoValue) {
  ProfilePanel panel{"2A3", std::vector<float>(30, 0.5F), std::vector<float>(30, 0.4F)};
  panel.predicted[10] = NAN;
  for (const size_t i : {0, 1, 2, 15, 28, 29}) panel.measured[i] = NAN;
  panel.error.assign(30, 0.1F);
  panel.error[20] = NAN;
  const std::string svg = profile_svg(std::string(30, 'A'), {panel}, "");
  EXPECT_EQ(xml_error(svg), "");
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(moves(paths(svg, "predicted")), 2u);  // the line is broken once
  EXPECT_EQ(moves(paths(svg, "predicted dots")), 29u);
  EXPECT_EQ(moves(paths(svg, "measured")), 24u);
  EXPECT_EQ(moves(paths(svg, "error")), 23u);
  EXPECT_EQ(count_of(svg, "class=\"missing\""), 3u);  // as one strip each
}

TEST(Profile, WithoutMeasurementsShowsNoneMissing) {
  const std::string svg = profile_svg("ACGU", {{"DMS", {0.1F, 0.2F, 0.3F, 0.4F}}}, "");
  EXPECT_EQ(count_of(svg, "class=\"missing\""), 0u);
  EXPECT_EQ(paths(svg, "measured"), "");
  EXPECT_EQ(moves(paths(svg, "predicted dots")), 4u);
}

TEST(Profile, ShowsEveryBaseOnceWhateverTheLength) {
  for (const size_t length : {1, 9, 119, 120, 121, 177, 1000}) {
    std::string letters;
    for (size_t i = 0; i < length; ++i) letters += "ACGUN"[i % 5];
    const ProfilePanel panel{"2A3", std::vector<float>(length, 1), std::vector<float>(length, 1)};
    const std::string svg = profile_svg(letters, {panel, panel}, "");
    EXPECT_EQ(xml_error(svg), "") << length;
    EXPECT_EQ(count_of(svg, "class=\"base\""), length);
    EXPECT_EQ(moves(paths(svg, "predicted dots")), 2 * length);
    EXPECT_EQ(moves(paths(svg, "measured")), 2 * length);
    // No wider than a page.
    std::smatch width;
    ASSERT_TRUE(std::regex_search(svg, width, std::regex("<svg width=\"([0-9.]+)\"")));
    EXPECT_LE(std::stod(width[1]), 1180) << length;
  }
}

TEST(Profile, AnOutlierIsCutAndMarked) {
  ProfilePanel panel{"2A3", std::vector<float>(200, 0.5F), std::vector<float>(200, 0.6F)};
  const size_t before = moves(paths(profile_svg(std::string(200, 'A'), {panel}, ""), "measured"));
  panel.measured[7] = 1000;
  const std::string svg = profile_svg(std::string(200, 'A'), {panel}, "");
  EXPECT_EQ(moves(paths(svg, "measured")), before + 1);  // the mark above its bar
  EXPECT_EQ(svg.find(">1000<"), std::string::npos);      // the axis is that of the others
}

TEST(Profile, OfNothingIsEmpty) {
  const std::string svg = profile_svg("", {{"2A3", {}}}, "x");
  EXPECT_EQ(xml_error(svg), "");
  EXPECT_EQ(count_of(svg, "<path"), 0u);
}

}  // namespace
}  // namespace ribo
