#include "threads/for_each_index.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

namespace ribo {
namespace {

TEST(ForEachIndex, VisitsEachOnce) {
  for (const std::size_t count : {0, 1, 2, 1000}) {
    std::vector<int> visits(count);
    for_each_index(count, [&](std::size_t i) { ++visits[i]; });
    EXPECT_EQ(visits, std::vector<int>(count, 1));
  }
}

TEST(ForEachIndex, AFailureIsThrownToTheCaller) {
  const auto task = [](std::size_t i) {
    if (i == 3) throw std::runtime_error("three");
  };
  EXPECT_THROW(for_each_index(100, task), std::runtime_error);
}

}  // namespace
}  // namespace ribo
