// Every violation that Verify knows, provoked in an otherwise sound graph: exactly that one is reported.
#include "passes/ir/verifier.h"

#include <gtest/gtest.h>

#include "passes/ir/parser.h"
#include "passes/ir/printer.h"

namespace autospc::ir {
namespace {

using Lines = std::vector<std::string>;

Graph Read(std::string_view text) {
  Result<Graph> g = Parse(text);
  EXPECT_TRUE(g.ok()) << (g.ok() ? "" : g.error().Format());
  return g.ok() ? std::move(g).value() : Graph();
}

Graph Sound() {
  return Read(R"(graph @g {
    symbol s [1, 64]
    input %w : f32[4, 4]{4, 1} parameter "w" grad
    input %b : f32[4]{1} buffer "b"
    input %x : f32[s, 4]{4, 1} user "x" seq_dim 0
    %y = aten.mm.default(%x, %w) : f32[s, 4]{4, 1} !src "m.py:3"
    %t = aten.t.default(%w) : f32[4, 4]{1, 4} base %w
    %l = aten.sum.default(%y, none) : f32[]
    %g = aten.clone.default(%t, none) : f32[4, 4]{4, 1} !phase backward
    output loss %l "loss"
    output gradient %g "w"
  })");
}
ValueId Id(const Graph& g, std::string_view name) { return g.FindValue(name); }
Value& Val(Graph& g, std::string_view name) { return g.value(g.FindValue(name)); }
Node& Producer(Graph& g, std::string_view name) { return g.node(Val(g, name).producer); }

TEST(Verify, ASoundGraphHasNoViolation) {
  EXPECT_EQ(Verify(Sound()), Lines());
  EXPECT_TRUE(VerifyOrError(Sound(), "import").ok());
}

struct Fault {
  const char* what;
  void (*plant)(Graph&);
};
class Faults : public testing::TestWithParam<Fault> {};

TEST_P(Faults, IsReported) {
  Graph g = Sound();
  GetParam().plant(g);
  EXPECT_EQ(Verify(g), Lines{GetParam().what});
  Print(g);  // does not crash
}

INSTANTIATE_TEST_SUITE_P(
    Verify, Faults,
    testing::Values(
        Fault{"symbol 's-1' has a name that a size expression cannot hold", [](Graph& g) { g.symbols["s-1"] = {}; }},
        Fault{"symbol 'inf' has a name that a size expression cannot hold", [](Graph& g) { g.symbols["inf"] = {}; }},
        Fault{"symbol 't' has the empty range [3, 2]",
              [](Graph& g) {
                g.symbols["t"] = {3, 2};
              }},
        Fault{"aten.sum.default of %l uses symbol 'q', which is not declared",
              [](Graph& g) { Producer(g, "l").args[1] = Arg::Ints({Expr::Symbol("q")}); }},
        Fault{"%y has more than 1125899906842624 bytes", [](Graph& g) { Val(g, "y").sizes[0] = Expr(int64_t{1} << 47); }},
        Fault{"%y uses symbol 'q', which is not declared", [](Graph& g) { Val(g, "y").sizes[0] = Expr::Symbol("q"); }},
        Fault{"aten.sum.default of %l has 'mul(s)', which is no size expression",
              [](Graph& g) { Producer(g, "l").args[1] = Arg::Int(Expr::Make(Expr::Op::kMul, {Expr::Symbol("s")})); }},
        Fault{"input 'w' is given twice", [](Graph& g) { g.inputs[1].name = "w"; }},
        Fault{"input 'b' is an alias of 'w', which is no other buffer", [](Graph& g) { g.inputs[1].alias_of = "w"; }},
        Fault{"input 'b' requires a gradient and is a buffer, no parameter",
              [](Graph& g) { g.inputs[1].requires_grad = true; }},
        Fault{"input 'b' has a sequence dim and is a buffer, no user input", [](Graph& g) { g.inputs[1].seq_dim = 0; }},
        Fault{"input 'x' has sequence dim 2 of 2", [](Graph& g) { g.inputs[2].seq_dim = 2; }},
        Fault{"input 'b' has a batch dim and is a buffer, no user input", [](Graph& g) { g.inputs[1].batch_dim = 0; }},
        Fault{"input 'x' has batch dim 2 of 2", [](Graph& g) { g.inputs[2].batch_dim = 2; }},
        Fault{"input 'w' requires a gradient and is i64",
              [](Graph& g) {
                Val(g, "w").dtype = DType::kInt64;
                g.outputs.pop_back();
                g.EraseNode(Val(g, "g").producer);
                g.EraseNode(Val(g, "t").producer);
              }},
        Fault{"input 'u' has value 99, which does not exist",
              [](Graph& g) {
                g.inputs.push_back({99, InputKind::kUser, "u"});
              }},
        Fault{"%b is the value of two inputs",
              [](Graph& g) {
                g.inputs.push_back({Id(g, "b"), InputKind::kUser, "u"});
              }},
        Fault{"%b is an input and has a producer", [](Graph& g) { Val(g, "b").producer = Val(g, "l").producer; }},
        Fault{"a node has no op", [](Graph& g) { Producer(g, "y").op = ""; }},
        Fault{"aten.mm.default of %y (m.py:3) uses value 77, which does not exist",
              [](Graph& g) { Producer(g, "y").args.push_back(Arg::Value(77)); }},
        Fault{"aten.mm.default of %y (m.py:3) uses value -1, which does not exist",
              [](Graph& g) { Producer(g, "y").args.push_back(Arg::Value(kNoValue)); }},
        Fault{"aten.mm.default of %y (m.py:3) uses %l before its definition",
              [](Graph& g) {
                Producer(g, "y").args.push_back(Arg::Values({kNoValue, Id(g, "l")}));
              }},
        Fault{"aten.sum.default of %l has the result value 55, which does not exist",
              [](Graph& g) { Producer(g, "l").results.push_back(55); }},
        Fault{"aten.mm.default of %y (m.py:3) has the result %y, which names another producer",
              [](Graph& g) { Val(g, "y").producer = Val(g, "l").producer; }},
        Fault{"aten.mm.default of %y (m.py:3) has %y as result 0, which says that it is result 1",
              [](Graph& g) { Val(g, "y").result_index = 1; }},
        Fault{"value 'a b' has a name with characters outside [A-Za-z0-9_.]",
              [](Graph& g) { g.AddNode("aten.zeros.default", {}, {g.AddValue("a b", DType::kFloat32, {})}); }},
        Fault{"%l has a name that is another value's or not in the index", [](Graph& g) { Val(g, "y").name = "l"; }},
        Fault{"%o belongs to no node and no input", [](Graph& g) { g.AddValue("o", DType::kFloat32, {}); }},
        Fault{"%y has 2 sizes and 1 strides", [](Graph& g) { Val(g, "y").strides.pop_back(); }},
        Fault{"%y has the size -4", [](Graph& g) { Val(g, "y").sizes[1] = -4; }},
        Fault{"%y has the stride -1", [](Graph& g) { Val(g, "y").strides[1] = -1; }},
        Fault{"%y has the offset -64", [](Graph& g) { Val(g, "y").byte_offset = -64; }},
        Fault{"%t is a view of value 66, which does not exist", [](Graph& g) { Val(g, "t").base = 66; }},
        Fault{"%t is a view of itself", [](Graph& g) { Val(g, "t").base = Id(g, "t"); }},
        Fault{"%g is a view of %t, which is itself a view of %w", [](Graph& g) { Val(g, "g").base = Id(g, "t"); }},
        Fault{"%t is a view of %g, which is defined later", [](Graph& g) { Val(g, "t").base = Id(g, "g"); }},
        Fault{"%t ends at byte 68 of %w, which has 64", [](Graph& g) { Val(g, "t").byte_offset = 4; }},
        Fault{"%t ends at byte 76 of %w, which has 64", [](Graph& g) { Val(g, "t").strides[1] = 5; }},
        Fault{"output user 'o' is value 44, which does not exist",
              [](Graph& g) {
                g.outputs.push_back({44, OutputKind::kUser, "o"});
              }},
        Fault{"output user 'o' is given twice",
              [](Graph& g) {
                for (const char* v : {"l", "y"}) g.outputs.push_back({Id(g, v), OutputKind::kUser, "o"});
              }},
        Fault{"more than one output is the loss",
              [](Graph& g) {
                g.outputs.push_back(g.outputs[0]);
                g.outputs.back().name = "other";
              }},
        Fault{"the loss %y is no floating-point scalar", [](Graph& g) { g.outputs[0].value = Id(g, "y"); }},
        Fault{"output gradient 'v' names no parameter", [](Graph& g) { g.outputs[1].name = "v"; }},
        Fault{"output buffer_update 'w' names no buffer",
              [](Graph& g) { g.outputs[1].kind = OutputKind::kBufferUpdate; }},
        Fault{"output state_update 'm' names no state",
              [](Graph& g) {
                g.outputs.push_back({Id(g, "l"), OutputKind::kStateUpdate, "m"});
              }},
        Fault{"output gradient 'w' has other sizes than the parameter: %l",
              [](Graph& g) { g.outputs[1].value = Id(g, "l"); }}));

TEST(Verify, ReportsBaseCyclesAndDoubleDefinitions) {
  Graph g = Sound();
  Val(g, "t").base = Id(g, "l");
  Val(g, "l").base = Id(g, "t");
  const Lines lines = Verify(g);
  EXPECT_NE(std::find(lines.begin(), lines.end(), "%t and %l are views of each other"), lines.end());

  Graph h = Sound();
  Producer(h, "l").results.push_back(Id(h, "y"));
  const Lines twice = Verify(h);
  EXPECT_NE(std::find(twice.begin(), twice.end(), "aten.sum.default of %l defines %y a second time"), twice.end());
}

TEST(Verify, AnAliasOfAnAliasIsReported) {
  const Graph g = Read(R"(graph @g {
    input %a : f32[1] parameter "a"
    input %b : f32[1] parameter "b" alias "a"
    input %c : f32[1] parameter "c" alias "b"
  })");
  EXPECT_EQ(Verify(g), Lines{"input 'c' is an alias of 'b', which is itself an alias"});
}

