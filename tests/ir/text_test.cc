// The text form: what it looks like, that it loses nothing, and that no text crashes the parser.
#include <gtest/gtest.h>

#include "passes/ir/parser.h"
#include "passes/ir/printer.h"
#include "passes/ir/verifier.h"
#include "tests/ir/random_graph.h"

namespace autospc::ir {
namespace {

constexpr std::string_view kText = R"(graph @nanogpt {
  symbol s38 [2, 4096]
  symbol s7 [0, *]
  input %wte : f32[256, 64]{64, 1} parameter "transformer.wte.weight" grad
  input %tied : f32[256, 64]{64, 1} parameter "lm_head.weight" grad alias "transformer.wte.weight"
  input %inv : f64[] buffer "inv_freq" nonpersistent
  input %ids : i64[2, s38]{s38, 1} user "input_ids" seq_dim 1
  %x = aten.embedding.default(%wte, %ids, -1, false, true) : f32[2, s38, 64] !src "gpt.py:12" !mod "wte"
  %a, %b = aten.split.Tensor(%x, 32, 2) : f32[2, s38, 32]{mul(64, s38), 64, 1} base %x, f32[2, s38, 32] base %x offset 128
  %c = aten.all.kinds(none, [%a, none], values[], add(s38, -1, s7), [1, s38], [], 1.0, -inf, nan, [0.5, 1e-06], floats[], [true], bools[], "a\"\\\n\x01", dtype(bf16), layout(strided), device(cuda:0), memory_format(contiguous)) : bf16[add(s38, -1)]
  autosp.all_reduce_(%c, "sum") !phase step
  output loss %inv "loss"
  output user %b "out"
}
)";

TEST(Text, PrintsWhatItParses) {
  const Result<Graph> g = Parse(kText);
  ASSERT_TRUE(g.ok()) << g.error().Format();
  EXPECT_EQ(Verify(*g), std::vector<std::string>());
  EXPECT_EQ(Print(*g), kText);
}

TEST(Text, KeepsEveryField) {
  const Result<Graph> parsed = Parse(kText);
  ASSERT_TRUE(parsed.ok());
  const Graph& g = *parsed;
  EXPECT_EQ(g.name, "nanogpt");
  EXPECT_EQ(g.symbols.at("s38").min, 2);
  EXPECT_EQ(g.symbols.at("s38").max, 4096);
  EXPECT_LT(g.symbols.at("s7").max, 0);
  ASSERT_EQ(g.inputs.size(), 4u);
  EXPECT_EQ(g.inputs[1].alias_of, "transformer.wte.weight");
  EXPECT_TRUE(g.inputs[1].requires_grad);
  EXPECT_FALSE(g.inputs[2].persistent);
  EXPECT_EQ(g.inputs[3].seq_dim, 1);
  const Value& b = g.value(g.FindValue("b"));
  EXPECT_EQ(b.base, g.FindValue("x"));
  EXPECT_EQ(b.byte_offset, 128);
  EXPECT_EQ(b.result_index, 1);
  const Node& c = *g.producer(g.FindValue("c"));
  ASSERT_EQ(c.args.size(), 18u);
  EXPECT_EQ(c.args[3], Arg::Int(Expr::Parse("add(s38, -1, s7)").value()));
  EXPECT_EQ(c.args[5], Arg::Ints(std::vector<int64_t>{}));
  EXPECT_EQ(c.args[6], Arg::Float(1.0));
  EXPECT_EQ(c.args[13], Arg::String("a\"\\\n\x01"));
  EXPECT_EQ(c.args[14], Arg::Type(DType::kBFloat16));
  EXPECT_EQ(g.node(g.nodes().back()).phase, Phase::kStep);
  EXPECT_EQ(g.producer(g.FindValue("x"))->source, "gpt.py:12");
  EXPECT_EQ(g.producer(g.FindValue("x"))->module, "wte");
}

TEST(Text, KeepsPlacements) {
  const std::string text =
      "graph @g {\n"
      "  input %x : f32[4] R user \"x\"\n"
      "  %v = autosp.vary(%x) : f32[4] V base %x\n"
      "  %p = autosp.first(%v) : f32[4] P\n"
      "  %s = autosp.shard(%x, 0, 2, false) : f32[2] S(dim=0, valid=4, block=2, outer=1, inner=1)\n"
      "}\n";
  const Result<Graph> g = Parse(text);
  ASSERT_TRUE(g.ok()) << g.error().Format();
  EXPECT_EQ(Print(*g), text);
  EXPECT_EQ(g->value(g->FindValue("s")).placement, Placement::Sharded(0, 4, 2));
}

TEST(Text, OriginAndStridesCanBeLeftOut) {
  const Result<Graph> g = Parse(kText);
  ASSERT_TRUE(g.ok());
  const std::string text = Print(*g, {.origin = false, .strides = false});
  EXPECT_EQ(text.find("!src"), std::string::npos);
  EXPECT_EQ(text.find("{64, 1}"), std::string::npos);
  EXPECT_TRUE(Parse(text).ok());
}

