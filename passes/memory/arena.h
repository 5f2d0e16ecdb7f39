// Placement of blocks with known lifetimes at offsets of one arena (dynamic storage allocation, NP-hard;
// greedy orders with a gap search, then moves of the block that makes the peak, as in Lee and Pisarchyk,
// "Efficient Memory Management for Deep Neural Net Inference", and XLA's GlobalDecreasingSizeBestFitHeap).
#pragma once

#include <cstdint>
#include <vector>

namespace autospc::memory {

struct Block {
  int64_t bytes = 0;  // a multiple of the alignment: so are the offsets then
  int first = 0;      // instructions, inclusive
  int last = 0;
};

struct ArenaPlacement {
  std::vector<int64_t> offsets;  // by block
  int64_t peak = 0;              // bytes
};

// The most bytes alive at one instruction.
int64_t MaxLiveBytes(const std::vector<Block>& blocks);

// Deterministic. Stops early where the peak is within half a thousandth of MaxLiveBytes, which no placement can
// beat. `effort` bounds the search: no order is tried after so many blocks were placed and neighbours looked at.
ArenaPlacement PackArena(const std::vector<Block>& blocks, int64_t effort = 1'000'000);

}  // namespace autospc::memory
