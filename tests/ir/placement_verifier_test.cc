// The placement rules: lawful programs pass, and each broken rule is reported once.
#include <gtest/gtest.h>

#include "passes/ir/parser.h"
#include "passes/ir/verifier.h"

namespace autospc::ir {
namespace {

using Lines = std::vector<std::string>;

// A forward program over 2 ranks with each conversion, then `more` lines.
std::string Program(std::string_view more, std::string_view outputs = "") {
  return fmt::format(R"(graph @g {{
    input %w : f32[8, 8]{{8, 1}} R parameter "w" grad
    input %c : i64[] R buffer "c"
    input %x : f32[3, 8]{{8, 1}} R user "x" seq_dim 0
    %s = autosp.shard(%x, 0, 2, false) : f32[2, 8]{{8, 1}} S(dim=0, valid=3, block=2, outer=1, inner=1)
    %v = autosp.vary(%w) : f32[8, 8]{{8, 1}} V
    %h = aten.mm.default(%s, %v) : f32[2, 8]{{8, 1}} S(dim=0, valid=3, block=2, outer=1, inner=1)
    %m = autosp.mask(%h, 0, 3, 0.0) : f32[2, 8]{{8, 1}} S(dim=0, valid=3, block=2, outer=1, inner=1)
    %p = aten.sum.default(%m, none) : f32[]{{}} P
    %l = autosp.all_reduce(%p, "sum") : f32[]{{}} R
    {}
    output loss %l "loss"
    {}
  }})",
                     more, outputs);
}

Lines Check(const std::string& text) {
  const Result<Graph> g = Parse(text);
  if (!g.ok()) return {g.error().Format()};
  const Lines structure = Verify(*g);
  return structure.empty() ? VerifyPlacements(*g) : structure;
}

constexpr std::string_view kRows = "S(dim=0, valid=3, block=2, outer=1, inner=1)";
std::string WithRows(std::string_view line) {
  std::string text(line);
  for (size_t at; (at = text.find("ROWS")) != std::string::npos;) text.replace(at, 4, kRows);
  return text;
}

struct Case {
  const char* line;
  const char* problem;  // null: lawful
};
class Forward : public testing::TestWithParam<Case> {};

TEST_P(Forward, IsJudged) {
  const Lines lines = Check(Program(WithRows(GetParam().line)));
  if (!GetParam().problem) {
    EXPECT_EQ(lines, Lines());
    return;
  }
  ASSERT_EQ(lines.size(), 1u) << fmt::format("{}", lines.empty() ? "lawful" : lines[1]);
  EXPECT_NE(lines[0].find(GetParam().problem), std::string::npos) << lines[0];
}

