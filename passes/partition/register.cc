#include "passes/partition/register.h"

#include "passes/partition/partitioner.h"

namespace autospc::partition {

void RegisterPartitionPasses(PassRegistry& registry) {
  registry.Add({"partition", "shard the sequence over the ranks: local shapes, placements, collectives",
                [](ir::Graph& graph, PassContext& ctx) -> Result<bool> {
                  ASSIGN_OR_RETURN(graph, Partitioner(graph, ctx).Run());
                  return true;
                }});
}

}  // namespace autospc::partition
