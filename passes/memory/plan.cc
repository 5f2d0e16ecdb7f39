#include "passes/memory/plan.h"

#include "passes/memory/arena.h"
#include "passes/memory/check.h"

namespace autospc::memory {
namespace {

void PlaceStorages(MemoryPlan& plan) {
  std::vector<Block> blocks;
  std::vector<int> owners;
  for (size_t i = 0; i < plan.storages.size(); ++i) {
    const Storage& s = plan.storages[i];
    if (IsPersistent(s.kind)) continue;
    blocks.push_back({Aligned(s.bytes), s.first, s.last});
    owners.push_back(static_cast<int>(i));
  }
  const ArenaPlacement placement = PackArena(blocks);
  for (size_t i = 0; i < owners.size(); ++i) plan.storages[owners[i]].offset = placement.offsets[i];
  plan.arena_bytes = placement.peak;
  plan.live_bytes = MaxLiveBytes(blocks);
}

Status CheckBound(const ir::Graph& graph) {
  for (ir::ValueId v = 0; v < graph.num_values(); ++v) {
    if (!graph.has_value(v)) continue;
    const ir::Value& value = graph.value(v);
    for (const auto* dims : {&value.sizes, &value.strides}) {
      for (const ir::Expr& e : *dims) {
        if (e.is_const()) continue;
        return Error{Code::kFailed, fmt::format("value {} has the symbolic size {}", value.name, e.ToString()),
                     value.producer == ir::kNoNode ? "" : graph.node(value.producer).source,
                     "memory is planned after sizes are bound and the graph is differentiated"};
      }
    }
  }
  return Ok();
}

}  // namespace

Result<MemoryPlan> PlanMemory(const ir::Graph& graph, const OpTraitsFn& traits) {
  RETURN_IF_ERROR(CheckBound(graph));
  MemoryPlan plan = FindStorages(graph, traits);
  PlaceStorages(plan);
  const std::vector<std::string> violations = CheckPlan(graph, plan, traits);
  if (!violations.empty()) {
    return Error{Code::kFailed, fmt::format("the memory plan is wrong in {} places: {}", violations.size(), violations[0]),
                 graph.name, "this is a bug of the planner; please report it with the graph"};
  }
  return plan;
}

}  // namespace autospc::memory
