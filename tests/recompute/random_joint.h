// Random joint graphs for the tests of recomputation: a forward pass with views, results over operands, several results,
// dropout and scratch; a backward pass that reads what it saved; reductions in place and updates of the parameters as
// soon as their gradients are there, so that what is read again behind them is wrong.
#pragma once

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "passes/ir/graph.h"
#include "passes/memory/op_traits.h"

namespace autospc::recompute::testing {

// relu, add, mul and the backward passes may run in place, masked_fill over its first operand alone; mm needs scratch,
// all_reduce_ staging.
inline memory::OpTraits Traits(const ir::Graph&, const ir::Node& node) {
  memory::OpTraits t;
  t.in_place_ok = node.op == "aten.relu.default" || node.op == "aten.add.Tensor" || node.op == "aten.mul.Tensor" ||
                  node.op == "aten.masked_fill.Tensor";
  t.first_operand_only = node.op == "aten.masked_fill.Tensor";
  if (node.op == "aten.mm.default") t.workspace_bytes = 100;
  if (node.op == "autosp.all_reduce_") t.communication_bytes = 256;
  return t;
}

// A matrix product is dear for its bytes, a normalisation dearer than what is elementwise; no two nodes cost the same.
inline double Cost(const ir::Graph& graph, const ir::Node& node) {
  double bytes = 0;
  for (ir::ValueId v : node.results) bytes += static_cast<double>(graph.value(v).bytes());
  const double rate = node.op == "aten.mm.default" ? 20 : node.op == "aten.native_layer_norm.default" ? 4 : 1;
  return 1e-9 * (100 + rate * bytes + 0.01 * node.id);
}

class JointBuilder {
 public:
  JointBuilder(std::mt19937& rng, int forward_nodes) : rng_(rng) {
    const int parameters = 1 + static_cast<int>(Draw(3));
    for (int i = 0; i < parameters; ++i) weights_.push_back(Input(ir::InputKind::kParameter, "w" + std::to_string(i), {16, 16}));
    lr_ = Input(ir::InputKind::kState, "lr", {});
    values_.push_back(Input(ir::InputKind::kUser, "x", {static_cast<int64_t>(4 * (1 + Draw(4))), 16}));
    for (int i = 0; i < forward_nodes; ++i) Forward();
    loss_ = Node("aten.sum.default", {ir::Arg::Value(values_.back())}, {{}}, ir::Phase::kForward)[0];
    graph_.outputs.push_back({loss_, ir::OutputKind::kLoss, "loss"});
    Backward();
  }

  ir::Graph Take() {
    graph_.EliminateDeadCode();  // as differentiation leaves it
    return std::move(graph_);
  }

 private:
  struct Taped {
    std::string op;
    std::vector<ir::ValueId> operands;  // those that get gradients
    std::vector<ir::ValueId> saved;
    ir::ValueId result;
  };
  using Sizes = std::vector<int64_t>;

  uint64_t Draw(uint64_t n) { return rng_() % n; }

  static std::vector<ir::Expr> Exprs(const Sizes& sizes) { return {sizes.begin(), sizes.end()}; }
  static std::vector<ir::Expr> Contiguous(const Sizes& sizes) {
    std::vector<ir::Expr> strides(sizes.size());
    int64_t stride = 1;
    for (size_t d = sizes.size(); d-- > 0; stride *= sizes[d]) strides[d] = stride;
    return strides;
  }
  Sizes SizesOf(ir::ValueId v) const { return graph_.value(v).int_sizes(); }

  ir::ValueId Input(ir::InputKind kind, const std::string& name, const Sizes& sizes) {
    ir::GraphInput in;
    in.kind = kind;
    in.name = name;
    in.requires_grad = kind == ir::InputKind::kParameter;
    return graph_.AddInput(in, name, ir::DType::kFloat32, Exprs(sizes), Contiguous(sizes));
  }

  std::vector<ir::ValueId> Node(const std::string& op, std::vector<ir::Arg> args, const std::vector<Sizes>& sizes, ir::Phase phase) {
    std::vector<ir::ValueId> results;
    for (const Sizes& s : sizes) results.push_back(graph_.AddValue("v", ir::DType::kFloat32, Exprs(s), Contiguous(s)));
    ir::Node& node = graph_.node(graph_.AddNode(op, std::move(args), results));
    node.phase = phase;
    node.module = "model.layers." + std::to_string(layer_) + ".part";
    return results;
  }

