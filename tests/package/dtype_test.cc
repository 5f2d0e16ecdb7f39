#include "runtime/package/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace autospc {
namespace {

using program::DType;

double Through(DType dtype, double x) {
  uint64_t narrow = 0;
  double wide = 0;
  EXPECT_TRUE(ConvertTo(dtype, &narrow, DType::Float64, &x, 1).ok());
  EXPECT_TRUE(ConvertTo(DType::Float64, &wide, dtype, &narrow, 1).ok());
  return wide;
}

// Every 16-bit pattern is what it was after a round trip through float32 and float64 (NaNs stay NaN).
TEST(DType, SixteenBitFloatsSurviveWidening) {
  for (const DType narrow : {DType::Float16, DType::BFloat16})
    for (const DType wide : {DType::Float32, DType::Float64})
      for (uint32_t bits = 0; bits < 65536; ++bits) {
        const uint16_t in = static_cast<uint16_t>(bits);
        double buffer = 0;
        uint16_t out = 0;
        ASSERT_TRUE(ConvertTo(wide, &buffer, narrow, &in, 1).ok());
        ASSERT_TRUE(ConvertTo(narrow, &out, wide, &buffer, 1).ok());
        const double value = LoadAsDouble(narrow, &in);
        if (std::isnan(value)) ASSERT_TRUE(std::isnan(LoadAsDouble(narrow, &out))) << bits;
        else ASSERT_EQ(in, out) << bits;
      }
}

TEST(DType, HalvesDecode) {
  const uint16_t one = 0x3c00, largest = 0x7bff, least = 0x0001, minus_two = 0xc000, infinity = 0x7c00;
  EXPECT_EQ(LoadAsDouble(DType::Float16, &one), 1);
  EXPECT_EQ(LoadAsDouble(DType::Float16, &largest), 65504);
  EXPECT_EQ(LoadAsDouble(DType::Float16, &least), std::ldexp(1, -24));
  EXPECT_EQ(LoadAsDouble(DType::Float16, &minus_two), -2);
  EXPECT_TRUE(std::isinf(LoadAsDouble(DType::Float16, &infinity)));
}

// Between two neighbours the nearer one is taken, on a tie the even one; checked over all halves.
TEST(DType, NarrowingRoundsToNearestEven) {
  for (const DType narrow : {DType::Float16, DType::BFloat16})
    for (uint32_t bits = 0; bits < (narrow == DType::Float16 ? 0x7bffu : 0x7f7fu); ++bits) {
      const uint16_t low = static_cast<uint16_t>(bits), high = static_cast<uint16_t>(bits + 1);
      const double a = LoadAsDouble(narrow, &low), b = LoadAsDouble(narrow, &high);
      ASSERT_EQ(Through(narrow, (a + b) / 2), bits % 2 == 0 ? a : b) << bits;
      const float below = std::nextafter(static_cast<float>((a + b) / 2), 0.0f);
      ASSERT_EQ(Through(narrow, below), a) << bits;
      ASSERT_EQ(Through(narrow, -static_cast<double>(std::nextafter(static_cast<float>((a + b) / 2), INFINITY))), -b) << bits;
    }
  EXPECT_EQ(Through(DType::Float16, 65519.99), 65504);
  EXPECT_TRUE(std::isinf(Through(DType::Float16, 65520)));
  EXPECT_TRUE(std::isnan(Through(DType::Float16, NAN)));
  EXPECT_TRUE(std::isnan(Through(DType::BFloat16, NAN)));
  EXPECT_TRUE(std::isinf(Through(DType::BFloat16, std::numeric_limits<float>::max())));
}

TEST(DType, IntegersDoNotConvert) {
  int64_t i = 5;
  float f = 0;
  EXPECT_EQ(ConvertTo(DType::Float32, &f, DType::Int64, &i, 1).error().code, Code::kBadInput);
  int64_t copy = 0;
  ASSERT_TRUE(ConvertTo(DType::Int64, &copy, DType::Int64, &i, 1).ok());
  EXPECT_EQ(copy, 5);
}

TEST(DType, NumelIsChecked) {
  EXPECT_EQ(CheckedNumel({}), 1);
  EXPECT_EQ(CheckedNumel({2, 3}), 6);
  EXPECT_EQ(CheckedNumel({int64_t{1} << 62, 4, 0}), 0);
  EXPECT_EQ(CheckedNumel({int64_t{1} << 62, 4}), std::nullopt);
  EXPECT_EQ(CheckedNumel({-1}), std::nullopt);
}

TEST(DType, SafetensorsNames) {
  for (const char* name : {"BOOL", "U8", "I8", "I16", "I32", "I64", "F16", "BF16", "F32", "F64"}) {
    ASSERT_TRUE(FromSafetensorsName(name)) << name;
    EXPECT_EQ(SafetensorsName(*FromSafetensorsName(name)), name);
  }
  EXPECT_FALSE(FromSafetensorsName("F8_E4M3"));
  EXPECT_FALSE(FromSafetensorsName(""));
}

TEST(DType, SizesThatAreNone) {
  EXPECT_EQ(CheckedNumel({0, int64_t{1} << 62, 8}), 0);
  EXPECT_EQ(CheckedNumel({0, -1}), std::nullopt) << "behind a zero as well";
  EXPECT_EQ(CheckedNumel({int64_t{1} << 62, 8}), std::nullopt);
  EXPECT_EQ(ContiguousStrides({0, int64_t{1} << 62, int64_t{1} << 62}).size(), 3u);
}

}  // namespace
}  // namespace autospc
