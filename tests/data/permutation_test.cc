// The shuffled order: a permutation for every size, other for every seed, and without structure to speak of.
#include "runtime/data/permutation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <vector>

namespace autospc::data {
namespace {

TEST(PermutationTest, EverySizeHasEachElementOnce) {
  for (int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 1000, 4096, 4097}) {
    for (uint64_t seed : {0, 1, 77}) {
      const Permutation order(n, seed);
      std::vector<int> seen(n, 0);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t x = order(i);
        ASSERT_TRUE(x >= 0 && x < n) << n;
        ++seen[x];
      }
      for (int64_t i = 0; i < n; ++i) ASSERT_EQ(seen[i], 1) << i << " of " << n << ", seed " << seed;
    }
  }
}

TEST(PermutationTest, HoldsForSizesThatNobodyCouldHold) {
  const int64_t n = (int64_t{1} << 61) + 12345;
  const Permutation order(n, 3);
  EXPECT_NE(order(0), order(1));
  for (int64_t i : {int64_t{0}, int64_t{1}, n - 1}) EXPECT_TRUE(order(i) >= 0 && order(i) < n);
}

TEST(PermutationTest, IsTheSameOnEveryMachine) {
  // Written down once: a change would reorder the data of a run that is resumed.
  const Permutation order(10, 42);
  std::vector<int64_t> values;
  for (int64_t i = 0; i < 10; ++i) values.push_back(order(i));
  EXPECT_EQ(values, (std::vector<int64_t>{9, 3, 0, 7, 1, 2, 6, 8, 4, 5}));
}

// Neighbours land as far from each other as in a random order: their mean distance is (n + 1) / 3, and a mean of n - 1
// nearly independent distances of deviation n / sqrt(18) lies within five of its own deviations.
TEST(PermutationTest, SeparatesNeighboursAndSeeds) {
  const int64_t n = 20000;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const Permutation order(n, EpochSeed(7, static_cast<int64_t>(seed))),
        other(n, EpochSeed(8, static_cast<int64_t>(seed)));
    double neighbours = 0, seeds = 0;
    for (int64_t i = 0; i + 1 < n; ++i) {
      neighbours += static_cast<double>(std::abs(order(i) - order(i + 1)));
      seeds += static_cast<double>(std::abs(order(i) - other(i)));
    }
    const double expected = static_cast<double>(n + 1) / 3,
                 deviation = static_cast<double>(n) / std::sqrt(18.0 * static_cast<double>(n));
    EXPECT_NEAR(neighbours / static_cast<double>(n - 1), expected, 5 * deviation);
    EXPECT_NEAR(seeds / static_cast<double>(n - 1), expected, 5 * deviation);
  }
}

}  // namespace
}  // namespace autospc::data