TEST(Verify, ReportsEveryViolation) {
  Graph g = Sound();
  Val(g, "y").byte_offset = -1;
  Val(g, "l").result_index = 3;
  Val(g, "g").strides.pop_back();
  EXPECT_EQ(Verify(g).size(), 3u);
  const Status status = VerifyOrError(g, "simplify");
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kFailed);
  EXPECT_NE(status.error().what.find("after simplify"), std::string::npos);
  EXPECT_NE(status.error().what.find("%y has the offset -1"), std::string::npos);
  EXPECT_NE(status.error().what.find("%g has 2 sizes and 1 strides"), std::string::npos);
}

constexpr std::string_view kPlaced = R"(graph @g {
    input %w : f32[4] R parameter "w" grad
    %v = autosp.vary(%w) : f32[4] V
    %f = autosp.first(%v) : f32[4] P
    %g = autosp.all_reduce(%f, "sum") : f32[4] R
    output gradient %g "w"
  })";

TEST(Verify, PlacementsAreWholeOrNone) {
  Graph g = Read(kPlaced);
  EXPECT_EQ(Verify(g), Lines());
  Val(g, "v").placement = {};
  EXPECT_EQ(Verify(g), Lines{"%v has no placement, but 3 other values have one"});
  Val(g, "f").strides = {1};  // traced: what lies inside a composite op has none
  EXPECT_EQ(Verify(g), Lines());
  Val(g, "w").placement = {};
  EXPECT_EQ(Verify(g), Lines{"%w has no placement, but 2 other values have one"});
}

