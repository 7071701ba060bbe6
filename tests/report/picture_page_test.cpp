#include "report/picture_page.h"

#include <gmock/gmock.h>

#include <cmath>
#include <random>

#include "xml.h"

namespace ribo {
namespace {

using testing::count_of;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::xml_error;

SquareMap random_map(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(0.01F, 1);
  SquareMap out{size};
  for (size_t i = 0; i < size * size; ++i) out.values.push_back(uniform(random));
  return out;
}

Picture full(const std::string& id, size_t length = 40) {
  Picture out;
  out.id = id;
  out.letters = std::string(length, 'G');
  out.profile = {{"2A3", std::vector<float>(length, 0.5F), std::vector<float>(length, 0.25F)}};
  out.pairing = random_map(length, 1);
  out.pair_strength = random_map(length, 2);
  for (unsigned h = 0; h < 5; ++h) out.attention.push_back(random_map(length, 3 + h));
  out.pair_width = 16;
  out.layer = 2;
  out.layers = 3;
  return out;
}

std::string html_of(const std::vector<Picture>& pictures, const std::string& title = "tiny",
                    const std::string& fact = "Model: tiny.") {
  PicturePage page(title, {fact});
  for (const Picture& picture : pictures) page.add(picture);
  EXPECT_EQ(page.size(), pictures.size());
  return page.html();
}

TEST(PicturePage, HasEveryPartOfEverySequence) {
  const std::string html = html_of({full("first"), full("second")});
  EXPECT_EQ(xml_error(html), "");
  for (const char* words :
       {"<h2>first<small>40 nt</small></h2>", "<h2>second<small>", "Model: tiny.",
        "Mean absolute error over 40 measured positions: 2A3 0.250.",
        "Attention of layer 2 of 3, mean of 5 heads", "over the 16 channels"}) {
    EXPECT_THAT(html, HasSubstr(words));
  }
  // Three maps with their bars of colours, and a map for each head.
  EXPECT_EQ(count_of(html, "<image"), 2 * (3 * 2 + 5));
  EXPECT_EQ(count_of(html, ">head 5<"), 2u);
  EXPECT_THAT(html, Not(HasSubstr("This model has no")));
}

TEST(PicturePage, NeedsNothingElse) {
  const std::string html = html_of({full("a")});
  for (const char* outside : {"://", "<script", "<link", "<iframe", "@import", "url(", "src="}) {
    EXPECT_THAT(html, Not(HasSubstr(outside)));
  }
}

TEST(PicturePage, IsNotLeftByWhatStandsInIt) {
  const std::string bad = "</h1><b x='\"&";
  Picture picture = full("<script>alert(1)</script>\"'&");
  picture.profile[0].target = bad;
  const std::string html = html_of({picture}, bad, bad);
  EXPECT_EQ(xml_error(html), "");
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("<b x")));
}

TEST(PicturePage, SaysWhatAModelHasNot) {
  Picture bare = full("a");
  bare.pairing.reset();
  bare.pair_strength.reset();
  bare.attention.clear();
  bare.profile[0].measured.clear();
  const std::string html = html_of({bare});
  EXPECT_EQ(xml_error(html), "");
  EXPECT_EQ(count_of(html, "<image"), 0u);
  for (const char* words : {"no pairing probabilities", "no pair track", "shows its attention",
                            "Nothing was measured of this sequence."}) {
    EXPECT_THAT(html, HasSubstr(words));
  }
}

TEST(PicturePage, OfOddMapsIsSound) {
  Picture odd = full("a", 1);
  EXPECT_EQ(xml_error(html_of({odd})), "");
  odd = full("a", 5);
  odd.pairing->values.assign(25, 0);
  odd.pair_strength->values.assign(25, NAN);
  for (SquareMap& map : odd.attention) map.values.assign(25, 0.2F);
  const std::string html = html_of({odd});
  EXPECT_EQ(xml_error(html), "");
  EXPECT_THAT(html, Not(HasSubstr("nan")));
}

TEST(HeatMap, OfALongSequenceStaysSmallAndKeepsItsPeaks) {
  SquareMap map{2001, std::vector<float>(2001 * 2001, 0.1F)};
  map.values[3 * 2001 + 1999] = 0.9F;
  const SquareMap small = pooled(map, 3);
  EXPECT_EQ(small.size, 667u);
  EXPECT_EQ(small.at(1, 666), 0.9F);
  EXPECT_EQ(small.at(0, 666), 0.1F);
  EXPECT_LE(2001 / heat_map_pooling(2001), 900u);
  EXPECT_EQ(heat_map_pooling(400), 1u);
}

TEST(PicturePage, APairTrackWithoutAContrastIsCalledSo) {
  Picture even = full("even", 12);
  even.pair_strength->values.assign(12 * 12, 0.5F);
  EXPECT_THAT(html_of({even}), HasSubstr("off the diagonal all are alike (0.5)."));
  const std::string single = html_of({full("single", 1)});
  EXPECT_THAT(single, HasSubstr("there is none off the diagonal."));
  for (const std::string& html : {html_of({even}), single}) {
    EXPECT_EQ(xml_error(html), "");
    EXPECT_THAT(html, Not(HasSubstr("nan")));
    EXPECT_THAT(html, Not(HasSubstr("and the largest (")));
  }
}

}  // namespace
}  // namespace ribo
