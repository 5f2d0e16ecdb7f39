#include "runtime/base/status_line.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>

namespace autospc {
namespace {

class StatusLineTest : public testing::Test {
 protected:
  StatusLineTest() {
    EXPECT_EQ(pipe(ends_.data()), 0);
    SetStatusTerminal(ends_[1], 40);
  }
  ~StatusLineTest() override {
    SetStatusTerminal(-1, 0);
    close(ends_[0]);
    if (ends_[1] >= 0) close(ends_[1]);
  }
  std::string Written() {
    SetStatusTerminal(-1, 0);
    close(ends_[1]);
    ends_[1] = -1;
    std::array<char, 4096> buffer;
    const ssize_t n = read(ends_[0], buffer.data(), buffer.size());
    return {buffer.data(), static_cast<size_t>(n)};
  }
  std::array<int, 2> ends_;
};

TEST_F(StatusLineTest, StandsBelowWhatIsWritten) {
  SetStatusLine([](int columns) { return "bar of " + std::to_string(columns); });
  WriteAbove(ends_[1], "step 1\n");
  EndStatusLine();
  WriteAbove(ends_[1], "done\n");
  EXPECT_EQ(Written(), "\r\033[Kbar of 39\r\033[Kstep 1\n\r\033[Kbar of 39\r\033[Kdone\n");
}

TEST_F(StatusLineTest, IsDrawnAtMostTenTimesASecond) {
  for (int i = 0; i < 1000; ++i) SetStatusLine([i](int) { return std::to_string(i); });
  ShowStatusLine();  // it stands already
  const std::string written = Written();
  EXPECT_EQ(written.substr(0, 5), "\r\033[K0");
  EXPECT_LT(written.size(), 100u);
}

TEST(NoTerminalTest, NothingIsDrawn) {
  std::array<int, 2> ends;
  ASSERT_EQ(pipe(ends.data()), 0);
  SetStatusTerminal(ends[1], 0);  // a pipe, and nobody says otherwise
  EXPECT_FALSE(HasStatusLine());
  SetStatusLine([](int) { return "bar"; });
  WriteAbove(ends[1], "step 1\n");
  SetStatusTerminal(-1, 0);
  close(ends[1]);
  std::array<char, 64> buffer;
  const ssize_t n = read(ends[0], buffer.data(), buffer.size());
  EXPECT_EQ(std::string(buffer.data(), static_cast<size_t>(n)), "step 1\n");
  close(ends[0]);
}

}  // namespace
}  // namespace autospc
