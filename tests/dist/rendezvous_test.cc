// How ranks meet and agree on what they run, as threads of one process.
#include "runtime/dist/rendezvous.h"

#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "runtime/dist/job_store.h"
#include "runtime/dist/network.h"

namespace autospc {
namespace {

// A port that is free now.
int FreePort() {
  auto listening = Listen("127.0.0.1");
  return listening.ok() ? listening->second : 0;
}

RankEnvironment Local(int rank, int size, int port) {
  RankEnvironment environment;
  environment.rank = environment.local_rank = rank;
  environment.world_size = environment.local_size = size;
  environment.master_address = "127.0.0.1";
  environment.master_port = port;
  return environment;
}

MeetOptions With(const std::string& package) {
  MeetOptions options;
  options.terms = {{"the package", package}};
  options.timeout_seconds = 20;
  return options;
}

std::vector<Result<Meeting>> MeetAll(const std::vector<MeetOptions>& options, const std::vector<int>& sizes = {}) {
  const int port = FreePort(), size = static_cast<int>(options.size());
  std::vector<Result<Meeting>> ranks;
  for (int i = 0; i < size; ++i) ranks.emplace_back(Error{});
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r) {
    threads.emplace_back([&, r] { ranks[r] = Meet(Local(r, sizes.empty() ? size : sizes[r], port), options[r]); });
  }
  for (std::thread& t : threads) t.join();
  return ranks;
}

TEST(MeetTest, RanksMeetAndAgree) {
  auto ranks = MeetAll({With("abc"), With("abc"), With("abc")});
  for (auto& rank : ranks) ASSERT_TRUE(rank.ok()) << rank.error().Format();
  EXPECT_EQ(ranks[2]->host->rank(), 2);
  EXPECT_EQ(ranks[2]->host->size(), 3);
  EXPECT_TRUE(ranks[1]->watchdog);
  std::vector<std::thread> threads;
  std::vector<int> sums(3, 0);
  for (int r = 0; r < 3; ++r) {
    threads.emplace_back([&, r] {
      std::vector<int> all(3);
      const int mine = r + 1;
      if (ranks[r]->host->AllGather(&mine, all.data(), sizeof(mine)).ok()) sums[r] = all[0] + all[1] + all[2];
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(sums, std::vector<int>(3, 6));
}

// A write to a rank that is gone must fail, not end the writer.
TEST(MeetTest, ABrokenPipeEndsNoRank) {
  const auto before = std::signal(SIGPIPE, SIG_DFL);
  for (auto& rank : MeetAll({With("abc"), With("abc")})) ASSERT_TRUE(rank.ok()) << rank.error().Format();
  raise(SIGPIPE);
  std::signal(SIGPIPE, before);
}

TEST(MeetTest, AnotherPackageIsNamedOnEveryRank) {
  for (auto& rank : MeetAll({With("abc"), With("abc"), With("abd")})) {
    ASSERT_FALSE(rank.ok());
    EXPECT_EQ(rank.error().code, Code::kBadInput);
    EXPECT_NE(rank.error().what.find("the package: abd on rank 2, abc on rank 0"), std::string::npos)
        << rank.error().Format();
  }
}

TEST(MeetTest, AnotherNumberOfRanksIsNamed) {
  auto ranks = MeetAll({With("abc"), With("abc")}, {2, 3});
  ASSERT_FALSE(ranks[0].ok());
  EXPECT_EQ(ranks[0].error().code, Code::kBadInput);
  EXPECT_NE(ranks[0].error().what.find("the number of ranks: 3 on rank 1, 2 on rank 0"), std::string::npos)
      << ranks[0].error().Format();
  EXPECT_FALSE(ranks[1].ok());
}

TEST(MeetTest, AnUnknownInterfaceIsUsage) {
  MeetOptions options = With("abc");
  options.interface = "none0";
  for (auto& rank : MeetAll({options, options})) {
    ASSERT_FALSE(rank.ok());
    EXPECT_EQ(rank.error().code, Code::kUsage);
  }
  options.interface = "lo";
  for (auto& rank : MeetAll({options, options})) EXPECT_TRUE(rank.ok());
}

TEST(MeetTest, Rank0ThatIsNotThere) {
  const int port = FreePort();
  MeetOptions options = With("abc");
  options.timeout_seconds = 1;
  const auto rank = Meet(Local(1, 2, port), options);
  ASSERT_FALSE(rank.ok());
  EXPECT_EQ(rank.error().code, Code::kPeerFailed);
  EXPECT_EQ(rank.error().where, fmt::format("127.0.0.1:{}", port));
}

TEST(MeetTest, ARankThatDoesNotComeIsNamed) {
  const int port = FreePort();
  MeetOptions options = With("abc");
  options.timeout_seconds = 3;
  const auto rank = Meet(Local(0, 3, port), options);
  ASSERT_FALSE(rank.ok());
  EXPECT_EQ(rank.error().code, Code::kPeerFailed);
  EXPECT_NE(rank.error().what.find("ranks 1, 2 did not come"), std::string::npos) << rank.error().Format();
}

TEST(MeetTest, ARankThatCannotBeginSaysSo) {
  const int port = FreePort();
  Result<Meeting> waiting{Error{}};
  std::thread first([&] { waiting = Meet(Local(0, 2, port), With("abc")); });
  AnnounceAbsence(Local(1, 2, port), "rank 1", {Code::kBadInput, "no such package", "", ""});
  first.join();
  ASSERT_FALSE(waiting.ok());
  EXPECT_NE(waiting.error().what.find("rank 1 can't begin: no such package"), std::string::npos)
      << waiting.error().Format();
}

// Rank 1 is started again before rank 0 has ended: it must not take the old store for the new one.
TEST(MeetTest, ANewStartWaitsForTheNewStore) {
  const int port = FreePort();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  auto first = std::make_unique<Result<JobStore>>(JobStore::Open(Local(0, 2, port), deadline));
  ASSERT_TRUE(first->ok());
  ASSERT_TRUE(JobStore::Open(Local(1, 2, port), deadline).ok());
  RankEnvironment again = Local(1, 2, port);
  again.attempt = 1;
  std::atomic<bool> opened{false};
  std::thread second([&] {
    const auto store = JobStore::Open(again, deadline);
    EXPECT_TRUE(store.ok());
    opened = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_FALSE(opened.load());
  first.reset();  // the old rank 0 ends
  RankEnvironment host = Local(0, 2, port);
  host.attempt = 1;
  const auto next = JobStore::Open(host, deadline);
  EXPECT_TRUE(next.ok());
  second.join();
  EXPECT_TRUE(opened.load());
}

// What a watchdog's verdict does to a collective that waits.
TEST(MeetTest, AbortEndsAWaitingCollective) {
  auto ranks = MeetAll({With("abc"), With("abc")});
  ASSERT_TRUE(ranks[0].ok() && ranks[1].ok());
  std::thread waiting([&] {
    int mine = 1;
    std::vector<int> all(2);
    const Status status = ranks[0]->host->AllGather(&mine, all.data(), sizeof(mine));
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, Code::kInterrupted);
    EXPECT_FALSE(ranks[0]->host->AllGather(&mine, all.data(), sizeof(mine)).ok());
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  ranks[0]->host->Abort();
  waiting.join();
}

}  // namespace
}  // namespace autospc