TEST(Text, ABrokenGraphPrints) {
  Graph g;
  g.outputs.push_back({17, OutputKind::kUser, "x"});
  g.AddNode("aten.neg.default", {Arg::Value(5)}, {});
  EXPECT_EQ(Print(g), "graph @graph {\n  aten.neg.default(%?5)\n  output user %?17 \"x\"\n}\n");
}

TEST(Text, CommentsAndLayoutAreFree) {
  const Result<Graph> g =
      Parse("# RUN: --simplify\ngraph @g{input %x:f32[1,2]user\"x\"# CHECK: x\n%y=aten.neg.default(%x)\n:f32[1,2]}");
  ASSERT_TRUE(g.ok()) << g.error().Format();
  EXPECT_EQ(g->nodes().size(), 1u);
}

TEST(Text, RandomGraphsSurvive) {
  for (uint32_t seed = 0; seed < 1500; ++seed) {
    const Graph g = RandomGraph(seed).Make();
    const std::vector<std::string> violations = Verify(g);
    ASSERT_TRUE(violations.empty()) << seed << ": " << violations.front() << "\n" << Print(g);
    const std::string text = Print(g);
    const Result<Graph> again = Parse(text);
    ASSERT_TRUE(again.ok()) << seed << ": " << again.error().Format() << "\n" << text;
    ASSERT_EQ(Print(*again), text) << seed;
    ASSERT_TRUE(Verify(*again).empty()) << seed;
    // The printer may not drop a field that the parser then fills with its default: compare the arguments themselves.
    auto a = g.nodes().begin();
    for (const NodeId id : again->nodes()) {
      const Node &left = g.node(*a++), &right = again->node(id);
      ASSERT_EQ(left.source, right.source);
      ASSERT_EQ(left.module, right.module);
      ASSERT_EQ(left.args.size(), right.args.size());
      for (size_t i = 0; i < left.args.size(); ++i) {
        if (left.args[i].kind == Arg::Kind::kValue || left.args[i].kind == Arg::Kind::kValueList)
          continue;  // ids differ
        ASSERT_EQ(left.args[i].kind, right.args[i].kind) << seed << "\n" << text;
        if (left.args[i].kind != Arg::Kind::kFloatList) {  // NaN
          ASSERT_TRUE(left.args[i] == right.args[i]) << seed << "\n" << text;
        }
      }
    }
  }
}

// Truncated and altered texts give an error with a position, or a graph that prints and parses again.
TEST(Text, AlteredTextsNeverCrash) {
  int refused = 0, accepted = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    RandomGraph random(seed);
    const std::string text = Print(random.Make());
    for (int i = 0; i < 25; ++i) {
      std::string altered = text;
      const int at = random.Below(static_cast<int>(text.size()));
      switch (random.Below(4)) {
        case 0:
          altered.resize(at);
          break;
        case 1:
          altered[at] = static_cast<char>(random.Below(256));
          break;
        case 2:
          altered.erase(at, 1 + random.Below(8));
          break;
        default:
          altered.insert(at, altered.substr(random.Below(static_cast<int>(text.size())), 1 + random.Below(12)));
      }
      const Result<Graph> g = Parse(altered, "altered");
      if (!g.ok()) {
        ++refused;
        ASSERT_EQ(g.error().code, Code::kBadInput);
        ASSERT_TRUE(g.error().where.starts_with("altered:")) << g.error().Format();
        continue;
      }
      ++accepted;
      if (!Verify(*g).empty()) continue;
      const Result<Graph> again = Parse(Print(*g));
      ASSERT_TRUE(again.ok()) << seed << ": " << again.error().Format() << "\n" << altered;
    }
  }
  EXPECT_GT(refused, 5000);
  EXPECT_GT(accepted, 500);
}

TEST(Text, DeepNestingAndHugeNumbersAreErrors) {
  std::string deep = "graph @g { input %x : f32[";
  for (int i = 0; i < 200000; ++i) deep += "add(1, ";
  EXPECT_FALSE(Parse(deep).ok());
  for (int i = 0; i < 200000; ++i) deep += "s)";
  EXPECT_FALSE(Parse(deep + "] user \"x\" }").ok());
  EXPECT_FALSE(Parse("graph @g { input %x : f32[99999999999999999999] user \"x\" }").ok());
  EXPECT_FALSE(Parse("graph @g { aten.f.default(1e999) }").ok());
  EXPECT_FALSE(Parse("graph @g { input %x : f32[1] user \"x\" seq_dim 4294967296 }").ok());
  // Within the grammar, but no 64-bit number: it stays an expression, and nothing loops or traps.
  for (const char* size : {"pow(7, 9223372036854775807)", "mul(9223372036854775807, 2)",
                           "floordiv(-9223372036854775808, -1)", "mod(-9223372036854775808, -1)", "floordiv(1, 0)"}) {
    const Result<Graph> g = Parse(fmt::format("graph @g {{ aten.f.default({}) }}", size));
    ASSERT_TRUE(g.ok()) << size;
    EXPECT_FALSE(g->node(0).args[0].i.is_const()) << size;
    EXPECT_FALSE(g->node(0).args[0].i.Eval({}).ok()) << size;
  }
}

