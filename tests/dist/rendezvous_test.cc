// Where a rank learns its place, and how ranks agree on what they run.
#include "runtime/dist/rendezvous.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

namespace autospc {
namespace {

class EnvironmentTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
                             "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "OMPI_COMM_WORLD_RANK",
                             "OMPI_COMM_WORLD_SIZE", "AUTOSP_LISTEN_FD", "TORCHELASTIC_USE_AGENT_STORE"}) {
      unsetenv(name);
    }
  }
  void TearDown() override { SetUp(); }
};

TEST_F(EnvironmentTest, NothingSetIsARankOfItsOwn) {
  const auto environment = ReadRankEnvironment();
  ASSERT_TRUE(environment.ok());
  EXPECT_FALSE(environment->has_value());
}

TEST_F(EnvironmentTest, LaunchersVariables) {
  setenv("SLURM_PROCID", "3", 1);
  setenv("SLURM_NTASKS", "4", 1);
  setenv("SLURM_LOCALID", "1", 1);
  setenv("MASTER_ADDR", "node0", 1);
  auto environment = ReadRankEnvironment();
  ASSERT_TRUE(environment.ok()) << environment.error().Format();
  EXPECT_EQ((**environment).rank, 3);
  EXPECT_EQ((**environment).world_size, 4);
  EXPECT_EQ((**environment).local_rank, 1);
  EXPECT_EQ((**environment).master_address, "node0");
  EXPECT_EQ((**environment).master_port, 29500);
  setenv("RANK", "0", 1);  // ours goes first
  setenv("TORCHELASTIC_USE_AGENT_STORE", "True", 1);
  environment = ReadRankEnvironment();
  ASSERT_TRUE(environment.ok());
  EXPECT_EQ((**environment).rank, 0);
  EXPECT_TRUE((**environment).store_exists);
}

TEST_F(EnvironmentTest, NonsenseIsRefused) {
  const auto expect_usage = [](const char* says) {
    const auto environment = ReadRankEnvironment();
    ASSERT_FALSE(environment.ok());
    EXPECT_EQ(environment.error().code, Code::kUsage);
    EXPECT_NE(environment.error().what.find(says), std::string::npos) << environment.error().Format();
  };
  setenv("RANK", "two", 1);
  expect_usage("RANK is \"two\"");
  setenv("RANK", "2", 1);
  expect_usage("rank 2 of (none)");
  setenv("WORLD_SIZE", "2", 1);
  expect_usage("rank 2 of 2");
  setenv("RANK", "1", 1);
  expect_usage("MASTER_ADDR");
  setenv("MASTER_ADDR", "localhost", 1);
  setenv("MASTER_PORT", "70000", 1);
  expect_usage("MASTER_PORT");
}

RankEnvironment Local(int rank, int size, int port) {
  RankEnvironment environment;
  environment.rank = environment.local_rank = rank;
  environment.world_size = environment.local_size = size;
  environment.master_address = "127.0.0.1";
  environment.master_port = port;
  return environment;
}

std::vector<Result<Meeting>> MeetAll(const std::vector<std::string>& digests, int port) {
  std::vector<Result<Meeting>> ranks;
  for (size_t i = 0; i < digests.size(); ++i) ranks.emplace_back(Error{});
  std::vector<std::thread> threads;
  for (size_t r = 0; r < digests.size(); ++r) {
    threads.emplace_back([&, r] {
      ranks[r] = Meet(Local(static_cast<int>(r), static_cast<int>(digests.size()), port), digests[r], 20);
    });
  }
  for (std::thread& t : threads) t.join();
  return ranks;
}

TEST(MeetTest, RanksMeetAndAgree) {
  auto ranks = MeetAll({"abc", "abc", "abc"}, 38471);
  for (auto& rank : ranks) ASSERT_TRUE(rank.ok()) << rank.error().Format();
  EXPECT_EQ(ranks[2]->host->rank(), 2);
  EXPECT_EQ(ranks[2]->host->size(), 3);
}

TEST(MeetTest, AnotherPackageIsNamed) {
  for (auto& rank : MeetAll({"abc", "abd"}, 38472)) {
    ASSERT_FALSE(rank.ok());
    EXPECT_EQ(rank.error().code, Code::kBadInput);
    EXPECT_NE(rank.error().what.find("rank 1 has the package abd"), std::string::npos) << rank.error().Format();
  }
}

TEST(MeetTest, ANobodyIsAPeerThatFailed) {
  const auto rank = Meet(Local(1, 2, 38473), "abc", 1);
  ASSERT_FALSE(rank.ok());
  EXPECT_EQ(rank.error().code, Code::kPeerFailed);
  EXPECT_EQ(rank.error().where, "127.0.0.1:38473");
}

}  // namespace
}  // namespace autospc
