#include "passes/memory/register.h"

#include "passes/memory/plan.h"
#include "runtime/base/bytes.h"

namespace autospc {
namespace {

Result<bool> PlanAndNote(ir::Graph& graph, PassContext& context) {
  ASSIGN_OR_RETURN(const memory::MemoryPlan plan, memory::PlanMemory(graph, {}));
  context.notes.push_back({fmt::format("arena of {} for {} instructions", FormatBytes(plan.arena_bytes), plan.instructions.size()),
                           fmt::format("{} alive at once", FormatBytes(plan.live_bytes)), "", plan.arena_bytes, 0});
  return false;
}

}  // namespace

void RegisterMemoryPasses(PassRegistry& registry) {
  registry.Add({"plan-memory", "plan the arena, check the plan and note its size", PlanAndNote});
}

}  // namespace autospc
