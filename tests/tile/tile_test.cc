// What the transform makes of small graphs, beyond the golden texts.
#include "passes/tile/tile.h"

#include <gtest/gtest.h>

#include "passes/ir/parser.h"
#include "passes/ir/printer.h"
#include "passes/ir/verifier.h"
#include "passes/tile/hoist.h"

namespace autospc::tile {
namespace {

ir::Graph Parse(const std::string& body) {
  auto graph = ir::Parse("graph @g {\n" + body + "}\n", "test.ir");
  EXPECT_TRUE(graph.ok()) << (graph.ok() ? "" : graph.error().Format());
  return std::move(*graph);
}

std::string Tiled(const std::string& body, int64_t rows, int ranks = 1) {
  ir::Graph graph = Parse(body);
  TileChoice choice;
  for (const Region& region : FindRegions(graph, /*narrow=*/true)) choice.push_back({region, rows});
  PassContext context;
  context.ranks = ranks;
  const auto changed = Tile(graph, context, choice);
  EXPECT_TRUE(changed.ok() && *changed);
  for (const std::string& violation : ir::Verify(graph)) ADD_FAILURE() << violation;
  for (const std::string& violation : ir::VerifyPlacements(graph)) ADD_FAILURE() << violation;
  return ir::Print(graph);
}

int Count(const std::string& text, const std::string& what) {
  int count = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

// A region between two ops that mix rows; P = 1.
TEST(Tile, TheLastTileIsShorter) {
  const std::string text = Tiled(R"(
  input %x : f32[2, 7, 4]{28, 4, 1} R user "x" seq_dim 1
  %a = aten.tanh.default(%x) : f32[2, 7, 4] R
  %b = aten.exp.default(%a) : f32[2, 7, 4] R
  %c = aten.cumsum.default(%b, 1, none) : f32[2, 7, 4] R
  output user %c "c"
)",
                                 3);
  EXPECT_NE(text.find("aten.split_with_sizes.default(%x, [3, 3, 1], 1)"), std::string::npos) << text;
  EXPECT_EQ(Count(text, "aten.exp.default"), 3) << text;
  EXPECT_NE(text.find("aten.cat.default([%b_1, %b_2, %b_3], 1) : f32[2, 7, 4] R"), std::string::npos) << text;
}

// [B * S, F] values are split within each of the B sequences.
TEST(Tile, FlattenedRowsAreTakenApart) {
  const std::string text = Tiled(R"(
  input %x : f32[2, 6, 4]{24, 4, 1} R user "x" seq_dim 1
  %s = aten.cumsum.default(%x, 1, none) : f32[2, 6, 4] R
  %f = aten.reshape.default(%s, [12, 4]) : f32[12, 4] R
  %v = aten.tanh.default(%f) : f32[12, 4] R
  %w = aten.exp.default(%v) : f32[12, 4] R
  output user %w "w"
)",
                                 4);
  EXPECT_NE(text.find("aten.split_with_sizes.default(%s, [4, 2], 1)"), std::string::npos) << text;
  // Two tiles of 2 * 4 and 2 * 2 rows, put together as [2, 6, 4] and flattened again.
  EXPECT_NE(text.find("f32[8, 4]"), std::string::npos) << text;
  EXPECT_NE(text.find("aten.cat.default([%reshape, %reshape_1], 1) : f32[2, 6, 4]"), std::string::npos) << text;
}

// What lies between a region's ops and needs one of them comes after the region; the rest stays before it.
TEST(Tile, OpsInBetweenKeepTheirOrder) {
  const std::string text = Tiled(R"(
  input %x : f32[1, 8, 4]{32, 4, 1} R user "x" seq_dim 1
  input %w : f32[4, 4]{4, 1} R parameter "w" grad
  %a = aten.tanh.default(%x) : f32[1, 8, 4] R
  %mixed = aten.cumsum.default(%a, 1, none) : f32[1, 8, 4] R
  %late = aten.flip.default(%mixed, [1]) : f32[1, 8, 4] R
  %v = aten.relu.default(%w) : f32[4, 4] R
  %b = aten.linear.default(%a, %v, none) : f32[1, 8, 4] R
  %c = aten.exp.default(%b) : f32[1, 8, 4] R
  %d = aten.cumsum.default(%c, 1, none) : f32[1, 8, 4] R
  output user %late "late"
  output user %d "d"
)",
                                 4);
  EXPECT_LT(text.find("aten.relu.default"), text.find("aten.linear.default")) << text;
  EXPECT_LT(text.find("aten.exp.default"), text.find("aten.flip.default")) << text;
}

