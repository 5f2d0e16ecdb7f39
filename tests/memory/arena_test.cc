#include "passes/memory/arena.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace autospc::memory {
namespace {

bool Disjoint(const std::vector<Block>& blocks, const ArenaPlacement& placement) {
  for (size_t a = 0; a < blocks.size(); ++a) {
    for (size_t b = 0; b < a; ++b) {
      const bool in_time = blocks[a].first <= blocks[b].last && blocks[b].first <= blocks[a].last;
      const bool in_space = placement.offsets[a] < placement.offsets[b] + blocks[b].bytes &&
                            placement.offsets[b] < placement.offsets[a] + blocks[a].bytes;
      if (in_time && in_space) return false;
    }
  }
  return true;
}

int64_t Peak(const std::vector<Block>& blocks, const std::vector<int64_t>& offsets) {
  int64_t peak = 0;
  for (size_t b = 0; b < blocks.size(); ++b) peak = std::max(peak, offsets[b] + blocks[b].bytes);
  return peak;
}

// The best placement there is: some order of lowest-fit placements reaches it.
int64_t OptimalPeak(const std::vector<Block>& blocks) {
  std::vector<int> order(blocks.size());
  std::iota(order.begin(), order.end(), 0);
  int64_t best = INT64_MAX;
  do {
    std::vector<int64_t> offsets(blocks.size(), 0);
    for (size_t i = 0; i < order.size(); ++i) {
      const Block& b = blocks[order[i]];
      int64_t at = 0;
      for (bool moved = true; moved;) {
        moved = false;
        for (size_t j = 0; j < i; ++j) {
          const Block& o = blocks[order[j]];
          const int64_t from = offsets[order[j]];
          if (b.first <= o.last && o.first <= b.last && at < from + o.bytes && from < at + b.bytes) {
            at = from + o.bytes;
            moved = true;
          }
        }
      }
      offsets[order[i]] = at;
    }
    best = std::min(best, Peak(blocks, offsets));
  } while (std::next_permutation(order.begin(), order.end()));
  return best;
}

std::vector<Block> Random(std::mt19937& rng, int count, int length) {
  std::vector<Block> blocks;
  for (int i = 0; i < count; ++i) {
    const int first = static_cast<int>(rng() % length);
    const int last = std::min<int>(length - 1, first + static_cast<int>(rng() % (rng() % 3 == 0 ? length : 4)));
    blocks.push_back({static_cast<int64_t>(64 * (1 + rng() % 9)), first, last});
  }
  return blocks;
}

TEST(Arena, MaxLiveBytesCountsInclusiveEnds) {
  EXPECT_EQ(MaxLiveBytes({{64, 0, 1}, {128, 1, 2}, {256, 3, 3}}), 256);
  EXPECT_EQ(MaxLiveBytes({{64, 0, 1}, {256, 1, 2}, {128, 2, 3}}), 384);
  EXPECT_EQ(MaxLiveBytes({}), 0);
}

TEST(Arena, NestedLifetimesNeedNoMoreThanIsAlive) {
  std::vector<Block> blocks;  // forward saved, backward freed
  for (int i = 0; i < 50; ++i) blocks.push_back({64 * (1 + i % 7), i, 99 - i});
  const ArenaPlacement p = PackArena(blocks);
  EXPECT_TRUE(Disjoint(blocks, p));
  EXPECT_EQ(p.peak, MaxLiveBytes(blocks));
}

TEST(Arena, EmptyBlocksTakeNothing) {
  const ArenaPlacement p = PackArena({{0, 0, 5}, {64, 1, 2}, {0, 2, 2}});
  EXPECT_EQ(p.peak, 64);
  EXPECT_EQ(p.offsets.size(), 3u);
  EXPECT_EQ(PackArena({}).peak, 0);
  EXPECT_EQ(PackArena({{0, 0, 0}}).peak, 0);
}

TEST(Arena, RandomSmallProblemsAreNearlyOptimal) {
  std::mt19937 rng(7);
  int optimal = 0;
  const int kProblems = 150;
  for (int i = 0; i < kProblems; ++i) {
    const std::vector<Block> blocks = Random(rng, 7, 8);
    const ArenaPlacement p = PackArena(blocks);
    ASSERT_TRUE(Disjoint(blocks, p)) << "problem " << i;
    ASSERT_EQ(p.peak, Peak(blocks, p.offsets));
    const int64_t best = OptimalPeak(blocks);
    ASSERT_GE(p.peak, best);
    EXPECT_LE(p.peak, best + best / 4) << "problem " << i;
    optimal += p.peak == best;
  }
  EXPECT_GE(optimal, kProblems * 95 / 100);
}

TEST(Arena, RandomLargerProblems) {
  std::mt19937 rng(11);
  for (int i = 0; i < 60; ++i) {
    const std::vector<Block> blocks = Random(rng, 20 + rng() % 300, 10 + rng() % 200);
    const ArenaPlacement p = PackArena(blocks);
    ASSERT_TRUE(Disjoint(blocks, p)) << "problem " << i;
    EXPECT_GE(p.peak, MaxLiveBytes(blocks));
    EXPECT_LE(p.peak, MaxLiveBytes(blocks) * 1.15);
    for (int64_t offset : p.offsets) EXPECT_EQ(offset % 64, 0);
    EXPECT_EQ(PackArena(blocks).offsets, p.offsets) << "not deterministic";
  }
}

// The shape of a training step: each layer saves activations for its backward pass and makes temporaries.
std::vector<Block> TrainingStep(int layers, int ops, bool gradients_stay) {
  std::mt19937 rng(3);
  const int length = layers * ops * 3;
  std::vector<Block> blocks;
  const int64_t unit = 1 << 20;
  for (int l = 0; l < layers; ++l) {
    for (int o = 0; o < ops; ++o) {
      const int at = l * ops + o;
      const int64_t bytes = unit * (1 + static_cast<int64_t>(rng() % 4) * (o % 5 == 0 ? 7 : 1)) + 64 * (rng() % 16);
      const int back = length - 1 - 2 * at;
      const bool saved = o % 3 != 0;
      blocks.push_back({bytes, at, saved ? back : std::min<int>(at + 1 + static_cast<int>(rng() % 6), length - 1)});
      blocks.push_back({bytes, back - 1, std::min(back + 1 + static_cast<int>(rng() % 5), length - 1)});
      if (o % 8 == 0) blocks.push_back({4 * unit, back, gradients_stay ? length - 1 : std::min(back + 20, length - 1)});
      if (o % 4 == 0) blocks.push_back({unit / 2, at, at});
    }
  }
  return blocks;
}

TEST(Arena, LargeGraphsAreQuickAndTight) {
  for (const auto& [layers, limit_ms] : {std::pair{32, 300}, std::pair{80, 1000}}) {
    for (const bool stay : {false, true}) {
      const std::vector<Block> blocks = TrainingStep(layers, 75, stay);
      const auto start = std::chrono::steady_clock::now();
      const ArenaPlacement p = PackArena(blocks);
      const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start).count();
      RecordProperty(fmt::format("ms_{}_{}", layers, stay), static_cast<int>(ms));
      std::printf("%zu blocks, %d layers: %lld ms, %.3f of what is alive\n", blocks.size(), layers, static_cast<long long>(ms),
                  static_cast<double>(p.peak) / MaxLiveBytes(blocks));
      EXPECT_LT(ms, limit_ms * 3) << "three times the budget, for a busy machine";
      EXPECT_LE(p.peak, MaxLiveBytes(blocks) * 1.03);
    }
  }
}

}  // namespace
}  // namespace autospc::memory
