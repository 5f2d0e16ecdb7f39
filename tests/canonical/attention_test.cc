// recognise-attention and undo-repeat-kv over attention written every way: the pass must keep the numbers and
// leave one autosp.attention with the right predicate, or leave the graph as it is where it may not.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "passes/canonical/register.h"
#include "tests/canonical/evaluate.h"

namespace autospc::testing {
namespace {

constexpr int64_t kB = 2, kH = 4, kS = 6, kD = 8;
constexpr double kInf = INFINITY, kMinimum = -3.4028234663852886e38;

struct Qkv {
  ValueId q, k, v;
};

class AttentionTest : public ::testing::Test {
 protected:
  Qkv Inputs(int64_t heads = kH, int64_t kv = kH, DType dtype = DType::kFloat64) {
    return {b.Parameter("q", Random({kB, heads, kS, kD}, 1, dtype)),
            b.Parameter("k", Random({kB, kv, kS, kD}, 2, dtype)), b.Parameter("v", Random({kB, kv, kS, kD}, 3, dtype))};
  }
  ValueId Sdpa(Qkv x, Arg mask, bool causal = false, Arg scale = Arg::None(), bool groups = false) {
    return b.Op("aten.scaled_dot_product_attention.default", {V(x.q), V(x.k), V(x.v), std::move(mask), Arg::Float(0),
                                                              Arg::Bool(causal), std::move(scale), Arg::Bool(groups)});
  }
  ValueId Scores(Qkv x) {
    return b.Op("aten.matmul.default", {V(x.q), V(b.Op("aten.transpose.int", {V(x.k), I(-2), I(-1)}))});
  }
  ValueId Weighted(ValueId scores, ValueId v) {
    return b.Op("aten.matmul.default", {V(b.Op("aten.softmax.int", {V(scores), I(-1)})), V(v)});
  }
  ValueId Arange(int64_t n = kS) { return b.Op("aten.arange.default", {I(n)}); }
  // k <= q, [S, S].
  ValueId Causal() {
    const ValueId q = b.Op("aten.unsqueeze.default", {V(Arange()), I(1)}),
                  k = b.Op("aten.unsqueeze.default", {V(Arange()), I(0)});
    return b.Op("aten.le.Tensor", {V(k), V(q)});
  }
  // Runs the passes and compares with the graph before.
  void Canonicalise(double tolerance = 1e-12) {
    const auto before = Evaluate(b.graph, b.inputs());
    PassContext context;
    context.constants = b.Reader();
    for (const auto pass :
         {canonical::Simplify, canonical::RecogniseAttention, canonical::UndoRepeatKv, canonical::Simplify}) {
      const auto changed = pass(b.graph, context);
      ASSERT_TRUE(changed.ok()) << changed.error().Format();
    }
    notes = context.notes;
    EXPECT_LE(Difference(before, Evaluate(b.graph, b.inputs())), tolerance);
  }
  void ExpectAttention(const std::string& predicate, double scale, int64_t kv_heads = kH) {
    const ir::Node* node = Only(b.graph, "autosp.attention");
    ASSERT_NE(node, nullptr);
    EXPECT_EQ(node->args[4].s, predicate);
    EXPECT_NEAR(node->args[5].f, scale, 1e-12);
    EXPECT_EQ(b.graph.value(node->args[1].value).sizes[1].value(), kv_heads);
    EXPECT_EQ(b.graph.value(node->args[2].value).sizes[1].value(), kv_heads);
    for (const ir::NodeId id : b.graph.nodes()) {
      for (const ValueId v : b.graph.node(id).results) {
        EXPECT_LT(b.graph.value(v).numel(), kB * kH * kS * kD + 1);
        const auto sizes = b.graph.value(v).int_sizes();
        EXPECT_FALSE(sizes.size() >= 2 && sizes[sizes.size() - 1] == kS && sizes[sizes.size() - 2] == kS)
            << b.graph.value(v).name;
      }
    }
    EXPECT_TRUE(notes.empty());
  }
  void ExpectExplicit() {
    EXPECT_EQ(Count(b.graph, "autosp.attention"), 0);
    EXPECT_EQ(Count(b.graph, "aten.scaled_dot_product_attention.default"), 0);
    ASSERT_EQ(notes.size(), 1u);
    EXPECT_EQ(notes[0].bytes, kB * kH * kS * kS * 8);
  }

