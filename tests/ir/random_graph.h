// Random graphs that Verify accepts, with every kind of argument, type and metadata: for the text form's tests.
#pragma once

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "passes/ir/graph.h"

namespace autospc::ir {

class RandomGraph {
 public:
  explicit RandomGraph(uint32_t seed) : random_(seed) {}

  Graph Make() {
    Graph g;
    g.name = One({"nanogpt", "with-dash.1", "a \"quoted\" name", ""});
    const int symbols = Below(4);
    for (int i = 0; i < symbols; ++i) g.symbols["s" + std::to_string(i * 7)] = {Below(3), Below(2) ? -1 : 4096 + i};
    placed_ = Below(2);
    on_mesh_ = placed_ && Below(2);
    for (int i = 0, n = 1 + Below(5); i < n; ++i) Input(g);
    for (int i = 0, n = Below(30); i < n; ++i) OneNode(g);
    for (int i = 0, n = Below(4); i < n; ++i) {
      g.outputs.push_back({Any(g), OutputKind::kUser, "out " + std::to_string(i) + Text()});
    }
    return g;
  }

  int Below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }

 private:
  template <typename T>
  T One(std::initializer_list<T> choices) {
    return *(choices.begin() + Below(static_cast<int>(choices.size())));
  }
  std::string One(std::initializer_list<const char*> choices) {
    return *(choices.begin() + Below(static_cast<int>(choices.size())));
  }