  // Rows [from, from + rows) of x, a view.
  ir::ValueId Rows(ir::ValueId x, int64_t from, int64_t rows, ir::Phase phase) {
    const ir::Value in = graph_.value(x);
    const ir::ValueId v = graph_.AddValue("rows", in.dtype, Exprs({rows, in.sizes[1].value()}), in.strides);
    ir::Value& view = graph_.value(v);
    view.base = in.base == ir::kNoValue ? x : in.base;
    view.byte_offset = in.byte_offset + from * in.strides[0].value() * 4;
    ir::Node& node = graph_.node(graph_.AddNode(
        "aten.slice.Tensor", {ir::Arg::Value(x), ir::Arg::Int(0), ir::Arg::Int(from), ir::Arg::Int(from + rows), ir::Arg::Int(1)}, {v}));
    node.phase = phase;
    return v;
  }

  ir::ValueId Transposed(ir::ValueId x, ir::Phase phase) {
    const ir::Value in = graph_.value(x);
    const ir::ValueId v = graph_.AddValue("t", in.dtype, {in.sizes[1], in.sizes[0]}, {in.strides[1], in.strides[0]});
    graph_.value(v).base = in.base == ir::kNoValue ? x : in.base;
    graph_.value(v).byte_offset = in.byte_offset;
    graph_.node(graph_.AddNode("aten.t.default", {ir::Arg::Value(x)}, {v})).phase = phase;
    return v;
  }

  ir::ValueId Dropout(ir::ValueId x, int64_t site, ir::Phase phase) {
    using ir::Arg;
    const std::vector<Arg> args = {Arg::Value(x), Arg::Float(0.1), Arg::Int(site), Arg::Int(-1), Arg::Int(0), Arg::Int(1), Arg::Int(1)};
    return Node("autosp.dropout", args, {SizesOf(x)}, phase)[0];
  }

  // Later values more often, as in a real model.
  ir::ValueId Any() { return values_[std::max({Draw(values_.size()), Draw(values_.size()), Draw(values_.size())})]; }

  void Forward() {
    const ir::Phase f = ir::Phase::kForward;
    const ir::ValueId x = Any();
    const Sizes sizes = SizesOf(x);
    if (Draw(5) == 0) ++layer_;
    ir::ValueId y = ir::kNoValue;
    switch (Draw(7)) {
      case 0: {
        const ir::ValueId w = weights_[Draw(weights_.size())];
        y = Node("aten.mm.default", {ir::Arg::Value(x), ir::Arg::Value(w)}, {sizes}, f)[0];
        tape_.push_back({"mm", {x, w}, {x, w}, y});
        break;
      }
      case 1: {
        const auto out = Node("aten.native_layer_norm.default", {ir::Arg::Value(x)}, {sizes, {sizes[0], 1}, {sizes[0], 1}}, f);
        y = out[0];
        tape_.push_back({"norm", {x}, {x, out[1], out[2]}, y});
        break;
      }
      case 2: {
        ir::ValueId other = x;
        for (const ir::ValueId v : values_) other = SizesOf(v) == sizes && Draw(2) ? v : other;
        y = Node("aten.add.Tensor", {ir::Arg::Value(x), ir::Arg::Value(other), ir::Arg::Int(1)}, {sizes}, f)[0];
        tape_.push_back({"add", {x, other}, {}, y});
        break;
      }
      case 3: {
        y = Dropout(x, sites_++, f);
        tape_.push_back({"dropout", {x}, {}, y});
        break;
      }
      case 4: {
        if (sizes[0] < 8) return;
        y = Rows(x, sizes[0] / 2, sizes[0] / 2, f);
        tape_.push_back({"rows", {x}, {}, y});
        break;
      }
      case 5: {  // exp keeps its result, mul its operands
        y = Node("aten.exp.default", {ir::Arg::Value(x)}, {sizes}, f)[0];
        tape_.push_back({"exp", {x}, {y}, y});
        break;
      }
      default: {
        y = Node("aten.relu.default", {ir::Arg::Value(x)}, {sizes}, f)[0];
        tape_.push_back({"relu", {x}, {y}, y});
      }
    }
    values_.push_back(y);
  }