INSTANTIATE_TEST_SUITE_P(
    Placements, Forward,
    testing::Values(
        // Conversions.
        Case{"%a = autosp.all_gather(%h, 0, 3, false) : f32[3, 8]{8, 1} R", nullptr},
        Case{"%a = autosp.all_gather(%h, 0, 3, true) : f32[3, 8]{8, 1} V", nullptr},
        Case{"%a = autosp.all_gather(%h, 0, 3, true) : f32[3, 8]{8, 1} R", "the result %a is R, not V"},
        Case{"%a = autosp.all_gather(%h, 0, 4, false) : f32[4, 8]{8, 1} R", "its arguments say dim 0 and 4 rows"},
        Case{"%a = autosp.all_gather(%x, 0, 3, false) : f32[3, 8]{8, 1} R", "%x is R, not S"},
        Case{"%a = autosp.vary(%v) : f32[8, 8]{8, 1} V", "%v is V, not R"},
        Case{"%a = autosp.vary(%p) : f32[]{} V", "%p is P, not R"},
        Case{"%a = autosp.all_reduce(%l, \"sum\") : f32[]{} R", "%l is R, not P"},
        Case{"%a = autosp.all_reduce(%v, \"sum\") : f32[8, 8]{8, 1} R", "%v is V, not P"},
        Case{"%a = autosp.all_reduce(%v, \"max\") : f32[8, 8]{8, 1} R", nullptr},
        Case{"%a = autosp.first(%v) : f32[8, 8]{8, 1} P", nullptr},
        Case{"%a = autosp.first(%w) : f32[8, 8]{8, 1} P", "%w is R, not V"},
        Case{"%a = autosp.shard(%x, 1, 2, false) : f32[2, 8]{8, 1} ROWS", "its arguments say dim 1 and 2 rows"},
        Case{"%a = autosp.shard(%v, 0, 4, false) : f32[4, 8]{8, 1} S(dim=0, valid=8, block=4, outer=1, inner=1)",
             "%v is V, not R"},
        Case{"%a = autosp.all_to_all(%h, 0, 3, 1, 4, false) : f32[3, 4]{4, 1} S(dim=1, valid=8, block=4, outer=1, "
             "inner=1)",
             nullptr},
        Case{"%a = autosp.all_to_all(%h, 0, 3, 1, 4, false) : f32[3, 4]{4, 1} S(dim=1, valid=8, block=2, outer=2, "
             "inner=1)",
             "unflattened first"},
        Case{"%a = autosp.pad_last(%h, 0, 2) : f32[2, 8]{8, 1} S(dim=0, valid=2, block=2, outer=1, inner=1)", nullptr},
        Case{"%a = autosp.pad_last(%h, 0, 2) : f32[2, 8]{8, 1} ROWS", "its arguments say dim 0 and 2 rows"},
        Case{"%a = autosp.stop_gradient(%h) : f32[2, 8]{8, 1} V", "the result %a is V, not S"},
        Case{"%a = autosp.stop_gradient(%h) : f32[2, 8]{8, 1} S(dim=1, valid=9, block=8, outer=1, inner=1)",
             "the operand S(dim=0"},
        // Replicated and local ops.
        Case{"%a = aten.neg.default(%w) : f32[8, 8]{8, 1} R", nullptr},
        Case{"%a = aten.neg.default(%w) : f32[8, 8]{8, 1} V", "the result %a is V, not R"},
        Case{"%a = aten.neg.default(%v) : f32[8, 8]{8, 1} R", "the result %a is R, not V"},
        Case{"%a = aten.tanh.default(%h) : f32[2, 8]{8, 1} R", "the result %a is R, not S"},
        Case{"%a = aten.mm.default(%h, %w) : f32[2, 8]{8, 1} ROWS", "%w is R and meets values that differ"},
        Case{"%a = aten.add.Tensor(%h, %c, 1) : f32[2, 8]{8, 1} ROWS", nullptr},  // an integer has no cotangent
        Case{"%d = aten.detach.default(%w) : f32[8, 8]{8, 1} R %a = aten.mm.default(%h, %d) : f32[2, 8]{8, 1} ROWS",
             nullptr},
        Case{"%a = aten.tanh.default(%h) : f32[2, 8]{8, 1} P", "the result %a is P, not S"},  // names no combiner
        Case{"%n = autosp.pad_last(%h, 0, 2) : f32[2, 8]{8, 1} S(dim=0, valid=2, block=2, outer=1, inner=1) "
             "%a = aten.mul.Tensor(%h, %n) : f32[2, 8]{8, 1} ROWS",
             "%h and %n are sharded differently"},
        Case{"%a = aten.ones.default([3]) : f32[3]{1} P", "the same value on each rank is no addend"},
        Case{"%a = aten.zeros.default([3]) : f32[3]{1} P", nullptr},
        // Partial operands.
        Case{"%a = aten.mul.Tensor(%p, 2.0) : f32[]{} P", nullptr},
        Case{"%a = aten.div.Tensor(%p, 2.0) : f32[]{} P", nullptr},
        Case{"%a = aten.add.Tensor(%p, %p, 1) : f32[]{} P", nullptr},
        Case{"%a = aten.neg.default(%p) : f32[]{} R", "the result %a is R, not P"},
        Case{"%a = aten.mul.Tensor(%p, %p) : f32[]{} P", "not linear in its partial operands"},
        Case{"%a = aten.div.Tensor(2.0, %p) : f32[]{} P", "not linear in its partial operands"},
        Case{"%a = aten.exp.default(%p) : f32[]{} P", "not linear in its partial operands"},
        Case{"%a = aten.add.Tensor(%p, 1.0, 1) : f32[]{} P", "not linear in its partial operands"},
        Case{"%a = aten.add.Tensor(%p, %l, 1) : f32[]{} P", "not linear in its partial operands"},
        Case{"%a = aten.mul.Tensor(%h, %p) : f32[2, 8]{8, 1} ROWS", "a partial operand meets a sharded one"},
        // A product over rows is partial, and may be added to a sum that is.
        Case{"%first = autosp.first(%v) : f32[8, 8]{8, 1} P %ht = aten.t.default(%h) : f32[8, 2]{1, 8} S(dim=1, valid=3, "
             "block=2, outer=1, inner=1) %a = aten.addmm.default(%first, %ht, %h, 1, 1) : f32[8, 8]{8, 1} P",
             nullptr},
        Case{"%first = autosp.first(%v) : f32[8, 8]{8, 1} P %ht = aten.t.default(%h) : f32[8, 2]{1, 8} S(dim=1, valid=3, "
             "block=2, outer=1, inner=1) %a = aten.addmm.default(%first, %ht, %v, 1, 1) : f32[8, 8]{8, 1} P",
             "a partial operand meets a sharded one"},
        Case{"%f = autosp.first(%v) : f32[8, 8]{8, 1} P %a = aten.linear.default(%f, %v, none) : f32[8, 8]{8, 1} P",
             nullptr},
        Case{"%f = autosp.first(%v) : f32[8, 8]{8, 1} P %a = aten.linear.default(%f, %v, %v) : f32[8, 8]{8, 1} P",
             "not linear in its partial"},
        Case{"%f = autosp.first(%v) : f32[8, 8]{8, 1} P %a = aten.addmm.default(%f, %f, %v, 1, 1) : f32[8, 8]{8, 1} P",
             nullptr},
        Case{"%f = autosp.first(%v) : f32[8, 8]{8, 1} P %a = aten.addmm.default(%v, %f, %v, 1, 1) : f32[8, 8]{8, 1} P",
             "not linear in its partial"},
        Case{"%f = autosp.first(%v) : f32[8, 8]{8, 1} P %a = aten.cat.default([%f, %v], 0) : f32[16, 8]{8, 1} P",
             "not linear in its partial"},
        Case{"%f = autosp.first(%v) : f32[8, 8]{8, 1} P %a = aten.masked_fill.Scalar(%f, %v, 0) : f32[8, 8]{8, 1} P",
             nullptr},
        Case{"%f = autosp.first(%v) : f32[8, 8]{8, 1} P %a = aten.masked_fill.Scalar(%f, %v, 1) : f32[8, 8]{8, 1} P",
             "not linear in its partial"},
        // A block of a repeated value is the value repeated, on each rank its own.
        Case{"%a = aten.expand.default(%v, [2, 8, 8], false) : f32[2, 8, 8]{0, 8, 1} ROWS", nullptr},
        Case{"%a = aten.expand.default(%p, [2, 8], false) : f32[2, 8]{0, 0} ROWS", "%a is S, not P"},
        Case{"%a = aten.mul.Tensor(%v, %v) : f32[8, 8]{8, 1} S(dim=0, valid=15, block=8, outer=1, inner=1)", "%a is S, not V"},
        Case{"%a = aten.to.dtype(%p, dtype(f64), false, false, none) : f64[]{} P", nullptr},
        Case{"%a = aten.to.dtype(%p, dtype(bf16), false, false, none) : bf16[]{} P",
             "a narrower cast rounds every addend"}));