struct Mistake {
  const char* text;
  const char* where;
  const char* what;
};

class Mistakes : public testing::TestWithParam<Mistake> {};

TEST_P(Mistakes, SaysWhereAndWhatIsExpected) {
  const Result<Graph> g = Parse(GetParam().text, "f.ir");
  ASSERT_FALSE(g.ok());
  EXPECT_EQ(g.error().code, Code::kBadInput);
  EXPECT_EQ(g.error().where, std::string("f.ir:") + GetParam().where);
  EXPECT_NE(g.error().what.find(GetParam().what), std::string::npos) << g.error().what;
}

INSTANTIATE_TEST_SUITE_P(
    Text, Mistakes,
    testing::Values(
        Mistake{"", "1:1", "expected 'graph', found the end of the text"},
        Mistake{"graph g {}", "1:7", "expected '@', found 'g'"}, Mistake{"graph @ {}", "1:9", "the graph's name"},
        Mistake{"graph @g {", "1:11", "expected 'symbol', 'input', 'output'"},
        Mistake{"graph @g {} x", "1:13", "expected the end of the text"},
        Mistake{"graph @g {\n  foo(%x)\n}", "2:3", "an op with its overload"},
        Mistake{"graph @g {\n  symbol 1 [0, 2]\n}", "2:12", "the symbol's name"},
        Mistake{"graph @g {\n  symbol s [0, x]\n}", "2:16", "the symbol's maximum, or '*'"},
        Mistake{"graph @g {\n symbol s [0, 1]\n symbol s [0, 1]\n}", "3:8", "declared twice"},
        Mistake{"graph @g {\n  input %x : f31[] user \"x\"\n}", "2:14", "an element type"},
        Mistake{"graph @g {\n  input %x : f32[?] user \"x\"\n}", "2:18", "a size expression"},
        Mistake{"graph @g {\n  input %x : f32[] weight \"x\"\n}", "2:20", "parameter, buffer, constant, user, state"},
        Mistake{"graph @g {\n  input %x : f32[] user x\n}", "2:25", "the input's name in quotes"},
        Mistake{"graph @g {\n  input %x : f32[] user \"x\n}", "2:27", "a closing quote"},
        Mistake{"graph @g {\n  input %x : f32[] user \"\\y\"\n}", "2:26", "an escape"},
        Mistake{"graph @g {\n  input %x : f32[] user \"x\"\n  input %x : f32[] user \"y\"\n}", "3:9",
                "%x is defined twice"},
        Mistake{"graph @g {\n  input %\"\" : f32[] user \"x\"\n}", "2:10", "name is empty"},
        Mistake{"graph @g {\n  %a, %a = aten.f.default() : f32[], f32[]\n}", "2:7", "%a is defined twice"},
        Mistake{"graph @g {\n  %a = aten.f.default(%b) : f32[]\n}", "2:23", "%b is used before its definition"},
        Mistake{"graph @g {\n  %a = aten.f.default() : f32[] base %b\n}", "2:37", "%b is used before its definition"},
        Mistake{"graph @g {\n  %a = aten.f.default()\n}", "3:1", "expected ':'"},
        Mistake{"graph @g {\n  %a = aten.f.default() : f32[] S(dim=0)\n}", "2:40", "expected ','"},
        Mistake{"graph @g {\n  aten.f.default(dtype(f31))\n}", "2:23", "'f31' is not an element type"},
        Mistake{"graph @g {\n  aten.f.default([1.5, 2])\n}", "2:24", "a floating-point number"},
        Mistake{"graph @g {\n  aten.f.default([true, 2])\n}", "2:25", "'false'"},
        Mistake{"graph @g {\n  aten.f.default(1.2.3)\n}", "2:18", "a floating-point number that a double holds"},
        Mistake{"graph @g {\n  aten.f.default(@)\n}", "2:18", "an argument"},
        Mistake{"graph @g {\n  aten.f.default() !line \"x\"\n}", "2:21", "src, mod or phase"},
        Mistake{"graph @g {\n  aten.f.default() !phase late\n}", "2:27", "forward, backward, step"},
        Mistake{"graph @g {\n  output loss %x \"x\"\n}", "2:15", "%x is used before its definition"},
        Mistake{"graph @g {\n  output best %x \"x\"\n}", "2:10", "loss, user, gradient"},
        Mistake{"graph @g {\n  \xff\n}", "2:3", "byte 0xff"}));

}  // namespace
}  // namespace autospc::ir