TEST(Tile, MeansAreSumsDividedOnce) {
  const std::string text = Tiled(R"(
  input %x : f32[2, 6, 4]{24, 4, 1} R user "x" seq_dim 1
  input %labels : i64[2, 6]{6, 1} R user "labels" seq_dim 1
  %a = aten.tanh.default(%x) : f32[2, 6, 4] R
  %m = aten.mean.default(%a, none) : f32[] R
  %n = aten.mean.dim(%a, [1], true, none) : f32[2, 1, 4] R
  %l = aten.transpose.int(%a, 1, 2) : f32[2, 4, 6] R
  %loss = aten.cross_entropy_loss.default(%l, %labels, none, 1, -100, 0.0) : f32[] R
  output user %m "m"
  output user %n "n"
  output loss %loss "loss"
)",
                                 4);
  EXPECT_EQ(Count(text, "aten.mean"), 0) << text;
  EXPECT_NE(text.find(", 48.0) : f32[] R"), std::string::npos) << text;
  EXPECT_NE(text.find(", 6.0) : f32[2, 1, 4] R"), std::string::npos) << text;
  // Labels of [2, 4] and [2, 2] rows, counted in each tile.
  EXPECT_NE(text.find("bool[2, 4]"), std::string::npos) << text;
  EXPECT_EQ(Count(text, "aten.cross_entropy_loss.default"), 2) << text;
  EXPECT_EQ(Count(text, ", none, 2, -100"), 2) << text;
}

TEST(Tile, ATileOfAllRowsChangesNothing) {
  ir::Graph graph = Parse(R"(
  input %x : f32[1, 8, 4]{32, 4, 1} R user "x" seq_dim 1
  %a = aten.tanh.default(%x) : f32[1, 8, 4] R
  %b = aten.exp.default(%a) : f32[1, 8, 4] R
  output user %b "b"
)");
  const std::string before = ir::Print(graph);
  PassContext context;
  const auto changed = Tile(graph, context, {{FindRegions(graph, true).at(0), 8}});
  EXPECT_TRUE(changed.ok() && !*changed);
  EXPECT_EQ(ir::Print(graph), before);
}

TEST(HoistRowSelections, PastProjectionsAndViewsOnly) {
  ir::Graph graph = Parse(R"(
  input %x : f32[2, 8, 4]{32, 4, 1} R user "x" seq_dim 1
  input %w : f32[9, 4]{4, 1} R parameter "w" grad
  %n = aten.tanh.default(%x) : f32[2, 8, 4] R
  %u = aten.linear.default(%n, %w, none) : f32[2, 8, 9] R
  %t = aten.transpose.int(%u, 1, 2) : f32[2, 9, 8] R
  %s = aten.slice.Tensor(%t, 2, 1, 8, 1) : f32[2, 9, 7] R
  output user %s "s"
)");
  EXPECT_EQ(HoistRowSelections(graph), 2);
  for (const std::string& violation : ir::Verify(graph)) ADD_FAILURE() << violation;
  const std::string text = ir::Print(graph);
  EXPECT_NE(text.find("aten.slice.Tensor(%n, 1, 1, 8, 1) : f32[2, 7, 4] R"), std::string::npos) << text;
  EXPECT_NE(text.find("f32[2, 9, 7]"), std::string::npos) << text;
}

TEST(HoistRowSelections, NotWhereTheWholeIsUsedToo) {
  ir::Graph graph = Parse(R"(
  input %x : f32[2, 8, 4]{32, 4, 1} R user "x" seq_dim 1
  input %w : f32[9, 4]{4, 1} R parameter "w" grad
  %u = aten.linear.default(%x, %w, none) : f32[2, 8, 9] R
  %s = aten.slice.Tensor(%u, 1, 0, 7, 1) : f32[2, 7, 9] R
  output user %s "s"
  output user %u "u"
)");
  EXPECT_EQ(HoistRowSelections(graph), 0);
}

}  // namespace
}  // namespace autospc::tile
