#include "report/svg.h"

#include <gmock/gmock.h>

#include "report/png.h"
#include "xml.h"

namespace ribo {
namespace {

using ::testing::HasSubstr;
using testing::xml_error;

TEST(Svg, IsWellFormedWhateverTheWords) {
  Svg svg(100, 50, "a \"label\" & <more>");
  svg.rect(0, 0.125, 10, 20, "frame");
  svg.line(-0.001, 0, 1, 1, "axis");
  svg.path("M0 0h5", "line");
  svg.path("", "line");
  svg.text(1, 2, "5' < 3' & \"x\"", "tick", "middle", -90);
  svg.image(0, 0, 5, 5, encode_png(1, 1, std::vector<uint8_t>{0}, std::vector<Colour>{{1, 2, 3}}),
            true);
  EXPECT_EQ(xml_error(svg.str()), "") << svg.str();
  EXPECT_THAT(svg.str(), HasSubstr("5&#39; &lt; 3&#39; &amp; &quot;x&quot;"));
  EXPECT_THAT(svg.str(), HasSubstr("x1=\"0\""));  // not -0
}

TEST(Svg, TheCheckOfThisTestSeesFaults) {
  for (const char* bad : {"<a>", "<a></b>", "<a x=1/>", "<a x=\"1\" x=\"2\"/>", "a & b", "a < b"}) {
    EXPECT_NE(xml_error(bad), "") << bad;
  }
}

TEST(Markup, CannotBeLeftByWhatStandsInIt) {
  EXPECT_EQ(escape_markup("<script>&\"'"), "&lt;script&gt;&amp;&quot;&#39;");
  EXPECT_EQ(escape_markup("5′ → 3′\tµ"), "5′ → 3′\tµ");
  // What no XML may hold.
  EXPECT_EQ(escape_markup(std::string_view("a\0b\x1B", 4)), "a\uFFFDb\uFFFD");
  EXPECT_EQ(escape_markup("a\xFFz\xC3"), "a\uFFFDz\uFFFD");
}

}  // namespace
}  // namespace ribo
