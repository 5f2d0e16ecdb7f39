// Placements along both axes of a mesh: each axis is held to the rules by itself, the text form keeps both.
#include <gtest/gtest.h>

#include "passes/ir/parser.h"
#include "passes/ir/printer.h"
#include "passes/ir/verifier.h"

namespace autospc::ir {
namespace {

using Lines = std::vector<std::string>;

// A forward program over dp=2, sp=2: batch 3, sequence 5. LINES stand before the loss.
std::string MeshProgram(std::string_view lines) {
  std::string text = R"(graph @g {
    input %w : f32[8, 8]{8, 1} R dp R parameter "w" grad
    input %x : f32[3, 5, 8]{40, 8, 1} R dp R user "x" seq_dim 1 batch_dim 0
    %b = autosp.shard(%x, 0, 2, false, "dp") : f32[2, 5, 8]{40, 8, 1} R dp S(dim=0, valid=3, block=2, outer=1, inner=1)
    %s = autosp.shard(%b, 1, 3, false) : f32[2, 3, 8]{24, 8, 1} BOTH
    %u = autosp.vary(%w, "dp") : f32[8, 8]{8, 1} R dp V
    %v = autosp.vary(%u) : f32[8, 8]{8, 1} V dp V
    %h = aten.matmul.default(%s, %v) : f32[2, 3, 8]{24, 8, 1} BOTH
    %n = autosp.mask(%h, 0, 3, 0, "dp") : f32[2, 3, 8]{24, 8, 1} BOTH
    %m = autosp.mask(%n, 1, 5, 0) : f32[2, 3, 8]{24, 8, 1} BOTH
    %p = aten.sum.default(%m, none) : f32[]{} P dp P
    LINES
  })";
  const auto replace = [&](std::string_view from, std::string_view to) {
    for (size_t at; (at = text.find(from)) != std::string::npos;) text.replace(at, from.size(), to);
  };
  replace("LINES", lines);
  replace("BOTH", "S(dim=1, valid=5, block=3, outer=1, inner=1) dp S(dim=0, valid=3, block=2, outer=1, inner=1)");
  return text;
}

Lines CheckMesh(std::string_view lines) {
  const Result<Graph> g = Parse(MeshProgram(lines));
  if (!g.ok()) return {g.error().Format()};
  const Lines structure = Verify(*g);
  return structure.empty() ? VerifyPlacements(*g) : structure;
}

struct MeshCase {
  const char* lines;
  const char* problem;  // null: lawful
};
class MeshPlacement : public testing::TestWithParam<MeshCase> {};

TEST_P(MeshPlacement, EachAxisIsJudged) {
  const Lines lines = CheckMesh(GetParam().lines);
  if (!GetParam().problem) {
    EXPECT_EQ(lines, Lines());
    return;
  }
  ASSERT_EQ(lines.size(), 1u) << (lines.empty() ? "lawful" : lines[0] + "\n" + lines[1]);
  EXPECT_NE(lines[0].find(GetParam().problem), std::string::npos) << lines[0];
}

INSTANTIATE_TEST_SUITE_P(
    Programs, MeshPlacement,
    testing::Values(
        MeshCase{R"(%q = autosp.all_reduce(%p, "sum", "dp") : f32[]{} P dp R
                %l = autosp.all_reduce(%q, "sum") : f32[]{} R dp R
                output loss %l "loss")",
             nullptr},
        MeshCase{R"(%l = autosp.all_reduce(%p, "sum", "world") : f32[]{} R dp R
                output loss %l "loss")",
             nullptr},
        // Reduced along one axis alone.
        MeshCase{R"(%l = autosp.all_reduce(%p, "sum") : f32[]{} R dp P
                output loss %l "loss")",
             "is P along dp, not replicated"},
        MeshCase{R"(%l = autosp.all_reduce(%p, "sum", "dp") : f32[]{} P dp R
                output loss %l "loss")",
             "is P, not replicated"},
        // Reduced twice along one axis.
        MeshCase{R"(%l = autosp.all_reduce(%p, "sum", "world") : f32[]{} R dp R
                %k = autosp.all_reduce(%l, "sum", "dp") : f32[]{} R dp R
                output loss %k "loss")",
             "%l is R, not P (along dp)"},
        // A weight that varies along sp alone meets rows of the batch.
        MeshCase{R"(%y = autosp.vary(%w) : f32[8, 8]{8, 1} V dp R
                %z = aten.matmul.default(%s, %y) : f32[2, 3, 8]{24, 8, 1} BOTH
                %l = autosp.all_reduce(%p, "sum", "world") : f32[]{} R dp R
                output loss %l "loss")",
             "%y is R and meets values that differ from rank to rank: it passes vary or shard first (along dp)"},
        // Not linear in what is partial along dp.
        MeshCase{R"(%q = autosp.all_reduce(%p, "sum") : f32[]{} R dp P
                %e = aten.exp.default(%q) : f32[]{} R dp P
                %l = autosp.all_reduce(%e, "sum", "dp") : f32[]{} R dp R
                output loss %l "loss")",
             "not linear in its partial operands (a replicated addend passes vary and first; else reduce before it) (along dp)"},
        // The arguments say another length than the placement.
        MeshCase{R"(%k = autosp.mask(%h, 0, 4, 0, "dp") : f32[2, 3, 8]{24, 8, 1} BOTH
                %l = autosp.all_reduce(%p, "sum", "world") : f32[]{} R dp R
                output loss %l "loss")",
             "its arguments say dim 0 and 4 rows (along dp)"}));

