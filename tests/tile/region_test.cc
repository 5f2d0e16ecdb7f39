// Regions of small graphs, and how many rows their tiles get.
#include "passes/tile/region.h"

#include <gtest/gtest.h>

#include "passes/ir/parser.h"
#include "passes/tile/tile.h"

namespace autospc::tile {
namespace {

ir::Graph ParseRegion(const std::string& body) {
  auto graph = ir::Parse("graph @g {\n" + body + "}\n", "test.ir");
  EXPECT_TRUE(graph.ok()) << (graph.ok() ? "" : graph.error().Format());
  return std::move(*graph);
}

std::vector<std::string> Names(const ir::Graph& graph, const Region& region) {
  std::vector<std::string> names;
  for (const ir::NodeId id : region.nodes) names.push_back(graph.value(graph.node(id).results[0]).name);
  return names;
}

// One transformer layer between two attentions, P = 2: blocks of 32 rows, 4 heads of 4.
constexpr char kLayer[] = R"(
  input %w : f32[16, 16]{16, 1} R parameter "w" grad
  input %up : f32[64, 16]{16, 1} R parameter "up" grad
  input %down : f32[16, 64]{64, 1} R parameter "down" grad
  input %ids : i64[1, 64]{64, 1} R user "ids" seq_dim 1
  input %table : f32[99, 16]{16, 1} R parameter "table" grad
  %vw = autosp.vary(%w) : f32[16, 16] V
  %vup = autosp.vary(%up) : f32[64, 16] V
  %vdown = autosp.vary(%down) : f32[16, 64] V
  %vtable = autosp.vary(%table) : f32[99, 16] V
  %own = autosp.shard(%ids, 1, 32, false) : i64[1, 32] S(dim=1, valid=64, block=32, outer=1, inner=1)
  %x = aten.embedding.default(%vtable, %own, -1, false, false) : f32[1, 32, 16] S(dim=1, valid=64, block=32, outer=1, inner=1)
  %a = autosp.pad_last(%x, 1, 64) : f32[1, 32, 16] S(dim=1, valid=64, block=32, outer=1, inner=1)
  %o = aten.linear.default(%a, %vw, none) : f32[1, 32, 16] S(dim=1, valid=64, block=32, outer=1, inner=1)
  %r = aten.add.Tensor(%x, %o, 1) : f32[1, 32, 16] S(dim=1, valid=64, block=32, outer=1, inner=1)
  %n = aten.layer_norm.default(%r, [16], none, none, 1e-05, false) : f32[1, 32, 16] S(dim=1, valid=64, block=32, outer=1, inner=1)
  %u = aten.linear.default(%n, %vup, none) : f32[1, 32, 64] S(dim=1, valid=64, block=32, outer=1, inner=1)
  %g = aten.gelu.default(%u, "none") : f32[1, 32, 64] S(dim=1, valid=64, block=32, outer=1, inner=1)
  %d = aten.linear.default(%g, %vdown, none) : f32[1, 32, 16] S(dim=1, valid=64, block=32, outer=1, inner=1)
  %y = aten.add.Tensor(%r, %d, 1) : f32[1, 32, 16] S(dim=1, valid=64, block=32, outer=1, inner=1)
  %m = aten.layer_norm.default(%y, [16], none, none, 1e-05, false) : f32[1, 32, 16] S(dim=1, valid=64, block=32, outer=1, inner=1)
  %q = aten.linear.default(%m, %vw, none) : f32[1, 32, 16] S(dim=1, valid=64, block=32, outer=1, inner=1)
  %b = autosp.pad_last(%q, 1, 64) : f32[1, 32, 16] S(dim=1, valid=64, block=32, outer=1, inner=1)
  %z = aten.add.Tensor(%y, %b, 1) : f32[1, 32, 16] S(dim=1, valid=64, block=32, outer=1, inner=1)
  %k = autosp.mask(%z, 1, 64, 0) : f32[1, 32, 16] S(dim=1, valid=64, block=32, outer=1, inner=1)
  %l = aten.sum.default(%k, none) : f32[] P
  %loss = autosp.all_reduce(%l, "sum") : f32[] R
  output loss %loss "loss"
)";

TEST(FindRegions, FromTheResidualStreamToItself) {
  const ir::Graph graph = ParseRegion(kLayer);
  const std::vector<Region> regions = FindRegions(graph);
  ASSERT_EQ(regions.size(), 1u);
  EXPECT_EQ(Names(graph, regions[0]), (std::vector<std::string>{"n", "u", "g", "d", "y"}));
  EXPECT_EQ(regions[0].block, 32);
  EXPECT_EQ(regions[0].widest_bytes, 32 * 64 * 4);
  EXPECT_EQ(regions[0].end_bytes, 2 * 32 * 16 * 4);
  EXPECT_EQ(regions[0].inner_bytes, (64 + 64 + 16) * 32 * 4);  // n, u, g; d is only added
}

// With labels, so that the loss's own ends are narrow.
constexpr char kLoss[] = R"(
  input %h : f32[3, 50, 8]{400, 8, 1} R user "h" seq_dim 1
  input %w : f32[40, 8]{8, 1} R parameter "w" grad
  input %labels : i64[3, 50]{50, 1} R user "labels" seq_dim 1
  %logits = aten.linear.default(%h, %w, none) : f32[3, 50, 40] R
  %flat = aten.reshape.default(%logits, [150, 40]) : f32[150, 40] R
  %targets = aten.reshape.default(%labels, [150]) : i64[150] R
  %loss = aten.cross_entropy_loss.default(%flat, %targets, none, 1, -100, 0.0) : f32[] R
  output loss %loss "loss"
)";