TEST(Verify, OutputsOfTheStepAreReplicated) {
  Graph g = Read(kPlaced);
  g.outputs[0].value = Id(g, "f");
  EXPECT_EQ(Verify(g), Lines{"output gradient 'w' is P, not replicated: %f"});
  g.AddNode("autosp.all_reduce_", {Arg::Value(Id(g, "f")), Arg::String("sum")}, {});
  EXPECT_EQ(Verify(g), Lines());  // reduced in place: what it holds at the end is replicated
}

TEST(ShortName, IsOfAtenAndOursAlone) {
  EXPECT_EQ(ShortName("aten.add.Tensor"), "add");
  EXPECT_EQ(ShortName("autosp.attention"), "attention");
  EXPECT_EQ(ShortName("mylib.softmax.int"), "mylib.softmax");
  EXPECT_TRUE(IsEffectful("mylib.add_.default"));
}

// Of a graph of one node, which makes %y of %x [2, 3] or %q [1, 2, 8, 4].
Lines WrongNode(std::string_view line) {
  return Verify(Read(fmt::format("graph @g {{\n  input %x : f32[2, 3]{{3, 1}} user \"x\"\n  input %q : f32[1, 2, 8, 4] user \"q\"\n"
                                 "  {}\n  output user %y \"y\"\n}}\n", line)));
}

TEST(Verify, DimsThatOpsNameExist) {
  const auto wrong = WrongNode;
  EXPECT_EQ(wrong("%y = aten.cumsum.default(%x, 2, none) : f32[2, 3]"), Lines{"aten.cumsum.default of %y: it names dim 2 of 2"});
  EXPECT_EQ(wrong("%y = aten.cumsum.default(%x, -2, none) : f32[2, 3]"), Lines());
  EXPECT_EQ(wrong("%y = aten.transpose.int(%x, 0, -3) : f32[3, 2]"), Lines{"aten.transpose.int of %y: it names dim -3 of 2"});
  EXPECT_EQ(wrong("%y = aten.permute.default(%x, [1, -1]) : f32[3, 2]"), Lines{"aten.permute.default of %y: it names dim 1 twice"});
  EXPECT_EQ(wrong("%y = aten.permute.default(%x, [1]) : f32[3, 2]"), Lines{"aten.permute.default of %y: it orders 1 dims of 2"});
  EXPECT_EQ(wrong("%y = aten.select.int(%x, 0, 1) : f32[2, 3]"), Lines{"aten.select.int of %y: of 2 dims it makes 2"});
  EXPECT_EQ(wrong("%y = aten.slice.Tensor(%x, 1, 0, 3, 0) : f32[2, 3]"), Lines{"aten.slice.Tensor of %y: argument 5 is 0, not at least 1"});
  EXPECT_EQ(wrong("%y = aten.stack.default([%x, %x], 2) : f32[2, 3, 2]"), Lines());
  EXPECT_EQ(wrong("%y = aten.cat.default([%x, %x], 2) : f32[4, 3]"), Lines{"aten.cat.default of %y: it names dim 2 of 2"});
}

