#include "runtime/base/bytes.h"

#include <gtest/gtest.h>

namespace autospc {
namespace {

TEST(Bytes, ReadsBinaryAndDecimalUnits) {
  const std::pair<const char*, int64_t> cases[] = {{"0", 0},
                                                   {"4096", 4096},
                                                   {"12 B", 12},
                                                   {"1KiB", 1024},
                                                   {"1.5 MiB", 1536 * 1024},
                                                   {"2MB", 2000000},
                                                   {"80GiB", 80LL << 30},
                                                   {"1TiB", 1LL << 40},
                                                   {"0.5KB", 500},
                                                   {"1e3", 1000},
                                                   {"4194304TiB", 1LL << 62}};
  for (const auto& [text, bytes] : cases) {
    const Result<int64_t> parsed = ParseBytes(text);
    ASSERT_TRUE(parsed.ok()) << text;
    EXPECT_EQ(*parsed, bytes) << text;
  }
}

TEST(Bytes, RefusesWhatIsNoSize) {
  for (const char* text : {"", "-1", "GiB", "1 GB/s", "1XiB", "1KiBs", "nan", "inf", "4194305TiB", "1KK", "one"}) {
    const Result<int64_t> parsed = ParseBytes(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.error().code, Code::kUsage);
    EXPECT_NE(parsed.error().what.find(fmt::format("'{}'", text)), std::string::npos);
  }
}

TEST(Bytes, PrintsForPeople) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.00 KiB");
  EXPECT_EQ(FormatBytes(1536LL << 20), "1.50 GiB");
  EXPECT_EQ(FormatBytes(5LL << 50), "5120.00 TiB");
  EXPECT_EQ(FormatBytes(-2048), "-2.00 KiB");
}

TEST(Bytes, WhatIsPrintedReadsBack) {
  for (const int64_t bytes : {int64_t{1}, int64_t{512}, int64_t{1} << 20, int64_t{3} << 30, int64_t{7} << 40}) {
    EXPECT_EQ(*ParseBytes(FormatBytes(bytes)), bytes);
  }
}

}  // namespace
}  // namespace autospc
