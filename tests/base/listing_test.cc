#include "runtime/base/listing.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace autospc {
namespace {

TEST(Listing, HasALineAnItem) {
  EXPECT_EQ(Listing({}), "");
  EXPECT_EQ(Listing({"a", "b"}), "\n    a\n    b");
}

TEST(Listing, CountsWhatItLeavesOut) {
  const std::string text = Listing(std::vector<std::string>(23, "x"));
  EXPECT_EQ(std::count(text.begin(), text.end(), 'x'), 20);
  EXPECT_TRUE(text.ends_with("\n    and 3 more"));
}

}  // namespace
}  // namespace autospc
