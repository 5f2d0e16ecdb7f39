#include "runtime/train/learning_rate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace autospc::train {
namespace {

TEST(LearningRateTest, WarmsUpThenFollowsItsSchedule) {
  LearningRate rate{.lr = 0.8, .schedule = Schedule::kConstant, .warmup = 4, .min_lr = 0, .steps = 12};
  EXPECT_DOUBLE_EQ(rate.At(1), 0.2);
  EXPECT_DOUBLE_EQ(rate.At(4), 0.8);
  EXPECT_DOUBLE_EQ(rate.At(12), 0.8);
  rate.schedule = Schedule::kLinear;
  rate.min_lr = 0.2;
  EXPECT_DOUBLE_EQ(rate.At(2), 0.4);
  EXPECT_DOUBLE_EQ(rate.At(4), 0.8);
  EXPECT_DOUBLE_EQ(rate.At(8), 0.5);  // half way
  EXPECT_DOUBLE_EQ(rate.At(12), 0.2);
  EXPECT_DOUBLE_EQ(rate.At(99), 0.2);
  rate.schedule = Schedule::kCosine;
  EXPECT_DOUBLE_EQ(rate.At(6), 0.2 + 0.6 * 0.5 * (1 + std::sqrt(0.5)));  // a quarter: cos(pi / 4)
  EXPECT_DOUBLE_EQ(rate.At(8), 0.5);
  EXPECT_DOUBLE_EQ(rate.At(12), 0.2);
}

TEST(LearningRateTest, WithoutWarmUpAndWithNothingElse) {
  LearningRate rate{.lr = 1, .schedule = Schedule::kLinear, .warmup = 0, .min_lr = 0, .steps = 4};
  EXPECT_DOUBLE_EQ(rate.At(1), 0.75);
  EXPECT_DOUBLE_EQ(rate.At(4), 0);
  rate.warmup = 4;
  EXPECT_DOUBLE_EQ(rate.At(3), 0.75);
  EXPECT_DOUBLE_EQ(rate.At(4), 1);
  EXPECT_DOUBLE_EQ(rate.At(5), 0);
}

TEST(LearningRateTest, ValuesAreChecked) {
  const LearningRate good{.lr = 1, .schedule = Schedule::kCosine, .warmup = 2, .min_lr = 0.5, .steps = 4};
  EXPECT_TRUE(CheckLearningRate(good).ok());
  const auto refused = [&](auto change) {
    LearningRate rate = good;
    change(&rate);
    const Status status = CheckLearningRate(rate);
    EXPECT_FALSE(status.ok());
    if (!status.ok()) EXPECT_EQ(status.error().code, Code::kUsage);
    return status.ok() ? "" : status.error().what;
  };
  EXPECT_NE(refused([](LearningRate* r) { r->lr = -1; }).find("--lr"), std::string::npos);
  EXPECT_NE(refused([](LearningRate* r) { r->lr = std::numeric_limits<double>::quiet_NaN(); }).find("--lr"),
            std::string::npos);
  EXPECT_NE(refused([](LearningRate* r) { r->min_lr = 2; }).find("--min-lr"), std::string::npos);
  EXPECT_NE(refused([](LearningRate* r) { r->schedule = Schedule::kConstant; }).find("--min-lr"), std::string::npos);
  EXPECT_NE(refused([](LearningRate* r) { r->warmup = 5; }).find("--warmup"), std::string::npos);
}

}  // namespace
}  // namespace autospc::train