TEST(FindRegions, OnOneRankRowsAreFollowedFromTheInputs) {
  const ir::Graph graph = ParseRegion(kLoss);
  const std::vector<Region> regions = FindRegions(graph);
  ASSERT_EQ(regions.size(), 1u);
  EXPECT_EQ(Names(graph, regions[0]), (std::vector<std::string>{"logits", "flat", "targets", "loss"}));
  EXPECT_EQ(regions[0].block, 50);
}

TEST(FindRegions, AMeanByClassWeightsIsNoSum) {
  std::string text = kLoss;
  text.replace(text.find("%targets, none"), 14, "%targets, %cw");
  text.insert(0, "  input %cw : f32[40]{1} R buffer \"cw\"\n");
  for (const Region& r : FindRegions(ParseRegion(text))) EXPECT_EQ(r.nodes.size(), 0u);
}

TEST(FindRegions, KeysStayOutsideOfTheScoresRegion) {
  const ir::Graph graph = ParseRegion(R"(
  input %x : f32[2, 64, 8]{512, 8, 1} R user "x" seq_dim 1
  %q = aten.relu.default(%x) : f32[2, 64, 8] R
  %k = aten.silu.default(%x) : f32[2, 64, 8] R
  %kt = aten.transpose.int(%k, 1, 2) : f32[2, 8, 64] R
  %s = aten.matmul.default(%q, %kt) : f32[2, 64, 64] R
  %p = aten.softmax.int(%s, -1, none) : f32[2, 64, 64] R
  %o = aten.matmul.default(%p, %k) : f32[2, 64, 8] R
  %c = aten.cumsum.default(%o, 1, none) : f32[2, 64, 8] R
  %l = aten.sum.default(%c, none) : f32[] R
  output loss %l "loss"
)");
  const std::vector<Region> regions = FindRegions(graph);
  ASSERT_EQ(regions.size(), 1u);
  EXPECT_EQ(Names(graph, regions[0]), (std::vector<std::string>{"q", "s", "p", "o"}));
}

TEST(FindRegions, LongChains) {
  std::string text = "  input %x : f32[2, 64, 8]{512, 8, 1} R user \"x\" seq_dim 1\n";
  std::string last = "x";
  for (int i = 0; i < 9; ++i) {
    text += "  %c" + std::to_string(i) + " = aten.tanh.default(%" + last + ") : f32[2, 64, 8] R\n";
    last = "c" + std::to_string(i);
  }
  text += "  %s = aten.cumsum.default(%" + last + ", 1, none) : f32[2, 64, 8] R\n  output user %s \"s\"\n";
  const std::vector<Region> regions = FindRegions(ParseRegion(text));
  ASSERT_EQ(regions.size(), 1u);
  EXPECT_EQ(regions[0].nodes.size(), 9u);
}

