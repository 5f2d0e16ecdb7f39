#include "passes/tile/cut.h"

#include <gtest/gtest.h>

namespace autospc::tile {
namespace {

// A chain 0 → 1 → … whose values weigh as given; the first is handed in, the last is used after.
std::vector<CutValue> Chain(const std::vector<int64_t>& weights) {
  std::vector<CutValue> values;
  const int nodes = static_cast<int>(weights.size()) - 1;
  for (int i = 0; i <= nodes; ++i) {
    CutValue v;
    v.producer = i - 1;
    if (i < nodes) v.consumers = {i};
    v.used_after = i == nodes;
    v.weight = weights[i];
    values.push_back(v);
  }
  return values;
}

TEST(NarrowestRegion, CutsAChainAtItsNarrowValues) {
  // Values 8 2 9 9 3 7: the region around the nines goes from the 2 to the 3.
  EXPECT_EQ(NarrowestRegion(5, Chain({8, 2, 9, 9, 3, 7}), {2}), (std::vector<bool>{false, true, true, true, false}));
}

TEST(NarrowestRegion, IsTheLargestAmongEqualOnes) {
  EXPECT_EQ(NarrowestRegion(4, Chain({2, 2, 9, 2, 2}), {1, 2}), (std::vector<bool>{true, true, true, true}));
}

TEST(NarrowestRegion, TakesTheAdditionOfAResidualStreamAlong) {
  // x (4) → 0 norm → 1 up → 2 down → 3 add, and x → 3: all of it, for with the addition outside x would pass by.
  std::vector<CutValue> values = Chain({4, 4, 9, 4, 4});
  values[0].consumers.push_back(3);
  EXPECT_EQ(NarrowestRegion(4, values, {1, 2}), (std::vector<bool>{true, true, true, true}));
}

TEST(NarrowestRegion, NoPathLeavesItAndComesBack) {
  // 0 → 1 → 2 and 0 → 3 → 2; 3's result is heavy. Nodes 0 and 2 are inside, so 1 and 3 are.
  std::vector<CutValue> values(5);
  values[0] = {-1, {0}, false, 1};
  values[1] = {0, {1, 3}, false, 1};
  values[2] = {1, {2}, false, 1};
  values[3] = {3, {2}, false, 100};
  values[4] = {2, {}, true, 1};
  EXPECT_EQ(NarrowestRegion(4, values, {0, 2}), (std::vector<bool>{true, true, true, true}));
}

TEST(NarrowestRegion, AValueWithSeveralUsesCountsOnce) {
  // The value of node 0 (5) has two uses, in nodes 1 and 2, whose results weigh 3 each: 5 < 6 is cut.
  std::vector<CutValue> values(5);
  values[0] = {-1, {0}, false, 50};
  values[1] = {0, {1, 2}, false, 5};
  values[2] = {1, {3}, false, 3};
  values[3] = {2, {3}, false, 3};
  values[4] = {3, {}, true, 1};
  EXPECT_EQ(NarrowestRegion(4, values, {3}), (std::vector<bool>{false, true, true, true}));
}

}  // namespace
}  // namespace autospc::tile