// What tracing records has no placements: the kinds are inferred, and the gradient must come out replicated.
constexpr std::string_view kBackward = R"(
    %one = aten.ones_like.default(%l, none, none, none, none, none) : f32[]{} !phase backward
    %gv = autosp.vary(%one) : f32[]{} !phase backward
    %ge = aten.expand.default(%gv, [2, 8], false) : f32[2, 8]{0, 0} !phase backward
    %gm = autosp.mask(%ge, 0, 3, 0.0) : f32[2, 8]{8, 1} !phase backward
    %st = aten.t.default(%s) : f32[8, 2]{1, 8} base %s !phase backward
    %gw = aten.mm.default(%st, %gm) : f32[8, 8]{8, 1} !phase backward
)";

TEST(Placements, ABackwardPassIsInferred) {
  const std::string reduce =
      std::string(kBackward) + "%g = autosp.all_reduce(%gw, \"sum\") : f32[8, 8]{8, 1} !phase backward";
  EXPECT_EQ(Check(Program(reduce, "output gradient %g \"w\"")), Lines());
}

TEST(Placements, AGradientThatIsNotReducedIsReported) {
  EXPECT_EQ(Check(Program(kBackward, "output gradient %gw \"w\"")),
            Lines{"graph: %gw is P or S, and an output on which all ranks must agree is R"});
}

TEST(Placements, AGradientThatIsReducedTwiceIsReported) {
  const std::string twice = std::string(kBackward) +
                            "%g = autosp.all_reduce(%gw, \"sum\") : f32[8, 8]{8, 1} !phase backward "
                            "%gg = autosp.all_reduce(%g, \"sum\") : f32[8, 8]{8, 1} !phase backward";
  EXPECT_EQ(Check(Program(twice, "output gradient %gg \"w\"")), Lines{"autosp.all_reduce of %gg: %g is R, not P"});
}

