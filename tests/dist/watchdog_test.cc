// A watchdog among peers that the test plays: it holds the other ends of the connections.
#include "runtime/dist/watchdog.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace autospc {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class WatchdogTest : public testing::Test {
 protected:
  // A watchdog of rank 0 among `size` ranks.
  void Start(int size, milliseconds timeout, milliseconds grace = seconds(60)) {
    std::vector<Socket> mine(1);
    peers_.emplace_back();
    for (int r = 1; r < size; ++r) {
      int pair[2];
      ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
      mine.emplace_back(pair[0]);
      peers_.emplace_back(pair[1]);
    }
    WatchdogOptions options;
    options.timeout = timeout;
    options.settle = milliseconds(100);
    options.grace = grace;
    options.mine = &mine_;
    options.end = [this](const Error& error) {
      ended_what_ = error.what;
      ended_ = true;
    };
    watchdog_ = std::make_unique<Watchdog>(options, std::move(mine));
  }

  void Say(int from, const Beat& beat) {
    const std::string bytes = Encode(beat);
    ASSERT_EQ(send(peers_[from].fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }
  static Beat BeatAt(int64_t step, int instruction) {
    Beat beat;
    beat.place = {Activity::kStepping, CollectiveKind::kNone, step, instruction};
    return beat;
  }
  static Beat Failure(int about, Code code, const std::string& what) {
    Beat beat;
    beat.kind = BeatKind::kFailure;
    beat.about = about;
    beat.code = code;
    beat.what = what;
    return beat;
  }
  // The next message other than a beat that the watchdog sends to `rank`.
  std::optional<Beat> Heard(int rank) {
    BeatReader reader;
    std::array<char, 4096> buffer;
    while (true) {
      const ssize_t n = recv(peers_[rank].fd(), buffer.data(), buffer.size(), 0);
      if (n <= 0) return std::nullopt;
      reader.Append({buffer.data(), static_cast<size_t>(n)});
      while (true) {
        const auto next = reader.Next();
        if (!next.ok() || !next->has_value()) break;
        if ((**next).kind != BeatKind::kBeat) return **next;
      }
    }
  }

  Whereabouts mine_;
  std::vector<Socket> peers_;
  std::unique_ptr<Watchdog> watchdog_;
  std::string ended_what_;
  std::atomic<bool> ended_{false};
};

TEST_F(WatchdogTest, BeatsTellWhereItIs) {
  Start(2, seconds(1));
  mine_.step = 12;
  mine_.instruction = 34;
  BeatReader reader;
  for (int64_t step = 0; step != 12;) {
    std::array<char, 4096> buffer;
    const ssize_t n = recv(peers_[1].fd(), buffer.data(), buffer.size(), 0);
    ASSERT_GT(n, 0);
    reader.Append({buffer.data(), static_cast<size_t>(n)});
    for (auto next = reader.Next(); next.ok() && next->has_value(); next = reader.Next()) {
      EXPECT_EQ((**next).kind, BeatKind::kBeat);
      step = (**next).place.step;
    }
  }
  EXPECT_GT(mine_.beats.load(), 0);
  EXPECT_EQ(mine_.watched.load(), 1);
  EXPECT_FALSE(watchdog_->Failure());
}

TEST_F(WatchdogTest, AClosedConnectionIsADeath) {
  Start(3, seconds(60));
  watchdog_->SetDescribe(
      [](int i) { return "instruction " + std::to_string(i) + " (autosp.all_to_all), from model.py:7"; });
  std::atomic<int> aborted{0};
  watchdog_->SetAbort([&] { ++aborted; });
  mine_.Set(Activity::kStepping);
  mine_.step = 5;
  mine_.instruction = 41;
  mine_.collective = static_cast<int32_t>(CollectiveKind::kAllToAll);
  Say(2, BeatAt(5, 39));
  peers_[2].Close();
  const auto failure = watchdog_->WaitForFailure(seconds(20));
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kPeerFailed);
  EXPECT_NE(failure->what.find("rank 2 is gone"), std::string::npos) << failure->Format();
  EXPECT_NE(failure->where.find("rank 0: step 5, instruction 41 (autosp.all_to_all), from model.py:7, in all-to-all"),
            std::string::npos)
      << failure->Format();
  EXPECT_NE(failure->where.find("step 5, instruction 39"), std::string::npos) << failure->Format();
  const auto told = Heard(1);
  ASSERT_TRUE(told);
  EXPECT_EQ(told->kind, BeatKind::kFailure);
  EXPECT_EQ(told->about, 2);
  EXPECT_EQ(told->code, Code::kPeerFailed);
  EXPECT_EQ(mine_.blamed.load(), 2);
  // The others are told before the transport is aborted.
  for (int i = 0; i < 20'000 && aborted.load() == 0; ++i) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_EQ(aborted.load(), 1);
  EXPECT_FALSE(ended_.load());
}

TEST_F(WatchdogTest, SilenceIsAHang) {
  Start(3, seconds(2));
  std::atomic<bool> done{false};
  std::thread talker([&] {
    for (; !done; std::this_thread::sleep_for(milliseconds(50))) Say(1, BeatAt(1, 1));
  });
  const auto failure = watchdog_->WaitForFailure(seconds(20));
  done = true;
  talker.join();
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kTimeout);
  EXPECT_NE(failure->what.find("rank 2 has been silent for 2 s"), std::string::npos) << failure->Format();
}