  void AddGradient(ir::ValueId v, ir::ValueId g) {
    gradients_.resize(std::max<size_t>(gradients_.size(), graph_.num_values()), ir::kNoValue);
    if (v == values_.front() || v == lr_) return;
    const ir::ValueId before = gradients_[v];
    if (before != ir::kNoValue) {
      g = Node("aten.add.Tensor", {ir::Arg::Value(before), ir::Arg::Value(g), ir::Arg::Int(1)}, {SizesOf(v)}, ir::Phase::kBackward)[0];
      gradients_.resize(std::max<size_t>(gradients_.size(), graph_.num_values()), ir::kNoValue);
    }
    gradients_[v] = g;
  }

  void Backward() {
    const ir::Phase b = ir::Phase::kBackward;
    gradients_.assign(graph_.num_values(), ir::kNoValue);
    AddGradient(values_.back(), Node("aten.expand_copy.default", {ir::Arg::Value(loss_)}, {SizesOf(values_.back())}, b)[0]);
    for (size_t i = tape_.size(); i-- > 0;) {
      const Taped t = tape_[i];
      const ir::ValueId g = gradients_[t.result];
      if (g == ir::kNoValue) continue;
      for (const ir::ValueId o : t.operands) {
        if (o == values_.front()) continue;
        const Sizes sizes = SizesOf(o);
        if (t.op == "mm" && o == t.operands[1]) {
          AddGradient(o, Node("aten.mm.default", {ir::Arg::Value(Transposed(t.saved[0], b)), ir::Arg::Value(g)}, {sizes}, b)[0]);
        } else if (t.op == "mm") {
          AddGradient(o, Node("aten.mm.default", {ir::Arg::Value(g), ir::Arg::Value(Transposed(t.saved[1], b))}, {sizes}, b)[0]);
        } else if (t.op == "rows") {
          AddGradient(o, Node("aten.slice_backward.default", {ir::Arg::Value(g)}, {sizes}, b)[0]);
        } else if (t.saved.empty()) {
          AddGradient(o, t.op == "add" ? g : Dropout(g, 1000 + static_cast<int64_t>(i), b));
        } else {
          std::vector<ir::Arg> args = {ir::Arg::Value(g)};
          for (const ir::ValueId s : t.saved) args.push_back(ir::Arg::Value(s));
          AddGradient(o, Node(t.saved.size() == 1 ? "aten.mul.Tensor" : "aten.native_layer_norm_backward.default", args, {sizes}, b)[0]);
        }
      }
      UpdateWhatIsDone(i);
    }
  }

  // Parameters of which no earlier node needs a gradient are reduced and updated at once, or at times at the end.
  void UpdateWhatIsDone(size_t next) {
    for (const ir::ValueId w : weights_) {
      const bool more = std::any_of(tape_.begin(), tape_.begin() + static_cast<long>(next),
                                    [&](const Taped& t) { return t.operands.size() == 2 && t.operands[1] == w; });
      const ir::ValueId g = gradients_[w];
      if (more || g == ir::kNoValue) continue;
      const auto effect = [&](const std::string& op, std::vector<ir::Arg> args) { graph_.node(graph_.AddNode(op, std::move(args), {})).phase = ir::Phase::kStep; };
      effect("autosp.all_reduce_", {ir::Arg::Value(g), ir::Arg::String("sum")});
      effect("autosp.sgd_", {ir::Arg::Value(w), ir::Arg::None(), ir::Arg::Value(g), ir::Arg::None(), ir::Arg::Value(lr_), ir::Arg::Float(0)});
      if (Draw(2)) graph_.outputs.push_back({g, ir::OutputKind::kGradient, graph_.value(w).name});
      graph_.outputs.push_back({w, ir::OutputKind::kParameterUpdate, graph_.value(w).name});
      gradients_[w] = ir::kNoValue;
    }
  }

  std::mt19937& rng_;
  ir::Graph graph_;
  std::vector<ir::ValueId> weights_, values_;
  std::vector<ir::ValueId> gradients_;  // by value
  std::vector<Taped> tape_;
  ir::ValueId lr_ = ir::kNoValue, loss_ = ir::kNoValue;
  int sites_ = 0, layer_ = 0;
};

inline ir::Graph RandomJoint(std::mt19937& rng, int forward_nodes) { return JointBuilder(rng, forward_nodes).Take(); }

}  // namespace autospc::recompute::testing
