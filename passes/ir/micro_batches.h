// The part of a step's graph that runs once for each of its micro-batches (passes/step/micro_batches.h).
#pragma once

#include <string_view>

#include "passes/ir/graph.h"

namespace autospc::ir {

inline constexpr std::string_view kEachMicroBatch = "autosp.each_micro_batch_", kMicroBatchesEnd = "autosp.micro_batches_end_";

inline bool EndsPart(const Node& node) { return node.op == kEachMicroBatch || node.op == kMicroBatchesEnd; }

// How many times what follows `node` runs in a step, where before it that was `times`.
inline int TimesBehind(const Node& node, int times) {
  if (node.op == kEachMicroBatch) return static_cast<int>(node.args[0].int_value());
  return node.op == kMicroBatchesEnd ? 1 : times;
}

}  // namespace autospc::ir
