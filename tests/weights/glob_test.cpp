#include "weights/glob.h"

#include <gtest/gtest.h>

namespace ribo {
namespace {

const std::vector<std::string> kNames = {"blocks.0.embedding.weight", "blocks.1.0.0.conv.bias",
                                         "blocks.1.0.0.conv.weight", "blocks.10.out.weight"};

TEST(Glob, AStarReachesOverDots) {
  EXPECT_TRUE(glob_matches("blocks.1.*", kNames[1]));
  EXPECT_FALSE(glob_matches("blocks.1.*", kNames[3]));
  EXPECT_TRUE(glob_matches("*.weight", kNames[3]));
  EXPECT_FALSE(glob_matches("*.weight", kNames[1]));
  EXPECT_TRUE(glob_matches("blocks.?.[e]*", kNames[0]));
}

TEST(Glob, APatternThatMatchesNothingIsAMistakeWithAHint) {
  Value list = Value::list();
  const auto file = std::make_shared<const std::string>("p.yaml");
  list.items = {Value::scalar("*.bias", {file, 3, 5}), Value::scalar("blokcs.0.*", {file, 4, 5}),
                Value::scalar("head", {file, 5, 5})};
  Diagnostics diagnostics;
  const auto selected = glob_select({"*.bias", "blokcs.0.*", "head"}, kNames, list, "freeze",
                                    diagnostics);
  EXPECT_EQ(selected, (std::vector<bool>{false, true, false, false}));
  EXPECT_EQ(diagnostics.errors(),
            (std::vector<std::string>{
                "p.yaml:4:5: freeze[1]: \"blokcs.0.*\" matches no weight; did you mean "
                "\"blocks.0.*\"?",
                "p.yaml:5:5: freeze[2]: \"head\" matches no weight; a name is, for one, "
                "\"blocks.0.embedding.weight\""}));
}

}  // namespace
}  // namespace ribo
