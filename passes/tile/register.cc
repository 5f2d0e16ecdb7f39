#include "passes/tile/register.h"

#include "passes/tile/accumulate.h"
#include "passes/tile/hoist.h"
#include "passes/tile/tile.h"
#include "passes/tile/widen.h"

namespace autospc::tile {

void RegisterTilePasses(PassRegistry& registry) {
  registry.Add({"tile", "run wide regions of the forward pass (losses, MLPs) tile by tile along the sequence",
                [](ir::Graph& graph, PassContext& ctx) -> Result<bool> {
                  if (ctx.tile_level == 0 || ctx.tile == "off") return false;
                  const bool hoisted = HoistRowSelections(graph) > 0;
                  ASSIGN_OR_RETURN(const bool tiled, Tile(graph, ctx, ChooseTiles(FindRegions(graph), ctx.tile_level)));
                  return hoisted || tiled;
                }});
  registry.Add({"widen-gradient-sums", "sums of 16-bit addends that make a gradient are kept in float32 until they are whole",
                [](ir::Graph& graph, PassContext&) -> Result<bool> { return WidenGradientSums(graph) > 0; }});
  registry.Add({"accumulate-products", "matrix products that are only added to a sum are computed into it",
                [](ir::Graph& graph, PassContext&) -> Result<bool> { return AccumulateProducts(graph) > 0; }});
}

}  // namespace autospc::tile