TEST(Verify, OwnOpsAreAsTheirSchemasSay) {
  const auto wrong = WrongNode;
  EXPECT_EQ(wrong("%y = autosp.vary(%x) : f32[2, 3]"), Lines());
  EXPECT_EQ(wrong("%y = autosp.vary(%x, \"dp\") : f32[2, 3]"), Lines());
  EXPECT_EQ(wrong("%y = autosp.vary(%x, \"dp\", 1) : f32[2, 3]"), Lines{"autosp.vary of %y: 3 arguments of 2"});
  EXPECT_EQ(wrong("%y = autosp.vary(%x, 1) : f32[2, 3]"), Lines{"autosp.vary of %y: argument \"axis\" is no str"});
  EXPECT_EQ(wrong("%y = autosp.varies(%x) : f32[2, 3]"), Lines{"autosp.varies of %y: there is no such op"});
  EXPECT_EQ(wrong("%y = autosp.all_reduce(%x) : f32[2, 3]"), Lines{"autosp.all_reduce of %y: no argument \"op\""});
  EXPECT_EQ(wrong("%y, %z = autosp.stop_gradient(%x) : f32[2, 3], f32[]"), Lines{"autosp.stop_gradient of %y: 2 results of 1"});
  EXPECT_EQ(wrong("%y, %z = autosp.reduce_scatter_coalesced([%x, %x]) : f32[2], f32[2]"), Lines());
  EXPECT_EQ(wrong("%y = autosp.grad_norm([%x, none]) : f64[]"), Lines{"autosp.grad_norm of %y: argument \"gradients\" is no Tensor[]"});
  EXPECT_EQ(wrong("%y = autosp.mask(%x, 2, 1, 0) : f32[2, 3]"), Lines{"autosp.mask of %y: \"dim\" is 2, and its operand has 2 dims"});
  EXPECT_EQ(wrong("%y = autosp.mask(%x, -1, 1, 0) : f32[2, 3]"), Lines{"autosp.mask of %y: \"dim\" is -1, and its operand has 2 dims"});
  EXPECT_EQ(wrong("%y = autosp.dropout(%x, 0.5, 0, -1, 0, 1, 1) : f32[2, 3]"), Lines());
  const auto attention = [&](std::string_view operands, std::string_view results) {
    return wrong(fmt::format("%y, %l = autosp.attention({}, values[], \"causal\", 0.5, false, 8, [], false, 2, 0.0, 0) : {}", operands, results));
  };
  EXPECT_EQ(attention("%q, %q, %q", "f32[1, 2, 8, 4], f32[1, 2, 8]"), Lines());
  EXPECT_EQ(attention("%q, %q, %x", "f32[1, 2, 8, 4], f32[1, 2, 8]"), Lines{"autosp.attention of %y: an operand has 2 dims, not 4"});
  EXPECT_EQ(attention("%q, %q, %q", "f32[1, 2, 8], f32[1, 2, 8]"), Lines{"autosp.attention of %y: its result 0 has 3 dims"});
}

TEST(Verify, PlacementsFitTheirValues) {
  Graph g = Read(kPlaced);
  Val(g, "v").placement = Placement::Sharded(1, 4, 2);
  EXPECT_EQ(Verify(g), Lines{"%v is sharded on dim 1 of 1"});
  Val(g, "v").placement = Placement::Sharded(0, 4, 2);
  EXPECT_EQ(Verify(g), Lines{"%v has S(dim=0, valid=4, block=2, outer=1, inner=1) but is 4 long there"});
  Val(g, "v").placement = Placement::Sharded(0, 0, 4);
  EXPECT_EQ(Verify(g), Lines{"%v has S(dim=0, valid=0, block=4, outer=1, inner=1): an extent below 1"});
  Val(g, "v").placement = {PlacementKind::kVarying, 0};
  EXPECT_EQ(Verify(g), Lines{"%v is V and has fields of a sharded placement"});
}

}  // namespace
}  // namespace autospc::ir
