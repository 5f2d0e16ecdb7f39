// ZeRO's shards in the step's passes: each parameter flattened and cut evenly over all ranks, what the optimiser keeps
// of it and (stage 2) its gradient held as the rank's own block. Source: Rajbhandari et al., "ZeRO: Memory
// Optimizations Toward Training Trillion Parameter Models", 2020.
#pragma once

#include <cstdint>

#include "passes/framework/pass.h"

namespace autospc::step {

// 0, 1 or 2: the stage that the options ask for, where there are several ranks and something to shard. -1 is for
// the driver, which makes it 0 or 2 (compiler/fastest.h); what runs with -1 itself takes 0.
int ZeroStage(const PassContext& context);

// Elements of a rank's block of a tensor of n.
inline int64_t BlockLength(int64_t n, int ranks) { return (n + ranks - 1) / ranks; }

// A block [BlockLength(n)] of n elements over `ranks`.
inline ir::Placement BlockPlacement(int64_t n, int ranks) {
  return ir::Placement::Sharded(0, n, BlockLength(n, ranks));
}

}  // namespace autospc::step
