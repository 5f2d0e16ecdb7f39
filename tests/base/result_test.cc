#include "runtime/base/result.h"

#include <gtest/gtest.h>

#include <memory>

namespace autospc {
namespace {

Result<int> Half(int x) {
  if (x % 2) return Error{Code::kBadInput, fmt::format("{} is odd", x), "", ""};
  return x / 2;
}
Result<int> Quarter(int x) {
  ASSIGN_OR_RETURN(const int half, Half(x));
  ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}
Status Check(int x, int* reached) {
  RETURN_IF_ERROR(Half(x));
  *reached = x;
  return Ok();
}

TEST(Result, HoldsAValueOrAnError) {
  const Result<int> good = Half(6), bad = Half(7);
  ASSERT_TRUE(good.ok());
  EXPECT_TRUE(static_cast<bool>(good));
  EXPECT_EQ(*good, 3);
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().code, Code::kBadInput);
  EXPECT_EQ(bad.error().what, "7 is odd");
}

TEST(Result, ErrorsPassThroughTheMacros) {
  EXPECT_EQ(*Quarter(12), 3);
  EXPECT_EQ(Quarter(6).error().what, "3 is odd");
  int reached = 0;
  EXPECT_FALSE(Check(3, &reached).ok());
  EXPECT_EQ(reached, 0);
  EXPECT_TRUE(Check(4, &reached).ok());
  EXPECT_EQ(reached, 4);
}

TEST(Result, MovesWhatCannotBeCopied) {
  const auto make = []() -> Result<std::unique_ptr<int>> { return std::make_unique<int>(5); };
  const auto take = [&]() -> Result<int> {
    ASSIGN_OR_RETURN(const std::unique_ptr<int> p, make());
    return *p;
  };
  EXPECT_EQ(*take(), 5);
}

TEST(Error, FormatsWhatWhereAndHint) {
  EXPECT_EQ((Error{Code::kFailed, "it broke", "", ""}).Format(), "error: it broke");
  EXPECT_EQ((Error{Code::kUnsupported, "no rule", "m.py:3", "leave out --strict"}).Format(),
            "error: no rule\n  at m.py:3\n  hint: leave out --strict");
}

TEST(Error, CodesAreTheProgramsExitCodes) {
  EXPECT_EQ(static_cast<int>(Code::kFailed), 1);
  EXPECT_EQ(static_cast<int>(Code::kUsage), 2);
  EXPECT_EQ(static_cast<int>(Code::kBadInput), 3);
  EXPECT_EQ(static_cast<int>(Code::kUnsupported), 4);
  EXPECT_EQ(static_cast<int>(Code::kDoesNotFit), 5);
  EXPECT_EQ(static_cast<int>(Code::kTimeout), 6);
  EXPECT_EQ(static_cast<int>(Code::kPeerFailed), 7);
  EXPECT_EQ(static_cast<int>(Code::kInterrupted), 130);
}

}  // namespace
}  // namespace autospc
