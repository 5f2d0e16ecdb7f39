#include "passes/recompute/segments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "passes/recompute/schedule.h"

namespace autospc::recompute {
namespace {

// A forward pass of blocks: each reads what the block before gave (64 bytes), makes `inner` storages of 1,024 bytes in
// a chain, and gives 64 bytes. The backward pass reads all inner ones, from the last.
Problem Blocks(int blocks, int inner) {
  Problem p;
  const auto add = [&p](std::vector<int> reads, int64_t bytes, bool repeatable) {
    Item item;
    item.reads = std::move(reads);
    const int index = static_cast<int>(p.items.size());
    if (bytes > 0) {
      item.makes.push_back(static_cast<int>(p.stores.size()));
      p.stores.push_back({bytes, index, false, ir::kNoValue});
    }
    item.seconds = 1;
    item.repeatable = repeatable;
    item.before = 1 << 30;
    p.items.push_back(item);
    return static_cast<int>(p.stores.size()) - 1;
  };
  std::vector<int> inside;
  int last = add({}, 64, true);
  for (int b = 0; b < blocks; ++b) {
    for (int i = 0; i < inner; ++i) {
      last = add({last}, 1024, true);
      inside.push_back(last);
    }
    last = add({last}, 64, true);
  }
  p.backward = static_cast<int>(p.items.size());
  last = add({inside.back()}, 64, false);
  for (auto it = inside.rbegin() + 1; it != inside.rend(); ++it) last = add({last, *it}, 64, false);
  return p;
}

TEST(KeepBorders, FallWhereTheForwardPassIsNarrow) {
  const Problem p = Blocks(8, 3);
  EXPECT_EQ(Segments(p).backward_bytes(), 8 * 3 * 1024);
  const std::vector<bool> keep = Segments(p).KeepBorders(2 * 3 * 1024);
  int kept = 0;
  for (size_t s = 0; s < keep.size(); ++s) {
    if (!keep[s]) continue;
    ++kept;
    EXPECT_EQ(p.stores[s].bytes, 64) << "storage " << s << " is inside a block";
  }
  EXPECT_EQ(kept, 3) << "eight blocks, two to a segment: three borders between four";
}

TEST(KeepBorders, OneSegmentKeepsNothing) {
  const Problem p = Blocks(4, 3);
  const std::vector<bool> keep = Segments(p).KeepBorders(Segments(p).backward_bytes());
  EXPECT_EQ(std::count(keep.begin(), keep.end(), true), 0);
}

TEST(KeepBorders, AnItemLargerThanASegmentIsOne) {
  const Problem p = Blocks(4, 1);
  const std::vector<bool> keep = Segments(p).KeepBorders(100);
  EXPECT_EQ(std::count(keep.begin(), keep.end(), true), 3) << "what each block gives the next";
  for (size_t s = 0; s < keep.size(); ++s) EXPECT_FALSE(keep[s] && p.stores[s].bytes > 64);
}

// Of n blocks sqrt(n) to a segment: the peak is about 2 sqrt(n) blocks' bytes, not n.
TEST(KeepBorders, PeakFollowsTheSegment) {
  const Problem p = Blocks(64, 4);
  const int all = static_cast<int>(p.items.size());
  const Schedule whole = Replay(p, std::vector<bool>(p.stores.size(), true), all);
  EXPECT_GE(whole.peak, Segments(p).backward_bytes());
  const Schedule segments = Replay(p, Segments(p).KeepBorders(Segments(p).backward_bytes() / 8), all);
  EXPECT_LT(segments.peak, whole.peak / 6);
  EXPECT_LE(segments.again_seconds, static_cast<double>(p.backward)) << "each item at most once more";
}

}  // namespace
}  // namespace autospc::recompute