// A main thread that computes for long says nothing itself; its watchdog does, and that of a peer with it.
TEST_F(WatchdogTest, WhoeverBeatsIsAlive) {
  Start(2, seconds(2));
  for (int i = 0; i < 80; ++i) {
    Say(1, BeatAt(1, 1));
    std::this_thread::sleep_for(milliseconds(30));
  }
  EXPECT_FALSE(watchdog_->Failure());
}

TEST_F(WatchdogTest, WithoutATimeoutSilenceIsNoFailure) {
  Start(2, milliseconds(0));
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_FALSE(watchdog_->Failure());
  peers_[1].Close();
  EXPECT_TRUE(watchdog_->WaitForFailure(seconds(20)));
}

TEST_F(WatchdogTest, AGoodbyeIsNoDeath) {
  Start(2, milliseconds(300));
  Beat goodbye;
  goodbye.kind = BeatKind::kGoodbye;
  Say(1, goodbye);
  peers_[1].Close();
  EXPECT_FALSE(watchdog_->WaitForFailure(milliseconds(700)));
}

TEST_F(WatchdogTest, SaysGoodbyeItself) {
  Start(2, seconds(60));
  watchdog_.reset();
  const auto heard = Heard(1);
  ASSERT_TRUE(heard);
  EXPECT_EQ(heard->kind, BeatKind::kGoodbye);
  EXPECT_EQ(mine_.watched.load(), 2);
}

// A rank that was killed takes others with it; what these say may be read first.
TEST_F(WatchdogTest, TheDeadRankIsBlamedNotItsEchoes) {
  Start(4, seconds(60));
  Say(1, Failure(1, Code::kPeerFailed, "a collective failed: connection closed by peer"));
  Say(3, Failure(3, Code::kFailed, "the checkpoint of rank 2 did not arrive"));
  peers_[2].Close();
  const auto failure = watchdog_->WaitForFailure(seconds(20));
  ASSERT_TRUE(failure);
  // They may have been read in one round or in several: the death counts in the first case.
  if (failure->what.find("rank 2 is gone") == std::string::npos) {
    EXPECT_NE(failure->what.find("rank 1 failed"), std::string::npos) << failure->Format();
  }
}

TEST_F(WatchdogTest, ARankThatSaysWhyIsQuoted) {
  Start(3, seconds(60));
  Say(2, Failure(2, Code::kFailed, "no space left on device"));
  peers_[2].Close();
  const auto failure = watchdog_->WaitForFailure(seconds(20));
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kPeerFailed);
  EXPECT_EQ(failure->what, "rank 2 failed: no space left on device");
  EXPECT_EQ(mine_.blamed_code.load(), static_cast<int>(Code::kFailed));
}

TEST_F(WatchdogTest, AnothersWordOnAHangIsBelieved) {
  Start(3, seconds(60));
  Say(1, Failure(2, Code::kTimeout, "rank 2 has been silent for 30 s"));
  const auto failure = watchdog_->WaitForFailure(seconds(20));
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kTimeout);
  EXPECT_EQ(failure->what, "rank 2 has been silent for 30 s");
}

TEST_F(WatchdogTest, ARankLearnsThatItWasGivenUp) {
  Start(2, seconds(60));
  Say(1, Failure(0, Code::kTimeout, "rank 0 has been silent for 30 s"));
  const auto failure = watchdog_->WaitForFailure(seconds(20));
  ASSERT_TRUE(failure);
  EXPECT_NE(failure->hint.find("gave this rank up"), std::string::npos) << failure->Format();
}

TEST_F(WatchdogTest, ExplainsAnEchoByItsCause) {
  Start(2, seconds(60));
  peers_[1].Close();
  const Error error = watchdog_->Explain({Code::kPeerFailed, "a collective failed", "instruction 3", ""});
  EXPECT_NE(error.what.find("rank 1 is gone"), std::string::npos) << error.Format();
}

TEST_F(WatchdogTest, TellsTheOthersOfAnErrorOfItsOwn) {
  Start(2, seconds(60));
  const Error error = watchdog_->Explain({Code::kBadInput, "a bad batch", "here", "mend it"});
  EXPECT_EQ(error.what, "a bad batch");
  EXPECT_EQ(error.hint, "mend it");
  watchdog_.reset();  // at once: the words are sent all the same
  const auto heard = Heard(1);
  ASSERT_TRUE(heard);
  EXPECT_EQ(heard->kind, BeatKind::kFailure);
  EXPECT_EQ(heard->about, 0);
  EXPECT_EQ(heard->code, Code::kBadInput);
  EXPECT_EQ(heard->what, "a bad batch");
}

TEST_F(WatchdogTest, EndsAProcessThatDoesNotEndItself) {
  Start(2, seconds(60), milliseconds(100));
  peers_[1].Close();
  for (int i = 0; i < 2000 && !ended_; ++i) std::this_thread::sleep_for(milliseconds(10));
  ASSERT_TRUE(ended_.load());
  watchdog_.reset();
  EXPECT_NE(ended_what_.find("rank 1 is gone"), std::string::npos) << ended_what_;
}

TEST_F(WatchdogTest, NonsenseOnAConnectionIsADeath) {
  Start(2, seconds(60));
  ASSERT_EQ(send(peers_[1].fd(), std::string(100, 'x').data(), 100, 0), 100);
  EXPECT_TRUE(watchdog_->WaitForFailure(seconds(20)));
}

}  // namespace
}  // namespace autospc