  Builder b;
  std::vector<Note> notes;
};

const double kDefaultScale = 1 / std::sqrt(8.0);

TEST_F(AttentionTest, SdpaCausal) {
  b.Output(Sdpa(Inputs(), Arg::None(), true));
  Canonicalise();
  ExpectAttention("diff(0, *)", kDefaultScale);
}

TEST_F(AttentionTest, SdpaWithoutMaskAndWithScale) {
  b.Output(Sdpa(Inputs(), Arg::None(), false, Arg::Float(0.25)));
  Canonicalise();
  ExpectAttention("true", 0.25);
}

TEST_F(AttentionTest, SdpaGroupedHeads) {
  b.Output(Sdpa(Inputs(4, 2), Arg::None(), true, Arg::None(), true));
  Canonicalise();
  ExpectAttention("diff(0, *)", kDefaultScale, 2);
}

TEST_F(AttentionTest, SdpaCausalIsTopLeftAlignedWhereLengthsDiffer) {
  const ValueId q = b.Parameter("q", Random({1, 2, 5, 4}, 1)), k = b.Parameter("k", Random({1, 2, 9, 4}, 2)),
                v = b.Parameter("v", Random({1, 2, 9, 4}, 3));
  b.Output(Sdpa({q, k, v}, Arg::None(), true));
  Canonicalise();
  EXPECT_NE(Only(b.graph, "autosp.attention"), nullptr);
}

TEST_F(AttentionTest, SdpaRankThree) {
  const ValueId q = b.Parameter("q", Random({3, 6, 4}, 1)), k = b.Parameter("k", Random({3, 6, 4}, 2)),
                v = b.Parameter("v", Random({3, 6, 4}, 3));
  b.Output(Sdpa({q, k, v}, Arg::None(), true));
  Canonicalise();
  EXPECT_NE(Only(b.graph, "autosp.attention"), nullptr);
}

TEST_F(AttentionTest, SdpaBooleanMaskFromAranges) {
  const ValueId mask =
      b.Op("aten.expand.default",
           {V(b.Op("aten.unsqueeze.default", {V(b.Op("aten.unsqueeze.default", {V(Causal()), I(0)})), I(0)})),
            Is({kB, 1, kS, kS})});
  b.Output(Sdpa(Inputs(), V(mask)));
  Canonicalise();
  ExpectAttention("diff(0, *)", kDefaultScale);
}

// A row whose keys are all padding: zero for a boolean mask, and so here.
TEST_F(AttentionTest, SdpaKeyPaddingWithEmptyRows) {
  const ValueId am = b.User("attention_mask", Integers({kB, kS}, {1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0}));
  const ValueId key = b.Op("aten.unsqueeze.default",
                           {V(b.Op("aten.unsqueeze.default", {V(b.Op("aten.ne.Scalar", {V(am), I(0)})), I(1)})), I(1)});
  b.Output(Sdpa(Inputs(), V(b.Op("aten.bitwise_and.Tensor", {V(key), V(Causal())}))));
  Canonicalise();
  ExpectAttention("and(diff(0, *), key(0))", kDefaultScale);
  EXPECT_EQ(Only(b.graph, "autosp.attention")->args[3].values, std::vector<ValueId>{am});
}

TEST_F(AttentionTest, SdpaAdditiveCausal) {
  const ValueId mask =
      b.Op("aten.where.ScalarOther",
           {V(Causal()), V(b.Op("aten.zeros.default", {Is({}), Arg::Type(DType::kFloat64)})), Arg::Float(-kInf)});
  b.Output(Sdpa(Inputs(), V(mask)));
  Canonicalise();
  ExpectAttention("diff(0, *)", kDefaultScale);
}

// Padding may empty a row, and then a finite minimum gives the mean of V: the scores stay explicit.
TEST_F(AttentionTest, AdditiveKeyPaddingStaysExplicit) {
  const ValueId am = b.User("attention_mask", Integers({kB, kS}, {1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0}, DType::kBool));
  const ValueId key = b.Op("aten.unsqueeze.default", {V(b.Op("aten.unsqueeze.default", {V(am), I(1)})), I(1)});
  const ValueId zeros = b.Op("aten.zeros.default", {Is({kB, 1, 1, kS}), Arg::Type(DType::kFloat64)});
  const ValueId mask =
      b.Op("aten.masked_fill.Scalar", {V(zeros), V(b.Op("aten.logical_not.default", {V(key)})), Arg::Float(kMinimum)});
  b.Output(Sdpa(Inputs(), V(mask)));
  Canonicalise();
  ExpectExplicit();
}

TEST_F(AttentionTest, RandomBooleanMaskIsWrittenOut) {
  std::vector<int64_t> bits(kS * kS);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = (i * i + 3 * i) % 5 < 2;
  for (int64_t j = 0; j < kS; ++j) bits[2 * kS + j] = 0;  // an empty row gives zero
  b.Output(Sdpa(Inputs(), V(b.User("mask", Integers({kS, kS}, bits, DType::kBool)))));
  Canonicalise();
  ExpectExplicit();
}

TEST_F(AttentionTest, BiasIsWrittenOutWithGroupedHeads) {
  Tensor bias = Random({1, kH, kS, kS}, 9);
  for (int64_t j = 0; j < kS; ++j) bias.data[j] = -kInf;  // an empty row, also zero
  bias.data[kS + 1] = -kInf;
  b.Output(Sdpa(Inputs(kH, 2), V(b.Parameter("bias", bias)), false, Arg::Float(0.5), true));
  Canonicalise();
  ExpectExplicit();
}

TEST_F(AttentionTest, HandWrittenWithTriuBuffer) {
  std::vector<int64_t> triu(64);
  for (int64_t i = 0; i < 64; ++i) triu[i] = i % 8 > i / 8;
  const ValueId buffer = b.Buffer("mask", Integers({8, 8}, triu, DType::kBool));
  const ValueId mask = b.Op("aten.slice.Tensor", {V(b.Op("aten.slice.Tensor", {V(buffer), I(0), Arg::None(), I(kS)})),
                                                  I(1), Arg::None(), I(kS)});
  const Qkv x = Inputs();
  const ValueId scaled = b.Op("aten.div.Tensor", {V(Scores(x)), Arg::Float(2.0)});
  b.Output(Weighted(b.Op("aten.masked_fill.Scalar", {V(scaled), V(mask), Arg::Float(-kInf)}), x.v));
  Canonicalise();
  ExpectAttention("diff(0, *)", 0.5);
}

// A buffer that no structure fits is not taken for one that nearly does.
TEST_F(AttentionTest, BufferWithOneFlippedEntryStaysExplicit) {
  std::vector<int64_t> triu(kS * kS);
  for (int64_t i = 0; i < kS * kS; ++i) triu[i] = i % kS > i / kS;
  triu[2 * kS + 1] = 1;
  const ValueId mask = b.Buffer("mask", Integers({kS, kS}, triu, DType::kBool));
  const Qkv x = Inputs();
  b.Output(Weighted(b.Op("aten.masked_fill.Scalar", {V(Scores(x)), V(mask), Arg::Float(-kInf)}), x.v));
  Canonicalise();
  ExpectExplicit();
}

// A buffer that the step writes is no constant.
TEST_F(AttentionTest, WrittenBufferStaysExplicit) {
  std::vector<int64_t> triu(kS * kS);
  for (int64_t i = 0; i < kS * kS; ++i) triu[i] = i % kS > i / kS;
  const ValueId mask = b.Buffer("mask", Integers({kS, kS}, triu, DType::kBool));
  const Qkv x = Inputs();
  b.Output(Weighted(b.Op("aten.masked_fill.Scalar", {V(Scores(x)), V(mask), Arg::Float(-kInf)}), x.v));
  b.graph.outputs.push_back({mask, ir::OutputKind::kBufferUpdate, "mask"});
  Canonicalise();
  ExpectExplicit();
}

// GPT-2 eager: where(causal slice of a [1, 1, N, N] buffer, scores, full([], minimum)), scale by a 0-d tensor.
TEST_F(AttentionTest, Gpt2Eager) {
  std::vector<int64_t> tril(64);
  for (int64_t i = 0; i < 64; ++i) tril[i] = i % 8 <= i / 8;
  const ValueId buffer = b.Buffer("bias", Integers({1, 1, 8, 8}, tril, DType::kBool));
  const ValueId mask = b.Op("aten.slice.Tensor",
                            {V(b.Op("aten.slice.Tensor", {V(buffer), I(2), I(0), I(kS)})), I(3), Arg::None(), I(kS)});
  const Qkv x = Inputs();
  const ValueId root = b.Op("aten.full.default", {Is({}), Arg::Float(std::sqrt(8.0)), Arg::Type(DType::kFloat64)});
  const ValueId scaled = b.Op("aten.div.Tensor", {V(Scores(x)), V(root)});
  const ValueId fill = b.Op("aten.full.default", {Is({}), Arg::Float(kMinimum), Arg::Type(DType::kFloat64)});
  b.Output(Weighted(b.Op("aten.where.self", {V(mask), V(scaled), V(fill)}), x.v));
  Canonicalise();
  ExpectAttention("diff(0, *)", kDefaultScale);
}

TEST_F(AttentionTest, AdditiveMaskAndScaleOnBothSides) {
  Qkv x = Inputs();
  const ValueId v = x.v;
  x.q = b.Op("aten.mul.Tensor", {V(x.q), Arg::Float(0.5)});
  x.k = b.Op("aten.mul.Scalar", {V(x.k), Arg::Float(0.25)});
  const ValueId zero = b.Op("aten.scalar_tensor.default", {Arg::Float(0), Arg::Type(DType::kFloat64)});
  const ValueId low = b.Op("aten.scalar_tensor.default", {Arg::Float(kMinimum), Arg::Type(DType::kFloat64)});
  const ValueId mask = b.Op("aten.where.self", {V(Causal()), V(zero), V(low)});
  b.Output(Weighted(b.Op("aten.add.Tensor", {V(mask), V(Scores(x))}), v));
  Canonicalise();
  ExpectAttention("diff(0, *)", 0.125);
}

// (1 - tril) * -1e9, added before the scale.
TEST_F(AttentionTest, MaskByArithmetic) {
  const Qkv x = Inputs();
  const ValueId ones = b.Op("aten.ones.default", {Is({kS, kS}), Arg::Type(DType::kFloat64)});
  const ValueId tril = b.Op("aten.tril.default", {V(ones), I(0)});
  const ValueId mask = b.Op("aten.mul.Tensor", {V(b.Op("aten.rsub.Scalar", {V(tril), I(1), I(1)})), Arg::Float(-1e9)});
  const ValueId masked = b.Op("aten.add.Tensor", {V(Scores(x)), V(mask)});
  b.Output(Weighted(b.Op("aten.mul.Tensor", {V(masked), Arg::Float(0.3)}), x.v));
  Canonicalise();
  ExpectAttention("diff(0, *)", 0.3);
}

TEST_F(AttentionTest, FloatSoftmaxOfNarrowerTypes) {
  const Qkv x = Inputs(kH, kH, DType::kFloat32);
  const ValueId masked = b.Op("aten.masked_fill.Scalar",
                              {V(Scores(x)), V(b.Op("aten.logical_not.default", {V(Causal())})), Arg::Float(-kInf)});
  const ValueId wide = b.Op("aten.to.dtype", {V(masked), Arg::Type(DType::kFloat64)});
  const ValueId p = b.Op("aten.type_as.default", {V(b.Op("aten.softmax.int", {V(wide), I(-1)})), V(x.q)});
  b.Output(
      b.Op("aten.matmul.default", {V(b.Op("aten.dropout.default", {V(p), Arg::Float(0), Arg::Bool(true)})), V(x.v)}));
  Canonicalise(1e-6);
  ExpectAttention("diff(0, *)", 1);
}

TEST_F(AttentionTest, DropoutGetsItsOwnSites) {
  const Qkv x = Inputs();
  for (int layer = 0; layer < 2; ++layer) {
    const ValueId p = b.Op("aten.softmax.int", {V(b.Op("aten.mul.Tensor", {V(Scores(x)), Arg::Float(0.5)})), I(-1)});
    b.Output(b.Op("aten.matmul.default",
                  {V(b.Op("aten.dropout.default", {V(p), Arg::Float(0.1), Arg::Bool(true)})), V(x.v)}));
  }
  PassContext context;
  ASSERT_TRUE(canonical::RecogniseAttention(b.graph, context).ok());
  std::vector<int64_t> sites;
  for (const ir::NodeId id : b.graph.nodes()) {
    const ir::Node& node = b.graph.node(id);
    if (node.op != "autosp.attention") continue;
    EXPECT_EQ(node.args[11].f, 0.1);
    sites.push_back(node.args[12].i.value());
  }
  EXPECT_EQ(sites, (std::vector<int64_t>{0, 1}));
}

TEST_F(AttentionTest, RepeatKvOfHuggingFace) {
  Qkv x = Inputs(kH, 2);
  for (ValueId* kv : {&x.k, &x.v}) {
    ValueId wide = b.Op("aten.unsqueeze.default", {V(*kv), I(2)});
    wide = b.Op("aten.slice.Tensor", {V(wide), I(3), I(0), I(INT64_MAX)});
    wide = b.Op("aten.expand.default", {V(wide), Is({kB, 2, 2, kS, kD})});
    *kv = b.Op("aten.reshape.default", {V(wide), Is({kB, kH, kS, kD})});
  }
  b.Output(Sdpa(x, Arg::None(), true));
  Canonicalise();
  ExpectAttention("diff(0, *)", kDefaultScale, 2);
}

TEST_F(AttentionTest, RepeatInterleaveOfHandWrittenForms) {
  Qkv x = Inputs(kH, 2);
  for (ValueId* kv : {&x.k, &x.v}) *kv = b.Op("aten.repeat_interleave.self_int", {V(*kv), I(2), I(1)});
  b.Output(Weighted(b.Op("aten.mul.Tensor", {V(Scores(x)), Arg::Float(0.3)}), x.v));
  Canonicalise();
  ExpectAttention("true", 0.3, 2);
}

// tile (repeat) orders heads otherwise than grouped reading does.
TEST_F(AttentionTest, TiledHeadsStayRepeated) {
  Qkv x = Inputs(kH, 2);
  for (ValueId* kv : {&x.k, &x.v}) *kv = b.Op("aten.repeat.default", {V(*kv), Is({1, 2, 1, 1})});
  b.Output(Sdpa(x, Arg::None(), true));
  Canonicalise();
  ExpectAttention("diff(0, *)", kDefaultScale, kH);
}

TEST_F(AttentionTest, BatchedMatrixProductsOverMergedHeads) {
  const Qkv x = Inputs();
  const auto merged = [&](ValueId v) { return b.Op("aten.reshape.default", {V(v), Is({kB * kH, kS, kD})}); };
  const ValueId scores =
      b.Op("aten.bmm.default", {V(merged(x.q)), V(b.Op("aten.transpose.int", {V(merged(x.k)), I(1), I(2)}))});
  const ValueId apart = b.Op("aten.view.default", {V(scores), Is({kB, kH, kS, kS})});
  const ValueId masked = b.Op("aten.where.ScalarOther", {V(Causal()), V(apart), Arg::Float(kMinimum)});
  const ValueId p = b.Op("aten._softmax.default",
                         {V(b.Op("aten.view.default", {V(masked), Is({kB * kH, kS, kS})})), I(-1), Arg::Bool(false)});
  const ValueId out = b.Op("aten.bmm.default", {V(p), V(merged(x.v))});
  b.Output(b.Op("aten.view.default", {V(out), Is({kB, kH, kS, kD})}));
  Canonicalise();
  ExpectAttention("diff(0, *)", 1);
}

TEST_F(AttentionTest, BaddbmmWithBetaZeroIsAScale) {
  const Qkv x = Inputs();
  const auto merged = [&](ValueId v) { return b.Op("aten.reshape.default", {V(v), Is({kB * kH, kS, kD})}); };
  const ValueId zeros = b.Op("aten.zeros.default", {Is({kB * kH, kS, kS}), Arg::Type(DType::kFloat64)});
  const ValueId kt = b.Op("aten.transpose.int", {V(merged(x.k)), I(1), I(2)});
  const ValueId scores = b.Op("aten.baddbmm.default", {V(zeros), V(merged(x.q)), V(kt), I(0), Arg::Float(0.3)});
  b.Output(b.Op("aten.bmm.default", {V(b.Op("aten.softmax.int", {V(scores), I(-1)})), V(merged(x.v))}));
  Canonicalise();
  ExpectAttention("true", 0.3);
}

// ALiBi's bias through baddbmm is no predicate.
TEST_F(AttentionTest, BaddbmmWithABiasStaysExplicit) {
  const Qkv x = Inputs();
  const auto merged = [&](ValueId v) { return b.Op("aten.reshape.default", {V(v), Is({kB * kH, kS, kD})}); };
  const ValueId bias = b.Buffer("alibi", Random({kB * kH, 1, kS}, 5));
  const ValueId kt = b.Op("aten.transpose.int", {V(merged(x.k)), I(1), I(2)});
  const ValueId scores = b.Op("aten.baddbmm.default", {V(bias), V(merged(x.q)), V(kt), I(1), Arg::Float(0.3)});
  b.Output(b.Op("aten.bmm.default", {V(b.Op("aten.softmax.int", {V(scores), I(-1)})), V(merged(x.v))}));
  Canonicalise();
  ExpectExplicit();
}

TEST_F(AttentionTest, EinsumOverSequenceFirstLayouts) {
  const ValueId q = b.Parameter("q", Random({kB, kS, kH, kD}, 1)), k = b.Parameter("k", Random({kB, kS, kH, kD}, 2)),
                v = b.Parameter("v", Random({kB, kS, kH, kD}, 3));
  const ValueId scores = b.Op("aten.einsum.default", {Arg::String("bqhd,bkhd->bhqk"), Arg::Values({q, k})});
  const ValueId masked =
      b.Op("aten.masked_fill.Scalar", {V(b.Op("aten.mul.Tensor", {V(scores), Arg::Float(0.2)})),
                                       V(b.Op("aten.bitwise_not.default", {V(Causal())})), Arg::Float(-kInf)});
  const ValueId p = b.Op("aten.softmax.int", {V(masked), I(3)});
  b.Output(b.Op("aten.einsum.default", {Arg::String("bhqk, bkhd -> bqhd"), Arg::Values({p, v})}));
  Canonicalise();
  ExpectAttention("diff(0, *)", 0.2);
}

TEST_F(AttentionTest, SoftCapStaysExplicit) {
  const Qkv x = Inputs();
  const ValueId capped = b.Op(
      "aten.mul.Tensor",
      {V(b.Op("aten.tanh.default", {V(b.Op("aten.div.Tensor", {V(Scores(x)), Arg::Float(50)}))})), Arg::Float(50)});
  b.Output(Weighted(capped, x.v));
  Canonicalise();
  ExpectExplicit();
}

TEST_F(AttentionTest, ProbabilitiesThatAreReturnedStayExplicit) {
  const Qkv x = Inputs();
  const ValueId p = b.Op("aten.softmax.int", {V(Scores(x)), I(-1)});
  b.Output(b.Op("aten.matmul.default", {V(p), V(x.v)}));
  b.Output(p);
  Canonicalise();
  ExpectExplicit();
}

// A hand-written -inf over strictly earlier keys leaves row 0 empty: NaN there, which must stay.
TEST_F(AttentionTest, HandWrittenWithAnEmptyRowStaysExplicit) {
  const Qkv x = Inputs();
  const ValueId q = b.Op("aten.unsqueeze.default", {V(Arange()), I(1)});
  const ValueId mask = b.Op("aten.ge.Tensor", {V(Arange()), V(q)});
  b.Output(Weighted(b.Op("aten.masked_fill.Scalar", {V(Scores(x)), V(mask), Arg::Float(-kInf)}), x.v));
  Canonicalise();
  ExpectExplicit();
}

// A penalty of -5 is no mask.
TEST_F(AttentionTest, SmallPenaltyStaysExplicit) {
  const Qkv x = Inputs();
  b.Output(Weighted(b.Op("aten.masked_fill.Scalar",
                         {V(Scores(x)), V(b.Op("aten.logical_not.default", {V(Causal())})), Arg::Float(-5)}),
                    x.v));
  Canonicalise();
  ExpectExplicit();
}

}  // namespace
}  // namespace autospc::testing
