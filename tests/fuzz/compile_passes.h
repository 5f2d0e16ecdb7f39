// The passes that a compilation runs before it differentiates, over a graph that came from anywhere.
#pragma once

#include <string>
#include <vector>

#include "passes/canonical/register.h"
#include "passes/framework/manager.h"
#include "passes/ir/verifier.h"
#include "passes/partition/register.h"
#include "tests/fuzz/check.h"

namespace autospc::fuzz {

// Pass by pass with the verifiers between, as the driver does, but without its files for the reproduction of errors.
// A pass may refuse the graph, and the verifiers may object to what it made of one whose recorded shapes are lies.
inline void RunPasses(ir::Graph graph, int ranks, const std::string& strategy, const ConstantReader& constants) {
  static const PassRegistry* const registry = [] {
    auto* all = new PassRegistry;
    RegisterCanonicalPasses(*all);
    partition::RegisterPartitionPasses(*all);
    return all;
  }();
  PassManager manager(*registry, {});
  PassContext context;
  context.ranks = ranks;
  context.strategy = strategy;
  context.constants = constants;
  std::vector<std::string> names = CanonicalPipeline();
  names.push_back("partition");
  for (const std::string& name : names) {
    const Status ran = manager.RunUnseen(graph, context, {name});
    if (!ran.ok()) return CheckError(ran.error(), {Code::kBadInput, Code::kUnsupported, Code::kUsage, Code::kFailed});
    if (!ir::Verify(graph).empty() || !ir::VerifyPlacements(graph).empty()) return;
  }
}

}  // namespace autospc::fuzz
