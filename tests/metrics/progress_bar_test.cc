#include "runtime/metrics/progress_bar.h"

#include <gtest/gtest.h>

namespace autospc::metrics {
namespace {

const ProgressState kState{72, 200, 3.46573590, 12345, 83};

TEST(ProgressBarTest, SaysHowFarItIs) {
  EXPECT_EQ(BarText(kState, 100, false),
            "[=============>                          ]   72/200   36%  loss 3.4657  12.3k tokens/s  1:23 left");
}

TEST(ProgressBarTest, FitsAnyWidth) {
  for (int columns = 0; columns < 130; ++columns) {
    const std::string text = BarText(kState, columns, false);
    EXPECT_LE(static_cast<int>(text.size()), columns) << text;
    EXPECT_EQ(text.find('\033'), std::string::npos);
  }
  EXPECT_EQ(BarText(kState, 30, false), " 72/200   36%  loss 3.4657");
}

TEST(ProgressBarTest, ColoursAreCodesAround) {
  std::string text = BarText(kState, 100, true);
  for (const std::string code : {"\033[32m", "\033[0m"}) {
    const size_t at = text.find(code);
    ASSERT_NE(at, std::string::npos);
    text.erase(at, code.size());
  }
  EXPECT_EQ(text, BarText(kState, 100, false));
}

TEST(ProgressBarTest, BeginningAndEnd) {
  EXPECT_EQ(BarText({0, 4, 0, 0, 1e12}, 80, false).substr(0, 42), "[" + std::string(40, ' ') + "]");
  EXPECT_EQ(BarText({4, 4, 0, 0, 0}, 60, false).substr(0, 25), "[" + std::string(23, '=') + "]");
  EXPECT_NE(BarText({1, 4, 0, 0, 7384}, 90, false).find("2:03:04 left"), std::string::npos);
}

TEST(ProgressBarTest, TravelsThroughAPipe) {
  const std::string line = EncodeProgress(kState);
  EXPECT_EQ(line.back(), '\n');
  const auto state = DecodeProgress(line);
  ASSERT_TRUE(state);
  EXPECT_EQ(EncodeProgress(*state), line);
  EXPECT_FALSE(DecodeProgress("warning: progress 1 2 3 4 5"));
  EXPECT_FALSE(DecodeProgress("\x1eprogress 1 2 three"));
}

}  // namespace
}  // namespace autospc::metrics
