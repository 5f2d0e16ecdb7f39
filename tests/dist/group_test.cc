// Groups of a communicator's ranks: each collective runs within its group, over each transport.
#include <gtest/gtest.h>

#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "runtime/base/mesh.h"
#include "runtime/dist/communicator.h"
#include "runtime/dist/gloo.h"
#include "runtime/dist/group.h"
#include "runtime/dist/in_process.h"

namespace autospc {
namespace {

// On each rank of a mesh dp=2, sp=3: sums along both axes, in turn, then a gather, a broadcast and an exchange.
void OnRank(Communicator& world) {
  const Mesh mesh(3, 2);
  std::vector<int> rows, columns;
  for (int r = 0; r < mesh.ranks(); ++r) {
    if (mesh.Index(Axis::kDp, r) == mesh.Index(Axis::kDp, world.rank())) rows.push_back(r);
    if (mesh.Index(Axis::kSp, r) == mesh.Index(Axis::kSp, world.rank())) columns.push_back(r);
  }
  auto sp = MakeGroup(&world, rows), dp = MakeGroup(&world, columns);
  ASSERT_TRUE(sp.ok() && dp.ok());
  Communicator &along_sp = **sp, &along_dp = **dp;
  EXPECT_EQ(along_sp.size(), 3);
  EXPECT_EQ(along_sp.rank(), world.rank() % 3);
  EXPECT_EQ(along_dp.size(), 2);
  EXPECT_EQ(along_dp.rank(), world.rank() / 3);
  const auto sum = [](Communicator& c, int64_t x) {
    std::vector<int64_t> many(5000, x), staging(5000);  // enough for the exchange in shares
    EXPECT_TRUE(c.AllReduce(many.data(), 5000, c10::ScalarType::Long, ReduceOp::kSum, staging.data(), 40000).ok());
    EXPECT_EQ(many.front(), many.back());
    return many.front();
  };
  const int row = world.rank() / 3, column = world.rank() % 3;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(sum(along_sp, world.rank()), 9 * row + 3);
    EXPECT_EQ(sum(along_dp, world.rank()), 2 * column + 3);
    EXPECT_EQ(sum(world, world.rank()), 15);
  }
  int mine = world.rank();
  std::vector<int> all(3);
  EXPECT_TRUE(along_sp.AllGather(&mine, all.data(), sizeof mine).ok());
  EXPECT_EQ(all, rows);
  int word = along_dp.rank() == 1 ? 100 + column : 0;
  EXPECT_TRUE(along_dp.Broadcast(&word, sizeof word, 1).ok());
  EXPECT_EQ(word, 100 + column);
  std::vector<int> out = {10 * world.rank(), 10 * world.rank() + 1}, in(2);
  EXPECT_TRUE(along_dp.AllToAll(out.data(), in.data(), sizeof(int)).ok());
  for (int i = 0; i < 2; ++i) EXPECT_EQ(in[i], 10 * columns[i] + row);
  EXPECT_EQ(along_dp.traffic().at("all_to_all").bytes, 4);
  EXPECT_FALSE(world.traffic().contains("all_to_all"));
}

void OnAll(const std::vector<std::unique_ptr<Communicator>>& ranks) {
  std::vector<std::thread> threads;
  for (const auto& rank : ranks) threads.emplace_back([&] { OnRank(*rank); });
  for (std::thread& t : threads) t.join();
}

TEST(GroupTest, InProcess) { OnAll(MakeInProcessCommunicators(6)); }

TEST(GroupTest, Gloo) {
  auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<std::unique_ptr<Communicator>> ranks(6);
  std::vector<std::thread> threads;
  for (int r = 0; r < 6; ++r) {
    threads.emplace_back([&, r] {
      auto made = MakeGlooCommunicator(store, r, 6, "127.0.0.1");
      if (made.ok()) ranks[r] = std::move(made).value();
    });
  }
  for (std::thread& t : threads) t.join();
  for (const auto& rank : ranks) ASSERT_NE(rank, nullptr);
  OnAll(ranks);
}

TEST(GroupTest, AGroupWithoutThisRankIsRefused) {
  const auto ranks = MakeInProcessCommunicators(3);
  EXPECT_FALSE(MakeGroup(ranks[0].get(), {1, 2}).ok());
  EXPECT_FALSE(MakeGroup(ranks[0].get(), {0, 0}).ok());
  EXPECT_FALSE(MakeGroup(ranks[0].get(), {0, 3}).ok());
  EXPECT_FALSE(MakeGroup(ranks[0].get(), {0, -1}).ok());
  EXPECT_TRUE(MakeGroup(ranks[0].get(), {2, 0}).ok());
}

}  // namespace
}  // namespace autospc
