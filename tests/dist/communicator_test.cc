// Collectives over each transport: what they compute, the same bits on every rank, errors.
#include "runtime/dist/communicator.h"

#include <c10/util/BFloat16.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "runtime/dist/gloo.h"
#include "runtime/dist/in_process.h"

namespace autospc {
namespace {

using c10::ScalarType;

// The ranks' communicators; those of Gloo meet in this process, over TCP.
std::vector<std::unique_ptr<Communicator>> Make(bool gloo, int size) {
  if (!gloo) return MakeInProcessCommunicators(size);
  auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<std::unique_ptr<Communicator>> ranks(size);
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r) {
    threads.emplace_back([&, r] {
      auto made = MakeGlooCommunicator(store, r, size, "127.0.0.1");
      if (made.ok()) ranks[r] = std::move(made).value();
    });
  }
  for (std::thread& t : threads) t.join();
  return ranks;
}

void OnRanks(std::vector<std::unique_ptr<Communicator>>& ranks, const std::function<void(Communicator&)>& run) {
  std::vector<std::thread> threads;
  for (auto& rank : ranks) {
    ASSERT_NE(rank, nullptr);
    threads.emplace_back([&] { run(*rank); });
  }
  for (std::thread& t : threads) t.join();
}

struct Case {
  bool gloo;
  int size;
};
class TransportTest : public testing::TestWithParam<Case> {
 protected:
  void Run(const std::function<void(Communicator&)>& run) {
    auto ranks = Make(GetParam().gloo, GetParam().size);
    OnRanks(ranks, run);
  }
};
INSTANTIATE_TEST_SUITE_P(Transports, TransportTest,
                         testing::Values(Case{false, 2}, Case{false, 5}, Case{true, 2}, Case{true, 3}),
                         [](const auto& info) {
                           return (info.param.gloo ? "Gloo" : "Threads") + std::to_string(info.param.size);
                         });

TEST_P(TransportTest, GatherExchangeBroadcast) {
  Run([](Communicator& c) {
    const int p = c.size(), r = c.rank();
    std::vector<int> all(3 * p);
    for (int i = 0; i < 3; ++i) all[3 * r + i] = 10 * r + i;
    ASSERT_TRUE(c.AllGather(&all[3 * r], all.data(), 12).ok());  // in place
    std::vector<int> out(p), in(p);
    for (int i = 0; i < p; ++i) in[i] = 100 * r + i;
    ASSERT_TRUE(c.AllToAll(in.data(), out.data(), 4).ok());
    int word = r == p - 1 ? 77 : 0;
    ASSERT_TRUE(c.Broadcast(&word, 4, p - 1).ok());
    ASSERT_TRUE(c.Barrier().ok());
    for (int i = 0; i < p; ++i) {
      EXPECT_EQ(all[3 * i + 2], 10 * i + 2);
      EXPECT_EQ(out[i], 100 * i + r);
    }
    EXPECT_EQ(word, 77);
    EXPECT_EQ(c.traffic().at("all_gather").bytes, 12 * (p - 1));
    EXPECT_EQ(c.traffic().at("all_to_all").bytes, 4 * (p - 1));
  });
}

// The sum is that of the ranks' addends in the order of ranks, whatever the staging and the transport.
TEST_P(TransportTest, SumsAreThoseOfTheOrderOfRanks) {
  for (const int64_t n : {1, 7, 1000, 40000}) {
    for (const bool little : {false, true}) {
      const auto value = [](int r, int64_t i) {
        return std::sin(0.37f * static_cast<float>(i) + static_cast<float>(r)) * std::pow(10.f, static_cast<float>(r));
      };
      Run([&](Communicator& c) {
        std::vector<float> x(n);
        std::vector<c10::BFloat16> half(n);
        for (int64_t i = 0; i < n; ++i) x[i] = value(c.rank(), i), half[i] = x[i];
        // All at once, or in about seven rounds.
        std::vector<char> staging(c.MinStaging(ScalarType::Float) + (little ? n * 4 / 7 : n * 4));
        ASSERT_TRUE(c.AllReduce(x.data(), n, ScalarType::Float, ReduceOp::kSum, staging.data(), staging.size()).ok());
        ASSERT_TRUE(
            c.AllReduce(half.data(), n, ScalarType::BFloat16, ReduceOp::kSum, staging.data(), staging.size()).ok());
        for (int64_t i = 0; i < n; ++i) {
          float sum = 0, half_sum = 0;
          for (int r = 0; r < c.size(); ++r) {
            sum = r == 0 ? value(r, i) : sum + value(r, i);
            half_sum += static_cast<float>(c10::BFloat16(value(r, i)));
          }
          ASSERT_EQ(x[i], sum) << i;
          ASSERT_EQ(half[i], c10::BFloat16(half_sum)) << i;
        }
      });
    }
  }
}

TEST_P(TransportTest, MaximaKeepNan) {
  Run([](Communicator& c) {
    std::vector<double> x = {static_cast<double>(c.rank()),
                             c.rank() == 1 ? std::numeric_limits<double>::quiet_NaN() : 3.0, -1.0};
    std::vector<char> staging(c.MinStaging(ScalarType::Double));
    ASSERT_TRUE(c.AllReduce(x.data(), 3, ScalarType::Double, ReduceOp::kMax, staging.data(), staging.size()).ok());
    EXPECT_EQ(x[0], c.size() - 1);
    EXPECT_TRUE(std::isnan(x[1]));
    EXPECT_EQ(x[2], -1.0);
  });
}

TEST(CommunicatorTest, OneRankCopies) {
  auto one = MakeSingleCommunicator();
  float in[2] = {1, 2}, out[2] = {};
  ASSERT_TRUE(one->AllGather(in, out, 8).ok());
  EXPECT_EQ(out[1], 2);
  ASSERT_TRUE(one->AllReduce(in, 2, ScalarType::Float, ReduceOp::kSum, nullptr, 0).ok());
  EXPECT_EQ(in[0], 1);
}

TEST(CommunicatorTest, AbortEndsWaitingRanks) {
  auto ranks = MakeInProcessCommunicators(2);
  std::thread waiting([&] {
    const Status status = ranks[0]->Barrier();
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, Code::kInterrupted);
  });
  ranks[1]->Abort();
  waiting.join();
}

TEST(CommunicatorTest, UnequalSizesAreFound) {
  auto ranks = MakeInProcessCommunicators(2);
  std::vector<Status> results(2, Ok());
  OnRanks(ranks, [&](Communicator& c) {
    char in[8] = {}, out[16];
    results[c.rank()] = c.AllGather(in, out, c.rank() == 0 ? 4 : 8);
  });
  const std::string text = (results[0].ok() ? results[1] : results[0]).error().Format();
  EXPECT_TRUE(!results[0].ok() && !results[1].ok()) << text;
}

TEST(CommunicatorTest, AGonePeerIsAnError) {
  auto ranks = Make(/*gloo=*/true, 2);
  ASSERT_TRUE(ranks[0] && ranks[1]);
  ranks[1].reset();
  const Status status = ranks[0]->Barrier();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kPeerFailed) << status.error().Format();
}

TEST(ReduceRowsTest, RefusesWhatHasNoSum) {
  char x[4] = {};
  EXPECT_FALSE(ReduceRows(x, x, 1, 1, ScalarType::Bool, ReduceOp::kSum).ok());
  EXPECT_TRUE(ReduceRows(x, x, 1, 1, ScalarType::Bool, ReduceOp::kMax).ok());
  EXPECT_FALSE(ParseReduceOp("mean").ok());
}

}  // namespace
}  // namespace autospc