TEST(Placements, TheAdjointOfAllReduceDoesNotReduce) {
  std::string wrong(kBackward);
  wrong.replace(wrong.find("autosp.vary(%one)"), 17, "autosp.all_reduce(%gx, \"sum\")");
  wrong = "%gx = autosp.vary(%l) : f32[]{} !phase backward " + wrong;
  EXPECT_EQ(Check(Program(wrong)), Lines{"autosp.all_reduce of %gv: %gx is V, not P"});
}

TEST(Placements, ABucketIsReducedInPlace) {
  const std::string bucket = std::string(kBackward) + R"(
    %b = aten.cat.default([%gw, %gw], 0) : f32[128]{1} !phase step
    autosp.all_reduce_(%b, "sum") !phase step
    %g = aten.as_strided.default(%b, [8, 8], [8, 1], 0) : f32[8, 8]{8, 1} base %b !phase step
    %lr = aten.full.default([], 0.1) : f64[]{} !phase step
    autosp.sgd_(%w, none, %g, none, %lr, 0.0) !phase step
  )";
  EXPECT_EQ(Check(Program(bucket, "output gradient %g \"w\"")), Lines());
  std::string without = bucket;
  without.erase(without.find("autosp.all_reduce_"), std::string("autosp.all_reduce_(%b, \"sum\") !phase step").size());
  const Lines lines = Check(Program(without, "output gradient %g \"w\""));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_NE(lines[0].find("an update is the same on all ranks only if its operands are R"), std::string::npos)
      << lines[0];
}

// ZeRO 2 of two elements a rank: the gradient's block, the update of the parameter's own block, the gather.
std::string Sharded(const std::string& updates) {
  return R"(graph @g {
    input %w : f32[7]{1} R parameter "w" grad
    input %m : f32[2]{1} S(dim=0, valid=7, block=2, outer=1, inner=1) state "w.master"
    input %lr : f64[]{} R state "lr"
    %v = autosp.vary(%w) : f32[7]{1} V base %w
    %p = autosp.first(%v) : f32[7]{1} P !phase backward
)" + updates + R"(
    output gradient %g "w"
  })";
}
constexpr std::string_view kScatter =
    "%g = autosp.reduce_scatter_coalesced([%p]) : f32[2]{1} S(dim=0, valid=7, block=2, outer=1, inner=1) !phase step\n";
constexpr std::string_view kShardUpdate = "autosp.sgd_shard_(%w, %m, %g, none, %lr, 0.0) !phase step\n";
constexpr std::string_view kGather = "autosp.all_gather_coalesced_([%w]) !phase step\n";

TEST(Placements, BlocksOfTheStateGradientAndParameter) {
  const std::string lawful = std::string(kScatter) + std::string(kShardUpdate) + std::string(kGather);
  EXPECT_EQ(Check(Sharded(lawful)), Lines());
}

TEST(Placements, AParameterOfWhichRanksHaveOtherBlocksIsGathered) {
  const std::string updated = std::string(kScatter) + std::string(kShardUpdate);
  EXPECT_EQ(Check(Sharded(updated)), Lines{"graph: of %w each rank has updated its own block, and nothing gathers them"});
  const std::string read = updated + "%y = aten.neg.default(%v) : f32[7]{1} V !phase step\n" + std::string(kGather);
  EXPECT_EQ(Check(Sharded(read)), Lines{"aten.neg.default of %y: reads %v, of which each rank has another block anew"});
  const std::string twice = updated + std::string(kGather) + std::string(kGather);
  EXPECT_EQ(Check(Sharded(twice)), Lines{"autosp.all_gather_coalesced_: %w is the same on all ranks already"});
}

TEST(Placements, ABlockIsOneOfItsTensor) {
  const std::string wrong = "%o = autosp.own_block(%w) : f32[2]{1} S(dim=0, valid=6, block=2, outer=1, inner=1)\n" +
                            std::string(kScatter) + std::string(kShardUpdate) + std::string(kGather);
  EXPECT_EQ(Check(Sharded(wrong)),
            Lines{"autosp.own_block of %o: %o is S(dim=0, valid=6, block=2, outer=1, inner=1), no block of the 7 elements of %w"});
  EXPECT_EQ(Check(Sharded("%g = autosp.own_block(%p) : f32[2]{1} S(dim=0, valid=7, block=2, outer=1, inner=1)\n")),
            Lines{"autosp.own_block of %g: %p is P, not R"});
}

TEST(Placements, AGraphWithoutPlacementsHasNoViolation) {
  EXPECT_EQ(Check("graph @g { input %x : f32[2] user \"x\" %a = autosp.all_reduce(%x, \"sum\") : f32[2] }"), Lines());
}

}  // namespace
}  // namespace autospc::ir
