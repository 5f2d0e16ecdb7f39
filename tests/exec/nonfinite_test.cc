#include "runtime/exec/nonfinite.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <limits>

namespace autospc::exec {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInf = std::numeric_limits<double>::infinity();

TEST(NonFiniteTest, EveryFloatingType) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kComplexFloat, at::kComplexDouble}) {
    SCOPED_TRACE(c10::toString(type));
    // The largest and the smallest numbers are finite.
    at::Tensor x = at::zeros({3, 5000}, type);
    if (!at::isComplexType(type)) {
      x[0][0] = type == at::kHalf ? 65504.0 : type == at::kDouble ? 1e308 : 3e38;
      x[0][1] = -1e-40;
    }
    EXPECT_FALSE(FindNonFinite(x).nan || FindNonFinite(x).inf);
    x[2][4999] = -kInf;
    EXPECT_TRUE(FindNonFinite(x).inf);
    EXPECT_FALSE(FindNonFinite(x).nan);
    x[1][17] = kNan;
    EXPECT_TRUE(FindNonFinite(x).nan && FindNonFinite(x).inf);
    const NonFinite count = CountNonFinite(x);
    EXPECT_EQ(count.nan, 1);
    EXPECT_EQ(count.inf, 1);
    EXPECT_EQ(count.elements, 15000);
    EXPECT_EQ(count.first, (std::vector<int64_t>{1, 17}));
  }
  EXPECT_FALSE(FindNonFinite(at::full({4}, -1, at::kLong)).nan);  // all bits set
  EXPECT_FALSE(FindNonFinite(at::empty({0, 3})).nan);
  EXPECT_FALSE(FindNonFinite(at::Tensor()).nan);
}

TEST(NonFiniteTest, OnlyWhatTheViewSees) {
  at::Tensor base = at::zeros({6, 8});
  base[2][3] = kNan;
  EXPECT_TRUE(FindNonFinite(base.t()).nan);
  EXPECT_EQ(CountNonFinite(base.t()).first, (std::vector<int64_t>{3, 2}));
  EXPECT_TRUE(FindNonFinite(base.slice(1, 3, 8, 2)).nan);
  EXPECT_EQ(CountNonFinite(base.slice(1, 3, 8, 2)).first, (std::vector<int64_t>{2, 0}));
  EXPECT_FALSE(FindNonFinite(base.slice(1, 0, 3)).nan);
  EXPECT_FALSE(FindNonFinite(base.slice(0, 3)).nan);
  EXPECT_EQ(CountNonFinite(base[2][3].expand({2, 2})).nan, 4);
}

}  // namespace
}  // namespace autospc::exec