  std::string Text() {
    return One({"", "model.layers.0", "gpt.py:12", "a \"b\" \\ c", "line\nbreak\ttab", "\x01\x7f", "übung %x # !src",
                "a,b)=("});
  }
  ValueId Any(const Graph& g) {
    ValueId v;
    do v = Below(g.num_values());
    while (!g.has_value(v));
    return v;
  }
  double Float() {
    const double inf = std::numeric_limits<double>::infinity();
    switch (Below(8)) {
      case 0:
        return inf;
      case 1:
        return -inf;
      case 2:
        return std::numeric_limits<double>::quiet_NaN();
      case 3:
        return -0.0;
      case 4:
        return std::numeric_limits<double>::denorm_min();
      case 5:
        return Below(1000);
      case 6:
        return std::ldexp(static_cast<double>(random_()), Below(2000) - 1000);
      default:
        return 1e-6;
    }
  }
  Expr Size(const Graph& g, int depth = 0) {
    const int kind = Below(depth > 3 ? 2 : 4);
    if (kind < 2 || g.symbols.empty())
      return kind == 0 ? Expr(Below(100)) : Expr(static_cast<int64_t>(random_()) << Below(20));
    if (kind == 2) return Expr::Symbol(std::next(g.symbols.begin(), Below(static_cast<int>(g.symbols.size())))->first);
    const auto op = static_cast<Expr::Op>(2 + Below(7));
    std::vector<Expr> operands = {Size(g, depth + 1), Size(g, depth + 1)};
    if (Below(3) == 0 && (op == Expr::Op::kAdd || op == Expr::Op::kMul)) operands.push_back(Size(g, depth + 1));
    return Expr::Make(op, std::move(operands));
  }
  DType Type() { return static_cast<DType>(Below(12)); }
  // Sizes of a new value, and of its sharded dim what its placement says.
  void Fill(Graph& g, ValueId id) {
    Value& v = g.value(id);
    if (v.rank() > 0 && Below(2)) {
      for (int i = 0; i < v.rank(); ++i) v.strides.push_back(Size(g));
      for (Expr& e : v.strides) e = e.is_const() ? Expr(std::abs(e.value())) : e;
    }
    v.byte_offset = Below(4) ? 0 : 64 * Below(9);
    if (!placed_) return;
    v.placement = One({Placement::Replicated(), Placement::Varying(), Placement::Partial()});
    if (v.rank() > 0 && Below(2)) {
      const int dim = Below(v.rank());
      v.placement = Placement::Sharded(dim, 1 + Below(50), 1 + Below(9), 1 + Below(3), 1 + Below(3));
      v.sizes[dim] = v.placement.outer * v.placement.block * v.placement.inner;
    }
    if (!on_mesh_) return;
    v.dp_placement = One({Placement::Replicated(), Placement::Varying(), Placement::Partial()});
    const int other = v.placement.is_sharded() ? (v.placement.dim + 1) % v.rank() : 0;
    if (v.rank() > 1 && Below(2)) {
      v.dp_placement = Placement::Sharded(other, 1 + Below(50), 1 + Below(9), 1 + Below(3), 1 + Below(3));
      v.sizes[other] = v.dp_placement.outer * v.dp_placement.block * v.dp_placement.inner;
    }
  }
  std::vector<Expr> Sizes(const Graph& g) {
    std::vector<Expr> sizes;
    for (int i = Below(4); i > 0; --i) sizes.push_back(Size(g));
    for (Expr& e : sizes) e = e.is_const() ? Expr(std::abs(e.value() % 4001)) : e;  // the verifier bounds a value's bytes
    return sizes;
  }
  void Input(Graph& g) {
    GraphInput in;
    in.kind = static_cast<InputKind>(Below(5));
    in.name = Text() + std::to_string(g.inputs.size());
    in.persistent = Below(3) > 0;
    DType type = Type();
    if (in.kind == InputKind::kParameter) {
      in.requires_grad = Below(2);
      if (in.requires_grad) type = One({DType::kFloat32, DType::kBFloat16});
      for (const GraphInput& other : g.inputs) {
        if (other.kind == in.kind && other.alias_of.empty() && Below(2)) in.alias_of = other.name;
      }
    }
    const std::vector<Expr> sizes = Sizes(g);
    if (in.kind == InputKind::kUser && !sizes.empty()) {
      in.seq_dim = Below(static_cast<int>(sizes.size()) + 1) - 1;
      in.batch_dim = Below(static_cast<int>(sizes.size()) + 1) - 1;
    }
    Fill(g, g.AddInput(in, One({"x", "model.wte", "1"}), type, sizes));
  }
  Arg OneArg(const Graph& g) {
    const int n = Below(4);
    switch (static_cast<Arg::Kind>(Below(14))) {
      case Arg::Kind::kNone:
        return Arg::None();
      case Arg::Kind::kValue:
        return Arg::Value(Any(g));
      case Arg::Kind::kValueList: {
        std::vector<ValueId> values;
        for (int i = 0; i < n; ++i) values.push_back(Below(3) ? Any(g) : kNoValue);
        return Arg::Values(values);
      }
      case Arg::Kind::kInt:
        return Arg::Int(Below(4) ? Size(g) : Expr(std::numeric_limits<int64_t>::min()));
      case Arg::Kind::kIntList:
        return Arg::Ints(Sizes(g));
      case Arg::Kind::kFloat:
        return Arg::Float(Float());
      case Arg::Kind::kFloatList: {
        std::vector<double> floats;
        for (int i = 0; i < n; ++i) floats.push_back(Float());
        return Arg::Floats(floats);
      }
      case Arg::Kind::kBool:
        return Arg::Bool(Below(2));
      case Arg::Kind::kBoolList: {
        std::vector<bool> bools;
        for (int i = 0; i < n; ++i) bools.push_back(Below(2));
        return Arg::Bools(bools);
      }
      case Arg::Kind::kString:
        return Arg::String(Text());
      case Arg::Kind::kDType:
        return Arg::Type(Type());
      case Arg::Kind::kLayout:
        return Arg::Layout(One({"strided", "", "odd one"}));
      case Arg::Kind::kDevice:
        return Arg::Device(One({"cpu", "cuda:0"}));
      case Arg::Kind::kMemoryFormat:
        return Arg::MemoryFormat(One({"contiguous", "preserve"}));
    }
    return Arg::None();
  }
  void OneNode(Graph& g) {
    std::vector<Arg> args;
    for (int i = Below(6); i > 0; --i) args.push_back(OneArg(g));
    const ValueId base = Below(3) == 0 ? Any(g) : kNoValue;
    std::vector<ValueId> results;
    for (int i = Below(4); i > 0; --i)
      results.push_back(g.AddValue(One({"add", "v", "a.b", "input", "S", "base"}), Type(), Sizes(g)));
    for (const ValueId v : results) {
      Fill(g, v);
      // Without strides nobody can say that the view leaves its base.
      const bool open = g.value(v).rank() > 0 && g.value(v).strides.empty();
      if (base != kNoValue && g.value(base).base == kNoValue && open) g.value(v).base = base;
    }
    Node& n = g.node(g.AddNode(
        One({"aten.add.Tensor", "aten.__and__.Tensor", "input.x", "mylib.vary", "symbol.a.b", "odd op", "R.x"}),
        std::move(args), std::move(results)));
    n.source = Text();
    n.module = Text();
    n.phase = static_cast<Phase>(Below(3));
  }

  std::mt19937 random_;
  bool placed_ = false, on_mesh_ = false;
};

}  // namespace autospc::ir
