// Sizes: flags, ranges, guards, position tables.
#include <gtest/gtest.h>

#include <cmath>

#include "compiler/import/guards.h"
#include "compiler/import/import.h"
#include "tests/import/pt2_builder.h"

namespace autospc::import {
namespace {

using testing::In;
using testing::json;
using testing::kB;
using testing::kS;
using testing::Meta;
using testing::Pt2Builder;
using testing::SmallModel;
using testing::T;

Bindings Flags(std::optional<int64_t> seq_len, std::optional<int64_t> batch = {}, std::vector<std::string> shard = {}) {
  return {seq_len, batch, std::move(shard)};
}

Result<Bound> Bind(const Pt2Builder& b, const Bindings& flags, Model* out = nullptr) {
  auto model = b.Import();
  if (!model.ok()) {
    ADD_FAILURE() << model.error().Format();
    return model.error();
  }
  auto bound = BindSizes(&*model, flags);
  if (out) *out = std::move(*model);
  return bound;
}

void ExpectError(const Pt2Builder& b, const Bindings& flags, Code code, const std::vector<std::string>& says) {
  const auto bound = Bind(b, flags);
  ASSERT_FALSE(bound.ok()) << says[0];
  EXPECT_EQ(bound.error().code, code) << bound.error().Format();
  for (const std::string& s : says)
    EXPECT_NE(bound.error().Format().find(s), std::string::npos) << s << " in\n" << bound.error().Format();
}

// ids [B, S] and labels [B, S] of unrelated symbols, as Dim.AUTO may give them.
Pt2Builder TwoInputs() {
  Pt2Builder b;
  for (const char* s : {"s0", "s1", "s2", "s3"})
    b.program["range_constraints"][s] = {{"min_val", 2}, {"max_val", nullptr}};
  b.User("ids", Meta({kB, kS}, testing::kInt64));
  b.User("labels", Meta({"Symbol('s2', integer=True)", "Symbol('s3', integer=True)"}, testing::kInt64));
  b.Node("aten.mul.Tensor", {In("self", T("ids")), In("other", T("labels"))}, "m", Meta({kB, kS}, testing::kInt64));
  b.Node("aten.sum.default", {In("self", T("m")), In("dtype", {{"as_scalar_type", testing::kFloat32}})}, "loss",
         Meta({}));
  b.Output("loss");
  return b;
}

// Bytes are counted in 64 bits everywhere behind: what would leave them is refused here.
TEST(Bind, MoreThanCanBeCounted) {
  ExpectError(TwoInputs(), Flags(int64_t{1} << 40, int64_t{1} << 40, {"labels:1"}), Code::kBadInput,
              {"would take more than", "choose a shorter sequence"});
}

TEST(Bind, EveryExpressionBecomesANumber) {
  Model m;
  const auto bound = Bind(SmallModel(), Flags(61), &m);
  ASSERT_TRUE(bound.ok()) << bound.error().Format();
  EXPECT_EQ(bound->seq_len, 61);
  EXPECT_EQ(bound->batch, 2);
  EXPECT_TRUE(m.graph.symbols.empty());
  EXPECT_EQ(m.graph.value(m.graph.FindValue("linear")).int_sizes(), (std::vector<int64_t>{2, 61, 4}));
  EXPECT_EQ(m.graph.inputs[1].seq_dim, 1);
}

TEST(Bind, UnrelatedSymbolsOfOneMeaning) {
  Model m;
  const auto bound = Bind(TwoInputs(), Flags(61, 3), &m);
  ASSERT_TRUE(bound.ok()) << bound.error().Format();
  EXPECT_EQ(bound->batch, 3);
  EXPECT_EQ(m.graph.value(m.graph.FindValue("labels")).int_sizes(), (std::vector<int64_t>{3, 61}));
}

TEST(Bind, FlagsThatLack) {
  ExpectError(SmallModel(), Flags({}), Code::kUsage, {"dim 1 of input 'x'", "--seq-len", "2 to 256"});
  ExpectError(TwoInputs(), Flags(61), Code::kUsage, {"dim 0 of input 'ids'", "--batch", "2 or more"});
  ExpectError(SmallModel(), Flags(0), Code::kUsage, {"--seq-len 0"});
  ExpectError(SmallModel(), Flags(8, -1), Code::kUsage, {"--batch -1"});
}

TEST(Bind, FlagsAgainstTheExport) {
  ExpectError(SmallModel(), Flags(257), Code::kBadInput, {"--seq-len 257", "2 to 256"});
  ExpectError(SmallModel(), Flags(1), Code::kBadInput, {"--seq-len 1", "2 to 256"});
  ExpectError(SmallModel(), Flags(61, 3), Code::kBadInput, {"--batch 3", "'x'", "2"});
  EXPECT_TRUE(Bind(SmallModel(), Flags(256, 2)).ok());
  EXPECT_TRUE(Bind(TwoInputs(), Flags(61, 1)).ok());  // the export's least size is its own assumption
}

TEST(Bind, StaticExports) {
  auto b = SmallModel();
  b.graph()["tensor_values"]["x"] = Meta({2, 16, 4});
  b.graph()["tensor_values"]["linear"] = Meta({2, 16, 4});
  const auto bound = Bind(b, Flags({}));
  ASSERT_TRUE(bound.ok());
  EXPECT_EQ(bound->seq_len, 16);
  EXPECT_TRUE(Bind(b, Flags(16, 2)).ok());
  ExpectError(b, Flags(17), Code::kBadInput, {"--seq-len 17", "fixes to 16"});
}

TEST(Bind, Shard) {
  // [S, B] instead of [B, S].
  Pt2Builder b;
  b.User("x", Meta({kS, kB, 4}));
  b.Node("aten.sum.default", {In("self", T("x"))}, "loss", Meta({}));
  b.Output("loss");
  ExpectError(b, Flags(5, {}, {"x:0"}), Code::kUsage, {"dim 1 of input 'x'", "neither"});
  b.graph()["tensor_values"]["x"] = Meta({kS, 3, 4});
  Model m;
  const auto bound = Bind(b, Flags(5, {}, {"x:0"}), &m);
  ASSERT_TRUE(bound.ok()) << bound.error().Format();
  EXPECT_EQ(bound->seq_len, 5);
  EXPECT_EQ(m.graph.inputs[0].seq_dim, 0);
  EXPECT_TRUE(Bind(b, Flags(5, {}, {"x:-3"})).ok());
  ExpectError(b, Flags(5, {}, {"x"}), Code::kUsage, {"--shard x", "INPUT:DIM"});
  ExpectError(b, Flags(5, {}, {"x:one"}), Code::kUsage, {"--shard x:one"});
  ExpectError(b, Flags(5, {}, {":1"}), Code::kUsage, {"--shard :1"});
  ExpectError(b, Flags(5, {}, {"x:99999999999999999999"}), Code::kUsage, {"--shard x:99999999999999999999", "INPUT:DIM"});
  ExpectError(b, Flags(5, {}, {"y:1"}), Code::kBadInput, {"no input 'y'", "x"});
  ExpectError(b, Flags(5, {}, {"x:3"}), Code::kBadInput, {"has 3 dims"});
}

TEST(Bind, DerivedDims) {
  auto b = SmallModel();
  b.graph()["tensor_values"]["x"] = Meta({2, "Add(Mul(Integer(2), " + kS + "), Integer(1))", 4});
  Model m;
  ASSERT_TRUE(Bind(b, Flags(61), &m).ok());
  EXPECT_EQ(m.graph.value(m.graph.FindValue("linear")).sizes[1].value(), 30);
  ExpectError(b, Flags(62), Code::kBadInput, {"--seq-len 62", "impossible"});
}

// Batch and sequence that the export tied to one symbol.
TEST(Bind, OneSymbolForTwoMeanings) {
  auto b = SmallModel();
  b.graph()["tensor_values"]["x"] = Meta({kS, kS, 4});
  EXPECT_TRUE(Bind(b, Flags(8, 8)).ok());
  ExpectError(b, Flags(8, 4), Code::kBadInput, {"--batch 4", "would be 8"});
}

TEST(Bind, WhichDimIsTheSequence) {
  auto b = TwoInputs();
  b.User("mask", Meta({kB, 1, kS, kS}));
  b.User("positions", Meta({kS}, testing::kInt64));
  b.User("weights", Meta({7}));
  Model m;
  ASSERT_TRUE(Bind(b, Flags(61, 3), &m).ok());
  std::map<std::string, int> dims;
  for (const auto& in : m.graph.inputs) dims[in.name] = in.seq_dim;
  EXPECT_EQ(dims,
            (std::map<std::string, int>{{"ids", 1}, {"labels", 1}, {"mask", 2}, {"positions", 0}, {"weights", -1}}));
}

TEST(Bind, SymbolsOfNoInput) {
  auto b = SmallModel();
  b.graph()["tensor_values"]["linear"] = Meta({2, "Symbol('s9', integer=True)", 4});
  ExpectError(b, Flags(8), Code::kBadInput, {"'s9' has no value", "node 'linear' (net.py:7)"});
  b.graph()["tensor_values"]["linear"] = Meta({2, "Add(" + kS + ", Integer(-9))", 4});
  ExpectError(b, Flags(8), Code::kBadInput, {"the size -1"});
}

// x * (1 / sqrt(S))
TEST(Bind, NumbersMadeOfSizes) {
  auto b = SmallModel();
  b.graph()["sym_float_values"]["f"] = {{"as_expr",
                                         {{"expr_str", "FloatTrueDiv(Float('1.0', precision=53), FloatPow(ToFloat(" +
                                                           kS + "), Float('0.5', precision=53)))"}}}};
  b.graph()["nodes"].push_back(testing::MakeNode(
      "aten.mul.Tensor", {In("self", T("loss")), In("other", {{"as_sym_float", {{"as_name", "f"}}}})}, {T("scaled")}));
  b.graph()["tensor_values"]["scaled"] = Meta({});
  b.output_specs() = json::array();
  b.Output("scaled");
  Model m;
  ASSERT_TRUE(Bind(b, Flags(16), &m).ok());
  EXPECT_TRUE(m.pending.empty());
  EXPECT_DOUBLE_EQ(m.graph.producer(m.graph.FindValue("scaled"))->args[1].f, 0.25);
}

// positions: embedding(table [32, 4], arange(S) + offset)
Pt2Builder WithTable(int64_t offset) {
  auto b = SmallModel();
  b.Parameter("pos.weight", Meta({32, 4}), "weight_1").Data("weights/weight_1", std::string(512, '\0'));
  b.Node("aten.arange.default", {In("end", {{"as_sym_int", {{"as_name", "n"}}}})}, "a", Meta({kS}, testing::kInt64));
  b.graph()["sym_int_values"]["n"] = testing::Size(kS);
  b.Node("aten.add.Tensor", {In("self", T("a")), In("other", {{"as_int", offset}})}, "i", Meta({kS}, testing::kInt64));
  b.Node("aten.unsqueeze.default", {In("self", T("i")), In("dim", {{"as_int", 0}})}, "u",
         Meta({1, kS}, testing::kInt64));
  b.Node("aten.embedding.default", {In("weight", T("p_pos_weight")), In("indices", T("u"))}, "e", Meta({1, kS, 4}));
  b.Node("aten.sum.default", {In("self", T("e"))}, "aux", Meta({}));
  b.Node("aten.add.Tensor", {In("self", T("loss")), In("other", T("aux"))}, "total", Meta({}));
  b.output_specs() = json::array();
  b.Output("total");
  return b;
}

TEST(PositionTables, LookedUpPastTheirEnd) {
  EXPECT_TRUE(Bind(WithTable(0), Flags(32)).ok());
  ExpectError(WithTable(0), Flags(33), Code::kBadInput,
              {"table 'pos.weight' has 32 rows", "needs 33", "net.py:7", "--seq-len"});
  EXPECT_TRUE(Bind(WithTable(2), Flags(30)).ok());
  ExpectError(WithTable(2), Flags(31), Code::kBadInput, {"needs 33"});
  // A cumulative sum of ones is positions from 1.
  auto b = WithTable(1);
  auto& arange = b.graph()["nodes"][2];
  arange["target"] = "torch.ops.aten.ones.default";
  arange["inputs"] = json::array({In("size", {{"as_sym_ints", json::array({{{"as_name", "n"}}})}})});
  auto& add = b.graph()["nodes"][3];
  add["target"] = "torch.ops.aten.cumsum.default";
  add["inputs"] = json::array({In("self", T("a")), In("dim", {{"as_int", 0}})});
  EXPECT_TRUE(Bind(b, Flags(31)).ok());
  ExpectError(b, Flags(32), Code::kBadInput, {"needs 33"});
}

TEST(PositionTables, SlicedPastTheirEnd) {
  auto b = SmallModel();
  b.Buffer("cos", Meta({32, 4}), "tensor_0", false).Data("constants/tensor_0", std::string(512, '\0'));
  b.graph()["sym_int_values"]["n"] = testing::Size(kS);
  b.Node("aten.slice.Tensor",
         {In("self", T("b_cos")), In("dim", {{"as_int", 0}}), In("start", {{"as_int", 0}}),
          In("end", {{"as_sym_int", {{"as_name", "n"}}}})},
         "c", Meta({kS, 4}));
  b.Node("aten.sum.default", {In("self", T("c"))}, "aux", Meta({}));
  b.Node("aten.add.Tensor", {In("self", T("loss")), In("other", T("aux"))}, "total", Meta({}));
  b.output_specs() = json::array();
  b.Output("total");
  EXPECT_TRUE(Bind(b, Flags(32)).ok());
  ExpectError(b, Flags(33), Code::kBadInput, {"table 'cos' has 32 rows", "needs 33", "net.py:7"});
}

TEST(Guards, Expressions) {
  const InputSizes sizes = {{"ids", {2, 61}}, {"labels", {2, 64}}};
  const auto eval = [&](const char* text) { return EvalGuard(text, sizes); };
  EXPECT_EQ(eval("L['ids'].size()[1] <= 256"), true);
  EXPECT_EQ(eval("L['ids'].size()[1] % 64 == 0"), false);
  EXPECT_EQ(eval("L['labels'].size()[1] % 64 == 0"), true);
  EXPECT_EQ(eval("min(16*L['ids'].size()[1], 32*L['ids'].size()[1]) == (16*L['ids'].size()[1])"), true);
  EXPECT_EQ(eval("(2*L['ids'].size()[1]) == (2*L['labels'].size()[1])"), false);
  EXPECT_EQ(eval("not (L[\"ids\"].size()[0] > 3) and 1 < 2 < 3 or False"), true);
  EXPECT_EQ(eval("-7 // 2 == -4 and -7 % 4 == 1 and 2 ** 3 ** 1 == 8"), true);
  EXPECT_EQ(eval("Eq(Mod(L['ids'].size()[1], 2), 1)"), true);
  EXPECT_EQ(eval("math.floor(L['ids'].size()[1] / 2) == 30"), true);
  // Not one of ours, so no verdict.
  for (const char* text : {"L['other'].size()[0] == 1", "L['ids'].size()[7] == 1", "L['ids'].stride()[0] == 1",
                           "torch.is_grad_enabled()", "1 +", "", "((1)", "1 // 0 == 1", "order == 1"}) {
    EXPECT_EQ(eval(text), std::nullopt) << text;
  }
  EXPECT_EQ(eval((std::string(100000, '(') + "1").c_str()), std::nullopt);
  EXPECT_EQ(eval((std::string(100000, '-') + "1").c_str()), std::nullopt);
  std::string negated;
  for (int i = 0; i < 300001; ++i) negated += "not ";
  EXPECT_EQ(eval((negated + "False").c_str()), true);
  EXPECT_EQ(eval("L['ids'].size()[2 ** 1024 - 2 ** 1024] == 2"), std::nullopt) << "no number at all";
}

TEST(Guards, AFailedGuardIsAnError) {
  auto b = SmallModel();
  b.program["guards_code"] = {"L['x'].size()[1] % 8 == 0", "L['x'].size()[1] != 16", "unknown(3)"};
  EXPECT_TRUE(Bind(b, Flags(24)).ok());
  ExpectError(b, Flags(23), Code::kBadInput, {"L['x'].size()[1] % 8 == 0"});
  Model m;
  ASSERT_TRUE(Bind(b, Flags(16), &m).ok());
  ASSERT_EQ(m.warnings.size(), 1u);
  EXPECT_NE(m.warnings[0].find("!= 16"), std::string::npos);
}

}  // namespace
}  // namespace autospc::import
