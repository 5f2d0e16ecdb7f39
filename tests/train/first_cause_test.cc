// The cause of a job's end, not its echoes; and what the system knows of a process.
#include "runtime/train/first_cause.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <thread>

namespace autospc::train {
namespace {

constexpr int Exit(int code) { return code << 8; }  // as waitpid gives it
constexpr int Signal(int signal) { return signal; }

TEST(FirstCauseTest, AllWell) {
  FirstCause cause;
  cause.Ended(0, Exit(0), false);
  EXPECT_FALSE(cause.failed());
  EXPECT_EQ(cause.code(), Code::kOk);
}

TEST(FirstCauseTest, EchoesGiveWayInAnyOrder) {
  for (const bool echo_first : {true, false}) {
    FirstCause cause;
    if (echo_first) cause.Ended(0, Exit(7), false);
    cause.Ended(1, Exit(3), false);
    if (!echo_first) cause.Ended(0, Exit(7), false);
    EXPECT_EQ(cause.code(), Code::kBadInput);
    EXPECT_EQ(cause.rank(), 1);
    EXPECT_EQ(cause.signal(), 0);
    EXPECT_EQ(cause.echoes(), 1);
  }
}

TEST(FirstCauseTest, TheFirstOfTwoCausesStays) {
  FirstCause cause;
  cause.Ended(2, Signal(SIGKILL), false);
  EXPECT_TRUE(cause.decided());
  cause.Ended(1, Exit(3), false);
  cause.Ended(0, Signal(SIGSEGV), false);
  EXPECT_EQ(cause.code(), Code::kPeerFailed);
  EXPECT_EQ(cause.rank(), 2);
  EXPECT_EQ(cause.signal(), SIGKILL);
}

TEST(FirstCauseTest, AHangOutweighsALostPeer) {
  FirstCause cause;
  cause.Ended(0, Exit(7), false);
  cause.Ended(1, Exit(6), false);
  cause.Ended(2, Signal(SIGKILL), true);  // the launcher ended the rank that was stopped
  EXPECT_EQ(cause.code(), Code::kTimeout);
  EXPECT_FALSE(cause.decided());
  FirstCause seen;
  seen.Silent(2);
  EXPECT_EQ(seen.code(), Code::kTimeout);
}

TEST(FirstCauseTest, AnInterruptIsNoFailureOfARank) {
  FirstCause cause;
  cause.Ended(0, Signal(SIGINT), false);
  EXPECT_EQ(cause.code(), Code::kInterrupted);
}

TEST(OutOfMemoryTest, IsReadFromTheKernelsCounters) {
  const std::string path = testing::TempDir() + "vmstat";
  std::ofstream(path) << "nr_free_pages 123\noom_kill 4\nunevictable_pgs 0\n";
  EXPECT_EQ(OutOfMemoryKills(path.c_str()), 4);
  std::ofstream(path) << "nr_free_pages 123\n";
  EXPECT_EQ(OutOfMemoryKills(path.c_str()), -1);
  std::remove(path.c_str());
  EXPECT_EQ(OutOfMemoryKills("/no/such/file"), -1);
}

TEST(ProcessStateTest, TellsAStoppedProcess) {
  const pid_t child = fork();
  if (child == 0) {
    while (true) pause();
  }
  kill(child, SIGSTOP);
  int status = 0;
  waitpid(child, &status, WUNTRACED);
  EXPECT_EQ(ProcessState(child), 'T');
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  EXPECT_EQ(ProcessState(child), '\0');
}

}  // namespace
}  // namespace autospc::train
