#include "passes/partition/register.h"

#include "passes/partition/partitioner.h"

namespace autospc::partition {

void RegisterPartitionPasses(PassRegistry& registry) {
  registry.Add({"partition", "shard the batch and the sequence over the ranks: local shapes, placements, collectives",
                [](ir::Graph& graph, PassContext& ctx) -> Result<bool> {
                  // One axis after the other: to the second the collectives of the first are ordinary ops.
                  if (ctx.ranks % ctx.dp != 0) {
                    return Error{Code::kUsage, fmt::format("{} ranks do not make a mesh with dp {}", ctx.ranks, ctx.dp), "",
                                 "the ranks are dp times sp"};
                  }
                  const Mesh mesh = ctx.mesh();
                  if (mesh.dp > 1) {
                    ASSIGN_OR_RETURN(graph, Partitioner(graph, ctx, Axis::kDp).Run());
                  }
                  if (mesh.sp > 1 || mesh.dp == 1) {
                    ASSIGN_OR_RETURN(graph, Partitioner(graph, ctx, Axis::kSp).Run());
                  }
                  return true;
                }});
}

}  // namespace autospc::partition
