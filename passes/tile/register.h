#pragma once

#include "passes/framework/pass.h"

namespace autospc::tile {

// On the partitioned forward graph: tile, which does nothing at PassContext::tile_level 0 nor where PassContext::tile
// is "off". On the differentiated graph: accumulate-products.
void RegisterTilePasses(PassRegistry& registry);

}  // namespace autospc::tile