TEST(MeshPlacementText, PrintsAndParsesBoth) {
  const Result<Graph> g = Parse(MeshProgram(R"(%l = autosp.all_reduce(%p, "sum", "world") : f32[]{} R dp R
                                           output loss %l "loss")"));
  ASSERT_TRUE(g.ok()) << g.error().Format();
  const std::string text = Print(*g);
  EXPECT_NE(text.find("S(dim=1, valid=5, block=3, outer=1, inner=1) dp S(dim=0, valid=3, block=2, outer=1, inner=1)"), std::string::npos);
  EXPECT_NE(text.find("seq_dim 1 batch_dim 0"), std::string::npos);
  const Result<Graph> again = Parse(text);
  ASSERT_TRUE(again.ok()) << again.error().Format();
  EXPECT_EQ(Print(*again), text);
  EXPECT_FALSE(Parse("graph @g {\n input %x : f32[2] R dp user \"x\"\n}").ok()) << "dp without a placement";
}

TEST(MeshPlacementText, ADimOfTheWrongLengthAlongDpIsReported) {
  const Result<Graph> g = Parse(R"(graph @g {
    input %x : f32[4, 5] R dp R user "x" batch_dim 2
    %b = autosp.shard(%x, 0, 2, false, "dp") : f32[3, 5] R dp S(dim=0, valid=4, block=2, outer=1, inner=1)
    output user %b "b"
  })");
  ASSERT_TRUE(g.ok()) << g.error().Format();
  const Lines lines = Verify(*g);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0], "input 'x' has batch dim 2 of 2");
  EXPECT_NE(lines[1].find("but is 3 long there"), std::string::npos) << lines[1];
}

// [B, S] flattened: dp's rows are outside of sp's, and each counts the other's share.
TEST(MeshPlacementGeometry, BothAxesInOneDim) {
  const Placement sp = Placement::Sharded(0, 5, 3, /*outer=*/2);
  EXPECT_EQ(Placement::Sharded(0, 3, 2, 1, /*inner=*/5).Within(sp), Placement::Sharded(0, 3, 2, 1, 3));
  // [S, B] flattened.
  EXPECT_EQ(Placement::Sharded(0, 3, 2, /*outer=*/5).Within(Placement::Sharded(0, 5, 3, 1, 2)), Placement::Sharded(0, 3, 2, 3, 1));
  // Another dim; features between and behind.
  EXPECT_EQ(Placement::Sharded(1, 3, 2, 1, 5).Within(sp), Placement::Sharded(1, 3, 2, 1, 5));
  EXPECT_EQ(Placement::Sharded(0, 3, 2, 1, 7 * 5 * 4).Within(Placement::Sharded(0, 5, 3, 14, 4)), Placement::Sharded(0, 3, 2, 1, 7 * 3 * 4));
  // One row a rank.
  EXPECT_EQ(Placement::Sharded(0, 2, 1, 1, 5).Within(Placement::Sharded(0, 5, 3)), Placement::Sharded(0, 2, 1, 1, 3));
}

}  // namespace
}  // namespace autospc::ir