// What depends on a row's place in the sequence, or mixes rows, ends a region.
TEST(RowAnalysis, OpsThatEndRegions) {
  const std::string head = "  input %x : f32[2, 64, 8]{512, 8, 1} R user \"x\" seq_dim 1\n";
  for (const std::string op :
       {"aten.cumsum.default(%x, 1, none)", "aten.flip.default(%x, [1])", "autosp.dropout(%x, 0.1, 0, -1, 0, 1, 1)",
        "autosp.mask(%x, 1, 60, 0)", "autosp.pad_last(%x, 1, 60)", "aten.softmax.int(%x, 1, none)"}) {
    const ir::Graph graph = ParseRegion(head + "  %y = " + op + " : f32[2, 64, 8] R\n  output user %y \"y\"\n");
    EXPECT_EQ(RowAnalysis(graph).op(graph.nodes().front()), nullptr) << op;
  }
  for (const std::string op :
       {"aten.cumsum.default(%x, 2, none)", "aten.softmax.int(%x, -1, none)", "autosp.stop_gradient(%x)"}) {
    const ir::Graph graph = ParseRegion(head + "  %y = " + op + " : f32[2, 64, 8] R\n  output user %y \"y\"\n");
    EXPECT_NE(RowAnalysis(graph).op(graph.nodes().front()), nullptr) << op;
  }
}

Region Sample(int64_t block, int64_t inner, int64_t widest, int64_t ends) {
  Region r;
  r.block = block;
  r.inner_bytes = inner;
  r.widest_bytes = widest;
  r.end_bytes = ends;
  return r;
}

// A lookup has rows, but its adjoint is a whole table: it stays whole itself.
TEST(RowAnalysis, LookupsGiveRowsAndStayWhole) {
  const ir::Graph graph = ParseRegion(R"(
  input %ids : i64[1, 64]{64, 1} R user "ids" seq_dim 1
  input %table : f32[99, 16]{16, 1} R parameter "table" grad
  %x = aten.embedding.default(%table, %ids, -1, false, false) : f32[1, 64, 16] R
  output user %x "x"
)");
  const RowAnalysis rows(graph);
  EXPECT_EQ(rows.op(graph.nodes().front()), nullptr);
  EXPECT_EQ(rows.rows(graph.outputs[0].value), Rows::Sharded(1, 64, 64));
}

TEST(ChooseTiles, ByLevel) {
  const std::vector<Region> regions = {Sample(4096, 6400, 3200, 100), Sample(4096, 800, 400, 200)};
  EXPECT_TRUE(ChooseTiles(regions, 0).empty());
  ASSERT_EQ(ChooseTiles(regions, 1).size(), 1u);
  EXPECT_EQ(ChooseTiles(regions, 1)[0].rows, 256);  // 32 tiles would have 128 rows
  ASSERT_EQ(ChooseTiles(regions, 2).size(), 2u);
  EXPECT_EQ(ChooseTiles(regions, 2)[1].rows, 2048);  // 2 tiles of twice the ends
  EXPECT_EQ(ChooseTiles(regions, 3)[0].rows, 128);
  EXPECT_EQ(ChooseTiles(regions, 3)[1].rows, 1024);
}

TEST(ChooseTiles, ShortAndUnevenBlocks) {
  EXPECT_EQ(ChooseTiles({Sample(31, 900, 450, 100)}, 2)[0].rows, 16);
  EXPECT_EQ(ChooseTiles({Sample(7, 900, 450, 100)}, 2)[0].rows, 4);
  EXPECT_EQ(ChooseTiles({Sample(2, 900, 450, 100)}, 2)[0].rows, 1);
  // At most 64 tiles, however wide.
  EXPECT_EQ(ChooseTiles({Sample(1 << 20, 1 << 30, 1 << 29, 1)}, 2)[0].rows, 1 << 14);
  // What is next to nothing beside the largest stays whole.
  EXPECT_EQ(ChooseTiles({Sample(4096, 6400, 3200, 100), Sample(4096, 99, 50, 10)}, 2).size(), 1u);
}

}  // namespace
}  // namespace autospc::tile
