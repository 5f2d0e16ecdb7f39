#include "compiler/planner.h"

#include "runtime/base/stopwatch.h"

namespace autospc {
namespace {

// Settings that --zero auto goes over, by rising level. Without another rank or anything to shard there is one.
std::vector<int> ZeroLevels(const PlanRequest& request, const Mesh& mesh) {
  if (!request.zero_auto) return {request.options.context.zero};
  if (mesh.ranks() == 1) return {0};
  return {0, 1, 2};
}

Setting SettingOf(const PlanRequest& request, const Mesh& mesh, int zero) {
  const PassContext& context = request.options.context;
  return {mesh.ranks(), request.options.bindings.seq_len, zero, context.recompute, context.tile, mesh.dp};
}

Result<PlanRow> PlanLength(const PlanRequest& request, Trials& trials, const Mesh& mesh) {
  PlanRow row;
  row.mesh = mesh;
  for (const int zero : ZeroLevels(request, mesh)) {
    ASSIGN_OR_RETURN(const Trial* trial, trials.Run(SettingOf(request, mesh, zero)));
    row.settings.push_back(*trial);
    const bool faster = row.chosen < 0 || trial->cost.total.seconds < row.settings[row.chosen].cost.total.seconds;
    if (trial->fits && faster) row.chosen = static_cast<int>(row.settings.size()) - 1;
  }
  return row;
}

// Sharding more never needs more: the highest level decides how long a sequence fits.
Result<PlanRow> PlanLongest(const PlanRequest& request, Trials& trials, const Mesh& mesh) {
  PlanRow row;
  row.mesh = mesh;
  ASSIGN_OR_RETURN(row.longest, FindLongest(trials, SettingOf(request, mesh, ZeroLevels(request, mesh).back())));
  return row;
}

}  // namespace

Result<Plan> MakePlan(const PlanRequest& request) {
  const CompileOptions& options = request.options;
  if (!options.bindings.seq_len && options.context.memory_budget == 0) {
    return Error{Code::kUsage, "there is nothing to plan for", "",
                 "give --memory-budget 80GiB for the longest sequence, or --seq-len N for what it needs"};
  }
  const Stopwatch watch;
  ASSIGN_OR_RETURN(import::Model model, ImportModel(options));
  Plan plan;
  plan.model = model.graph.name;
  plan.strategy = options.context.strategy;
  plan.optimizer = options.context.optimizer;
  plan.machine = options.machine;
  plan.budget = options.context.memory_budget;
  plan.seq_len = options.bindings.seq_len;
  Trials trials(std::move(model), options);
  trials.curves = plan.seq_len.has_value();
  double least = 0;
  for (const Mesh& mesh : request.meshes) {
    ASSIGN_OR_RETURN(PlanRow row, plan.seq_len ? PlanLength(request, trials, mesh) : PlanLongest(request, trials, mesh));
    if (row.chosen >= 0) {
      const double cost = row.settings[row.chosen].cost.total.seconds * mesh.ranks();
      if (plan.cheapest < 0 || cost < least) {
        plan.cheapest = static_cast<int>(plan.rows.size());
        least = cost;
      }
    }
    plan.rows.push_back(std::move(row));
  }
  plan.trials = trials.count();
  plan.seconds = watch.Seconds();
  return plan;
}

Status CheckPlanFits(const Plan& plan) {
  const Trial* smallest = nullptr;
  const auto look = [&](const Trial& trial) {
    if (smallest == nullptr || trial.memory.total_bytes() < smallest->memory.total_bytes()) smallest = &trial;
  };
  for (const PlanRow& row : plan.rows) {
    if (row.chosen >= 0 || (row.longest && row.longest->best)) return Ok();
    for (const Trial& trial : row.settings) look(trial);
    if (row.longest && row.longest->too_long) look(*row.longest->too_long);
  }
  if (smallest == nullptr || !smallest->why) return Ok();
  return *smallest->why;
}

}  // namespace autospc
