// From the partitioned forward graph to the step that is run: of all forms that compete, the fastest that fits.
#pragma once

#include <string>
#include <vector>

#include "compiler/plan.h"
#include "passes/framework/manager.h"
#include "passes/framework/pass.h"
#include "passes/ir/graph.h"
#include "passes/memory/storage.h"

namespace autospc {

// The step with its memory plan.
struct Planned {
  ir::Graph graph;
  memory::MemoryPlan plan;
};

// What a package is made for.
struct Target {
  std::string device = "cpu";   // whose kernels run it: "cpu" or "cuda"
  std::string machine = "cpu";  // whose rates estimate time: "cpu" or "h100" (codegen/rates.h)
};

// Differentiates `forward`, adds the step, and chooses what is computed again. Forms that compete: the graph as it is,
// and tiled at each level (context.tile), each with its candidates (passes/recompute/choose.h). Time is estimated with
// the rates of the target's machine. With a budget (context.memory_budget) the fastest candidate whose plan fits
// it, else the fastest; where nothing fits, the smallest, so that its peak can be shown: compare the program's bytes
// with the budget. context.zero < 0 becomes 0 where everything fits as it is, else 2.
// `weigh_all`: candidates are weighed even where the fastest fits, for `curve`.
Result<Planned> FastestThatFits(const ir::Graph& forward, PassContext& context, const Target& target, bool weigh_all,
                                  PassManager& manager, std::vector<PlanPoint>* curve);

// Whether LibTorch has an `.out` overload of this op that writes where it is told.
bool HasOut(const std::string& op);

}  // namespace autospc
