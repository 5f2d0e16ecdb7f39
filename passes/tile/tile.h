// Sequence tiling: regions that are pointwise along the sequence run tile by tile, so that what is wide inside exists
// for one tile at a time ([S, vocabulary] logits never do).
//
// A transform of the partitioned forward graph, before differentiation. A region's inputs with rows are split along
// them (one split each: its adjoint is one concatenation), its ops are cloned for each tile, and its outputs put
// together again: concatenated where they have rows, added up where they are sums over rows. LibTorch's autograd of the
// tiled graph is then a tiled backward pass with the weights' gradients accumulated; recomputation decides whether a
// tile's inside is kept for it.
#pragma once

#include <vector>

#include "passes/framework/pass.h"
#include "passes/tile/region.h"

namespace autospc::tile {

struct TiledRegion {
  Region region;
  int64_t rows = 0;  // of a tile; the last one has what is left. At least 1; region.block or more: not tiled
};
using TileChoice = std::vector<TiledRegion>;

// How far tiling goes.
//   0  not at all;
//   1  regions with a value wider than three times their ends: losses over a vocabulary;
//   2  all regions: MLPs too;
//   3  as 2, in tiles of half the size.
// A tile's inside takes about twice what its region's ends take whole, within 2 to 64 tiles; long tiles have a multiple
// of 16 rows, and so many that adding up the weights' gradients stays cheap beside the products.
inline constexpr int kMaxTileLevel = 3;
TileChoice ChooseTiles(const std::vector<Region>& regions, int level);

// `choice`: regions that FindRegions gives for this very graph, each at most once. Whether the graph changed.
Result<bool> Tile(ir::Graph& graph, PassContext& ctx, const TileChoice& choice);

}  // namespace autospc::tile
