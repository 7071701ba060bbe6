#include "common/parse_number.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

namespace ribo {
namespace {

TEST(ParseNumber, AgreesWithTheCLibrary) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> exponent(-12, 12);
  for (int i = 0; i < 20000; ++i) {
    const double wanted = std::pow(10, exponent(random)) * (random() % 2 ? 1 : -1);
    for (const char* format : {"%.3f", "%.0f", "%.9f", "%.17g", "%e", "%.15g"}) {
      char text[64];
      std::snprintf(text, sizeof(text), format, wanted);
      double value = 0;
      ASSERT_TRUE(parse_number(text, value)) << text;
      ASSERT_EQ(value, std::strtod(text, nullptr)) << text;
    }
  }
}

TEST(ParseNumber, ReadsMissingValuesAsNaN) {
  for (const char* text : {"", " ", "NaN", "nan", "NA", "null", "NULL"}) {
    double value = 0;
    EXPECT_TRUE(parse_number(text, value)) << text;
    EXPECT_TRUE(std::isnan(value)) << text;
  }
}

TEST(ParseNumber, TakesWhatPeopleWriteAndNothingElse) {
  double value = 0;
  for (const char* text : {"5.", "+5", " 5", "5 ", "5e0", "0.5e1", "00005"}) {
    EXPECT_TRUE(parse_number(text, value)) << text;
    EXPECT_EQ(value, 5) << text;
  }
  for (const char* text : {".", "-", "+", "+-5", "--5", "5x", "x", "1,5", "1 5", "inf", "-inf",
                           "1e", "1e999", "0x5", "1.2.3", "5-"}) {
    EXPECT_FALSE(parse_number(text, value)) << text;
  }
}

}  // namespace
}  // namespace ribo
