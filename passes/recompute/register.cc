#include "passes/recompute/register.h"

#include <utility>
#include <deque>

#include "passes/recompute/fit.h"
#include "runtime/base/bytes.h"

namespace autospc::recompute {
namespace {

Result<bool> Recompute(ir::Graph& graph, PassContext& context) {
  std::deque<Form> forms(1);
  forms[0].graph = &graph;
  forms[0].problem = Describe(graph, {}, {});
  forms[0].candidates = FindCandidates(graph, forms[0].problem, context.recompute);
  ASSIGN_OR_RETURN(Choice choice, ChooseWithin(forms, context.memory_budget, {}));
  if (!choice.fits) {
    return Error{Code::kDoesNotFit, fmt::format("the step needs {} a rank, {} more than the budget", FormatBytes(choice.peak_bytes),
                                                FormatBytes(choice.peak_bytes - context.memory_budget)), graph.name,
                 "raise --memory-budget, or use more ranks or a shorter sequence"};
  }
  const Schedule& schedule = forms[0].candidates[choice.candidate].schedule;
  const bool changed = schedule.steps.size() != forms[0].problem.items.size();
  graph = std::move(choice.graph);
  return changed;
}

}  // namespace

void RegisterRecomputePasses(PassRegistry& registry) {
  registry.Add({"recompute", "run forward instructions again instead of keeping their results, as the budget asks", Recompute});
}

}  // namespace autospc::recompute
