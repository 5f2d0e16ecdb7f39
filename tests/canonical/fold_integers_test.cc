// fold-integers, and the proof that no row of a mask is empty.
#include <gtest/gtest.h>

#include <random>

#include "passes/canonical/attention.h"
#include "passes/canonical/register.h"
#include "tests/canonical/evaluate.h"

namespace autospc::testing {
namespace {

// Runs the pass, compares, and returns whether it changed the graph.
bool Fold(Builder& b) {
  const auto before = Evaluate(b.graph, b.inputs());
  PassContext context;
  context.constants = b.Reader();
  const auto changed = canonical::FoldIntegers(b.graph, context);
  EXPECT_TRUE(changed.ok());
  EXPECT_EQ(Difference(before, Evaluate(b.graph, b.inputs())), 0);
  return *changed;
}

TEST(FoldIntegers, PositionsByCumsumOfOnes) {
  Builder b;
  const ValueId ones = b.Op("aten.ones.default", {Is({2, 7}), Arg::Type(DType::kInt64)});
  const ValueId sum = b.Op("aten.cumsum.default", {V(ones), I(1)});
  b.Output(b.Op("aten.add.Tensor",
                {V(b.Op("aten.sub.Tensor", {V(b.Op("aten.mul.Tensor", {V(sum), V(ones)})), I(1)})), I(2)}));
  EXPECT_TRUE(Fold(b));
  EXPECT_EQ(Count(b.graph, "aten.cumsum.default"), 0);
  const ir::Node* arange = Only(b.graph, "aten.arange.start_step");
  ASSERT_NE(arange, nullptr);
  EXPECT_EQ(arange->args[0].i.value(), 2);
  EXPECT_EQ(arange->args[2].i.value(), 1);
}

TEST(FoldIntegers, SliceOfAPositionBuffer) {
  Builder b;
  std::vector<int64_t> data(20);
  for (int64_t i = 0; i < 20; ++i) data[i] = 3 * i + 5;
  const ValueId buffer = b.Buffer("position_ids", Integers({1, 20}, data));
  b.Output(b.Op("aten.expand.default", {V(b.Op("aten.slice.Tensor", {V(buffer), I(1), I(2), I(9)})), Is({4, 7})}));
  EXPECT_TRUE(Fold(b));
  EXPECT_EQ(Count(b.graph, "aten.slice.Tensor"), 0);
}

TEST(FoldIntegers, NegativeSteps) {
  Builder b;
  b.Output(b.Op("aten.rsub.Scalar", {V(b.Op("aten.arange.default", {I(6)})), I(5)}));
  EXPECT_TRUE(Fold(b));
  EXPECT_EQ(Only(b.graph, "aten.arange.start_step")->args[2].i.value(), -1);
}

TEST(FoldIntegers, LeavesWhatIsPlainOrNotAffine) {
  Builder b;
  const ValueId arange = b.Op("aten.arange.default", {I(6)});
  b.Output(b.Op("aten.unsqueeze.default", {V(arange), I(0)}));
  b.Output(b.Op("aten.mul.Tensor", {V(arange), V(arange)}));
  b.Output(b.Op("aten.cumsum.default", {V(b.User("ids", Integers({6}, {1, 0, 1, 1, 0, 1}))), I(0)}));
  std::vector<int64_t> bent = {0, 1, 2, 3, 5, 5};
  b.Output(b.Op("aten.slice.Tensor", {V(b.Buffer("bent", Integers({6}, bent))), I(0), I(1), I(6)}));
  EXPECT_FALSE(Fold(b));
}

TEST(FoldIntegers, ABufferThatTheStepWritesIsNoConstant) {
  Builder b;
  const ValueId buffer = b.Buffer("p", Integers({6}, {0, 1, 2, 3, 4, 5}));
  b.Output(b.Op("aten.slice.Tensor", {V(buffer), I(0), I(1), I(6)}));
  b.graph.outputs.push_back({buffer, ir::OutputKind::kBufferUpdate, "p"});
  EXPECT_FALSE(Fold(b));
}

// Never claims more than entry-by-entry evaluation over all vectors of zeros and ones shows, and is exact without
// vectors.
TEST(NoRowIsEmpty, AgreesWithEnumeration) {
  using Kind = Predicate::Kind;
  std::mt19937 rng(5);
  const auto draw = [&](int lo, int hi) { return std::uniform_int_distribution<int>(lo, hi)(rng); };
  const auto atom = [&]() -> Predicate {
    switch (draw(0, 5)) {
      case 0:
        return Predicate::Make(Kind::kDiff, draw(-4, 3), Predicate::kMax);
      case 1:
        return Predicate::Make(Kind::kDiff, draw(-4, 0), draw(0, 4));
      case 2:
        return Predicate::Make(Kind::kK, draw(0, 3), draw(2, 8));
      case 3:
        return Predicate::Make(Kind::kSameChunk, draw(2, 5));
      case 4:
        return Predicate::Make(Kind::kQ, draw(0, 3), Predicate::kMax);
      default:
        return draw(0, 3) ? Predicate::Not(Predicate::Make(Kind::kSameChunk, draw(2, 4)))
                          : Predicate::Make(draw(0, 1) ? Kind::kKey : Kind::kSame, Predicate::kMin, Predicate::kMax, 0);
    }
  };
  int proved = 0, refuted = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    Predicate p = atom();
    for (int n = draw(0, 2); n > 0; --n) p = draw(0, 1) ? Predicate::And({p, atom()}) : Predicate::Or({p, atom()});
    const int64_t q_size = draw(1, 7), k_size = draw(1, 7);
    bool full = true;
    for (int bits = 0; bits < (VectorCount(p) > 0 ? 128 : 1); ++bits) {
      for (int64_t q = 0; q < q_size; ++q) {
        bool any = false;
        for (int64_t k = 0; k < k_size; ++k) any |= Holds(p, q, k, [&](int, int64_t i) { return (bits >> i) & 1; });
        full &= any;
      }
    }
    const bool claim = canonical::NoRowIsEmpty(p, q_size, k_size);
    if (claim) EXPECT_TRUE(full) << p.ToString() << " " << q_size << " " << k_size;
    if (VectorCount(p) == 0) EXPECT_EQ(claim, full) << p.ToString() << " " << q_size << " " << k_size;
    ++(claim ? proved : refuted);
  }
  EXPECT_GT(proved, 300);
  EXPECT_GT(refuted, 300);
}

}  // namespace
}  // namespace autospc::testing
