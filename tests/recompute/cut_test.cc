// The minimum cut against all subsets, and the hull that the sweep over prices finds.
#include "passes/recompute/min_cut.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace autospc::recompute {
namespace {

// A forward pass of `items` items of one or two results each, whose inputs are earlier results, and a backward item that
// reads some of them.
Problem RandomProblem(std::mt19937& rng, int items) {
  Problem problem;
  for (int i = 0; i < items; ++i) {
    Item item;
    item.seconds = 0.5 + static_cast<double>(rng() % 1000) / 100;
    item.repeatable = rng() % 10 != 0;
    for (int k = static_cast<int>(rng() % 3); k > 0 && !problem.stores.empty(); --k) {
      const int s = static_cast<int>(rng() % problem.stores.size());
      if (std::find(item.reads.begin(), item.reads.end(), s) == item.reads.end()) item.reads.push_back(s);
    }
    for (int k = 1 + static_cast<int>(rng() % 5 == 0); k > 0; --k) {
      item.makes.push_back(static_cast<int>(problem.stores.size()));
      problem.stores.push_back({64 * static_cast<int64_t>(1 + rng() % 30), i, !item.repeatable && rng() % 2 == 0, ir::kNoValue});
    }
    problem.items.push_back(item);
  }
  problem.backward = items;
  Item back;
  for (int s = 0; s < static_cast<int>(problem.stores.size()); ++s) {
    if (rng() % 2) back.reads.push_back(s);
  }
  problem.items.push_back(back);
  return problem;
}

// Of all sets of items that run again: the least seconds + price * bytes, by trying each.
double LeastCost(const Problem& problem, double price) {
  const int n = problem.backward;
  double least = std::numeric_limits<double>::infinity();
  for (unsigned again = 0; again < 1u << n; ++again) {
    double cost = 0;
    std::vector<bool> had(problem.stores.size(), false);
    for (const int s : problem.items[n].reads) had[s] = true;
    for (int i = 0; i < n; ++i) {
      if (!(again >> i & 1)) continue;
      cost += problem.items[i].repeatable ? problem.items[i].seconds : std::numeric_limits<double>::infinity();
      for (const int s : problem.items[i].reads) had[s] = true;
    }
    for (size_t s = 0; s < had.size(); ++s) {
      const Store& store = problem.stores[s];
      if (had[s] && !(again >> store.maker & 1) && !store.fixed) cost += price * static_cast<double>(store.bytes);
    }
    least = std::min(least, cost);
  }
  return least;
}

TEST(MinCut, IsTheLeastOfAllSubsets) {
  std::mt19937 rng(11);
  int mixed = 0;
  for (int i = 0; i < 120; ++i) {
    const Problem problem = RandomProblem(rng, 3 + static_cast<int>(rng() % 9));
    for (const double price : {1e-6, 0.0005, 0.003, 0.01, 0.05, 1.0}) {
      const Cut cut = MinCut(problem, price);
      const double least = LeastCost(problem, price);
      // The capacities are whole numbers of 1e-15 of all costs.
      EXPECT_NEAR(cut.seconds + price * cut.bytes, least, 1e-9 * (1 + least)) << "graph " << i << ", price " << price;
      mixed += cut.seconds > 0 && cut.bytes > 0;
    }
  }
  EXPECT_GT(mixed, 100);
}

TEST(MinCut, AnInfinitePriceKeepsTheFewestBytes) {
  std::mt19937 rng(12);
  for (int i = 0; i < 60; ++i) {
    const Problem problem = RandomProblem(rng, 8);
    const Cut cut = MinCut(problem, std::numeric_limits<double>::infinity());
    const double price = 1e6;
    EXPECT_NEAR(cut.seconds + price * cut.bytes, LeastCost(problem, price), 1e-6 * (1 + price * cut.bytes)) << "graph " << i;
  }
}

// What is kept is what the cut says: the backward pass has all that it reads, at the bytes and seconds that are stated.
TEST(MinCut, KeepsWhatItCounts) {
  std::mt19937 rng(13);
  for (int i = 0; i < 60; ++i) {
    const Problem problem = RandomProblem(rng, 10);
    const Cut cut = MinCut(problem, 0.005);
    std::vector<bool> needed(problem.stores.size(), false);
    for (const int s : problem.items[problem.backward].reads) needed[s] = true;
    double bytes = 0, seconds = 0;
    for (int n = problem.backward; n-- > 0;) {
      const Item& item = problem.items[n];
      const bool again = std::any_of(item.makes.begin(), item.makes.end(), [&](int s) { return needed[s] && !cut.keep[s]; });
      for (const int s : item.makes) bytes += needed[s] && cut.keep[s] && !problem.stores[s].fixed ? static_cast<double>(problem.stores[s].bytes) : 0;
      if (!again) continue;
      EXPECT_TRUE(item.repeatable);
      seconds += item.seconds;
      for (const int s : item.reads) needed[s] = true;
    }
    EXPECT_DOUBLE_EQ(bytes, cut.bytes) << "graph " << i;
    EXPECT_NEAR(seconds, cut.seconds, 1e-9) << "graph " << i;
  }
}

TEST(SweepPrices, FindsTheWholeConvexHull) {
  std::mt19937 rng(14);
  int corners = 0;
  for (int i = 0; i < 60; ++i) {
    const Problem problem = RandomProblem(rng, 4 + static_cast<int>(rng() % 8));
    const std::vector<Cut> cuts = SweepPrices(problem, 64);
    ASSERT_GE(cuts.size(), 2u);
    double steeper = 0;
    for (size_t k = 1; k < cuts.size(); ++k) {
      const double bytes = cuts[k - 1].bytes - cuts[k].bytes;
      EXPECT_GE(bytes, 0);
      if (bytes == 0) continue;
      const double slope = (cuts[k].seconds - cuts[k - 1].seconds) / bytes;
      EXPECT_GE(slope, steeper * (1 - 1e-9)) << "graph " << i << ": not convex at corner " << k;
      steeper = slope;
    }
    // No price finds anything under the hull.
    for (int k = 0; k < 10; ++k) {
      const double price = std::pow(10.0, -5 + 0.5 * k);
      double hull = std::numeric_limits<double>::infinity();
      for (const Cut& cut : cuts) hull = std::min(hull, cut.seconds + price * cut.bytes);
      EXPECT_NEAR(hull, LeastCost(problem, price), 1e-6 * (1 + hull)) << "graph " << i << ", price " << price;
    }
    corners += static_cast<int>(cuts.size()) - 2;
  }
  EXPECT_GT(corners, 60);
}

TEST(SweepPrices, StopsAtTheGivenNumber) {
  std::mt19937 rng(15);
  const Problem problem = RandomProblem(rng, 30);
  const size_t all = SweepPrices(problem, 1000).size();
  ASSERT_GT(all, 5u);
  EXPECT_EQ(SweepPrices(problem, 4).size(), 4u);
}

}  // namespace
}  // namespace autospc::recompute
