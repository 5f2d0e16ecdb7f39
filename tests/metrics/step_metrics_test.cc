#include "runtime/metrics/step_metrics.h"

#include <gtest/gtest.h>

#include <limits>

namespace autospc::metrics {
namespace {

StepMetrics Sample() {
  StepMetrics m;
  m.step = 12;
  m.loss = 3.46573590;
  m.grad_norm = 1.25;
  m.lr = 0.001;
  m.tokens = 8192;
  m.seconds = 0.5;
  m.data_seconds = 0.012;
  m.mfu = 0.345;
  m.planned_bytes = int64_t{1} << 30;
  m.measured_bytes = (int64_t{1} << 30) + (40 << 20);
  return m;
}

TEST(StepMetricsTest, OneLineForPeople) {
  EXPECT_EQ(StepLine(Sample(), 200),
            "step  12  loss 3.465736     grad_norm 1.25        lr 0.001     16.0k tokens/s  mfu  34.5%  "
            "memory 1.04 of 1.00 GiB  0.512 s");
}

TEST(StepMetricsTest, WhatIsNotKnownIsLeftOut) {
  StepMetrics m = Sample();
  m.mfu = NAN;
  m.tokens = 0;
  m.measured_bytes = 0;
  m.outputs = {{"accuracy", 0.5}};
  EXPECT_EQ(StepLine(m, 123456), "step     12  loss 3.465736     grad_norm 1.25        lr 0.001     accuracy 0.5        "
                                 "memory 1.00 GiB  0.512 s");
  for (const auto& [name, value] : StepFields(m)) {
    EXPECT_NE(name, "mfu");
    EXPECT_NE(name, "tokens_per_second");
    EXPECT_NE(name, "measured_bytes");
  }
}

TEST(StepMetricsTest, UnitsDifferWhereTheyMust) {
  StepMetrics m = Sample();
  m.measured_bytes = 900 << 20;
  EXPECT_NE(StepLine(m, 1).find("memory 900.00 MiB of 1.00 GiB"), std::string::npos) << StepLine(m, 1);
}

TEST(StepMetricsTest, JsonReadsBackAsItWas) {
  const double third = 1.0 / 3;
  const std::string line = JsonLine(7, {{"loss", third}, {"tokens", 61}, {"bad", NAN}, {"big", 1e300}, {"a\"b\n", -2}});
  EXPECT_EQ(line, "{\"step\": 7, \"loss\": 0.3333333333333333, \"tokens\": 61, \"bad\": null, \"big\": 1e+300, "
                  "\"a\\\"b\\u000a\": -2}\n");
  EXPECT_EQ(JsonLine(1, {{"x", -std::numeric_limits<double>::infinity()}}), "{\"step\": 1, \"x\": null}\n");
}

TEST(StepMetricsTest, ShortNumbersHaveThreeDigits) {
  EXPECT_EQ(ShortNumber(0), "0");
  EXPECT_EQ(ShortNumber(950), "950");
  EXPECT_EQ(ShortNumber(9.876), "9.88");
  EXPECT_EQ(ShortNumber(999.7), "1.00k");
  EXPECT_EQ(ShortNumber(12345), "12.3k");
  EXPECT_EQ(ShortNumber(99960), "100k");
  EXPECT_EQ(ShortNumber(4.5e6), "4.50M");
  EXPECT_EQ(ShortNumber(142e9), "142G");
}

}  // namespace
}  // namespace autospc::metrics
