#include <algorithm>

#include "passes/tile/tile.h"

namespace autospc::tile {
namespace {

constexpr int64_t kMostTiles = 64;
// A weight's gradient is read and written once a tile, at the price of `rows` multiply-adds an element.
constexpr int64_t kLongTile = 256;
constexpr int64_t kMultiple = 16;
constexpr int64_t kInside = 2;       // a tile's inside in units of the ends
constexpr int64_t kWide = 3;         // level 1: the widest value in units of the ends
constexpr int64_t kNegligible = 64;  // regions with less than this fraction of the largest one's inside stay whole

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t TileRows(const Region& region, int64_t tiles, int64_t long_tile) {
  tiles = std::clamp<int64_t>(tiles, 2, kMostTiles);
  const int64_t rows = std::max(CeilDiv(region.block, tiles), std::min(long_tile, CeilDiv(region.block, 2)));
  const int64_t rounded = CeilDiv(rows, kMultiple) * kMultiple;
  return rounded < region.block ? rounded : rows;
}

}  // namespace

TileChoice ChooseTiles(const std::vector<Region>& regions, int level) {
  TileChoice choice;
  int64_t most = 0;
  for (const Region& r : regions) most = std::max(most, r.inner_bytes);
  for (const Region& r : regions) {
    const bool loss_like = r.widest_bytes > kWide * r.end_bytes;
    if (level < 1 || (level == 1 && !loss_like) || r.inner_bytes * kNegligible < most) continue;
    const int64_t halves = level >= 3 ? 2 : 1;
    const int64_t tiles = halves * CeilDiv(r.inner_bytes, kInside * std::max<int64_t>(r.end_bytes, 1));
    choice.push_back({r, TileRows(r, tiles, kLongTile / halves)});
  }
  return choice;
}

}  // namespace autospc::tile
