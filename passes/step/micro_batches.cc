// A step of several micro-batches: sums of gradients, and the three parts.
#include "passes/step/micro_batches.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "passes/step/order.h"
#include "passes/step/register.h"

namespace autospc::step {
namespace {

using ir::Arg;
using ir::DType;
using ir::Graph;
using ir::kNoNode;
using ir::kNoValue;
using ir::Node;
using ir::NodeId;
using ir::Phase;
using ir::Value;
using ir::ValueId;

class Accumulation {
 public:
  Accumulation(Graph& graph, int micro_batches)
      : graph_(graph), order_(graph), uses_(graph), micro_batches_(micro_batches) {}

  Result<bool> Run() {
    FindLate();
    if (totals_.empty() || seed_ == kNoNode) {
      return Error{Code::kFailed, "no loss is summed over micro-batches", graph_.name, "this is a bug of the compiler"};
    }
    begin_ = Add(std::string(ir::kEachMicroBatch), {Arg::Int(micro_batches_)}, {}, order_.at(0), Phase::kForward, nullptr);
    end_ = Add(std::string(ir::kMicroBatchesEnd), {}, {}, kNoNode, Phase::kBackward, nullptr);
    for (const NodeId id : totals_) {
      const Node& total = graph_.node(id);
      const ValueId result = total.results[0], sum = Sum(total.args[0].value, false, id);
      late_.insert(sum);
      graph_.ReplaceUses(result, sum);
      for (ValueId v = 0; v < graph_.num_values(); ++v) {
        if (graph_.has_value(v) && graph_.value(v).base == result) graph_.value(v).base = sum;
      }
      graph_.EraseNode(id);
    }
    std::vector<Gradient> gradients = FindGradients();
    for (Gradient& g : gradients) g.sum = Sum(g.addend, true, Behind(g.addend));
    RETURN_IF_ERROR(MoveLate());
    for (const Gradient& g : gradients) Finish(g);
    BecomeSeed(graph_.node(seed_));
    graph_.EliminateDeadCode();  // what was made again at the end, where nothing else reads it
    return true;
  }

 private:
  // A gradient, or the addend of one that is reduced over ranks: what is summed.
  struct Gradient {
    ValueId addend = kNoValue;
    NodeId reduction = kNoNode;  // kNoNode: the addend is the gradient
    ValueId sum = kNoValue;
  };

  // What depends on totals waits for the last micro-batch; a total's adjoint, and what comes of it, does not.
  void FindLate() {
    for (const NodeId id : graph_.nodes()) {
      const Node& node = graph_.node(id);
      const std::vector<ValueId> operands = node.Operands();
      const auto any = [&](const std::set<ValueId>& of) {
        return std::any_of(operands.begin(), operands.end(), [&](ValueId v) { return of.contains(v); });
      };
      if (node.op == "autosp.total") {
        totals_.push_back(id);
        late_.insert(node.results[0]);
      } else if (node.op == "autosp.total_backward" && seed_ == kNoNode) {
        seed_ = id;
        seeded_.insert(node.results[0]);
      } else if (any(late_)) {
        late_nodes_.push_back(id);
        late_.insert(node.results.begin(), node.results.end());
      } else if (any(seeded_)) {
        seeded_.insert(node.results.begin(), node.results.end());
      }
    }
  }

  // In the order in which they are born, each addend once.
  std::vector<Gradient> FindGradients() const {
    std::map<std::pair<int, ValueId>, Gradient> found;
    for (const ValueId v : uses_.gradients()) {
      if (late_.contains(v)) continue;  // of a parameter that stands beside the sums: known once a step
      const ValueId root = order_.Owner(v);
      const Node* maker = graph_.producer(root);
      const bool reduced = maker != nullptr && maker->op == "autosp.all_reduce" && maker->phase == Phase::kBackward &&
                           maker->args[1].s == "sum" && uses_.OnlyGradient(root);
      const Gradient g = reduced ? Gradient{maker->args[0].value, maker->id} : Gradient{v, kNoNode};
      found[{order_.final_at(g.addend), reduced ? root : v}] = g;
    }
    std::vector<Gradient> in_order;
    for (const auto& [at, g] : found) in_order.push_back(g);
    return in_order;
  }

  // The node before which an addend's sum takes it: as soon as it is final, so that it dies.
  NodeId Behind(ValueId addend) const {
    const NodeId next = order_.Behind(order_.final_at(addend));
    return next == kNoNode ? end_ : next;
  }

  // The sum of `x` over micro-batches, which takes x before the node `before`.
  ValueId Sum(ValueId x, bool wide, NodeId before) {
    const Value& v = graph_.value(x);
    const DType dtype = wide && ir::ByteSize(v.dtype) < 4 ? DType::kFloat32 : v.dtype;
    const std::vector<ir::Expr> sizes = v.sizes, strides = IsDense(v) ? v.strides : ContiguousStrides(v.sizes);
    const ir::Placement sp = v.placement, dp = v.dp_placement;
    const Node* maker = graph_.producer(x);
    const ValueId sum = graph_.AddValue(v.name + "_sum", dtype, sizes, strides);
    graph_.value(sum).placement = sp;
    graph_.value(sum).dp_placement = dp;
    Add("aten.zeros.default", {Arg::Ints(sizes), Arg::Type(dtype), Arg::None(), Arg::None(), Arg::None()}, {sum}, begin_,
        Phase::kForward, maker);
    Add("autosp.accumulate_", {Arg::Value(sum), Arg::Value(x)}, {}, before, Phase::kBackward, maker);
    return sum;
  }

  // Behind the last micro-batch, in their order. All ranks compute the same there, so nothing varies.
  Status MoveLate() {
    for (const NodeId id : late_nodes_) {
      if (graph_.node(id).op == "autosp.vary") {
        const ValueId operand = graph_.node(id).args[0].value;
        graph_.ReplaceUses(graph_.node(id).results[0], operand);
        graph_.EraseNode(id);
        continue;
      }
      std::vector<Arg> args = graph_.node(id).args;
      for (Arg& a : args) {
        if (a.kind == Arg::Kind::kValue) {
          ASSIGN_OR_RETURN(a.value, AtEnd(a.value, id));
        }
        for (ValueId& v : a.values) {
          if (v == kNoValue) continue;
          ASSIGN_OR_RETURN(v, AtEnd(v, id));
        }
      }
      Node& node = graph_.node(id);
      node.args = std::move(args);
      node.phase = Phase::kBackward;
      for (const ValueId v : node.results) graph_.value(v).placement = graph_.value(v).dp_placement = {};
      graph_.MoveBefore(id, kNoNode);
    }
    return Ok();
  }

  // `v` where nothing of a micro-batch is left: what is always there, or made again of it.
  Result<ValueId> AtEnd(ValueId v, NodeId reader) {
    if (late_.contains(v)) return v;
    if (seeded_.contains(v)) return OfStep(v);
    const ir::GraphInput* input = graph_.FindInput(order_.Owner(v));
    if (input != nullptr && input->kind != ir::InputKind::kUser) return v;
    if (const auto it = again_.find(v); it != again_.end()) return it->second;
    const Node* maker = graph_.producer(v);
    if (maker != nullptr && maker->op == "autosp.vary") return AtEnd(maker->args[0].value, reader);
    if (maker == nullptr || ir::IsEffectful(maker->op) || maker->results.size() != 1) {
      return Error{Code::kUnsupported, fmt::format("--accumulate: %{} is of one micro-batch, and the loss needs it", graph_.value(v).name),
                   ir::Where(graph_, graph_.node(reader)), "compile without --accumulate, with a --batch as large as the step's"};
    }
    const NodeId id = maker->id;
    std::vector<Arg> args = maker->args;
    for (Arg& a : args) {
      if (!a.is_value()) continue;
      ASSIGN_OR_RETURN(a.value, AtEnd(a.value, reader));
    }
    const Value& value = graph_.value(v);
    const std::vector<ir::Expr> sizes = value.sizes, strides = value.strides;
    const ValueId made = graph_.AddValue(value.name, value.dtype, sizes, strides);
    if (value.base != kNoValue) {
      ASSIGN_OR_RETURN(graph_.value(made).base, AtEnd(value.base, reader));
      graph_.value(made).byte_offset = value.byte_offset;
    }
    Add(graph_.node(id).op, std::move(args), {made}, kNoNode, Phase::kBackward, &graph_.node(id));
    return again_[v] = made;
  }

  // With what a micro-batch differentiates: a number.
  void BecomeSeed(Node& adjoint) {
    const Value& value = graph_.value(adjoint.results[0]);
    adjoint.op = "aten.full.default";
    adjoint.args = {Arg::Ints(value.sizes), adjoint.args[1], Arg::Type(value.dtype), Arg::None(), Arg::None(), Arg::None()};
  }

  // A sum of what was differentiated with the seed, as it is with what the total counts for in the loss. At the end.
  ValueId Scaled(ValueId sum, const Node* like) {
    if (scale_ == kNoValue) {
      const Node& adjoint = graph_.node(seed_);
      scale_ = graph_.AddValue("gradient_scale", graph_.value(adjoint.results[0]).dtype, {}, {});
      Add("aten.mul.Tensor", {adjoint.args[0], Arg::Float(1 / adjoint.args[1].number())}, {scale_}, kNoNode, Phase::kBackward, nullptr);
    }
    const Value& value = graph_.value(sum);
    const std::vector<ir::Expr> sizes = value.sizes, strides = value.strides;
    const ir::Placement sp = value.placement, dp = value.dp_placement;
    const ValueId scaled = graph_.AddValue("gradient", value.dtype, sizes, strides);
    graph_.value(scaled).placement = sp;
    graph_.value(scaled).dp_placement = dp;
    Add("aten.mul.Tensor", {Arg::Value(sum), Arg::Value(scale_)}, {scaled}, kNoNode, Phase::kBackward, like);
    return scaled;
  }

  // An addend of a gradient to which what is late adds (a penalty on the parameter), over all micro-batches.
  ValueId OfStep(ValueId v) {
    if (const auto it = again_.find(v); it != again_.end()) return it->second;
    const Node* like = graph_.producer(v);
    const bool reduced = like->op == "autosp.all_reduce" && like->args[1].s == "sum" && OnlyLate(v);
    const ValueId addend = reduced ? like->args[0].value : v;
    ValueId scaled = Scaled(Sum(addend, true, Behind(addend)), like);
    if (reduced) {
      const Value& whole = graph_.value(scaled);
      const ValueId over_ranks = graph_.AddValue("gradient", whole.dtype, std::vector<ir::Expr>(whole.sizes), ContiguousStrides(whole.sizes));
      std::vector<Arg> args = like->args;
      args[0] = Arg::Value(scaled);
      Add(like->op, std::move(args), {over_ranks}, kNoNode, Phase::kBackward, like);
      scaled = over_ranks;
    }
    const Value &wide = graph_.value(scaled), &narrow = graph_.value(v);
    if (wide.dtype == narrow.dtype) return again_[v] = scaled;
    const ValueId cast = graph_.AddValue("gradient", narrow.dtype, std::vector<ir::Expr>(wide.sizes), std::vector<ir::Expr>(wide.strides));
    Add("aten._to_copy.default",
        {Arg::Value(scaled), Arg::Type(narrow.dtype), Arg::None(), Arg::None(), Arg::None(), Arg::Bool(false), Arg::None()}, {cast},
        kNoNode, Phase::kBackward, like);
    return again_[v] = cast;
  }

  bool OnlyLate(ValueId v) const {
    const auto users = uses_.users().find(v);
    return !uses_.gradients().contains(v) && users != uses_.users().end() &&
           std::all_of(users->second.begin(), users->second.end(), [&](NodeId id) {
             return std::find(late_nodes_.begin(), late_nodes_.end(), id) != late_nodes_.end();
           });
  }

  void Finish(const Gradient& g) {
    const ValueId scaled = Scaled(g.sum, graph_.producer(g.addend));
    if (g.reduction == kNoNode) {
      for (ir::GraphOutput& out : graph_.outputs) {
        if (out.kind == ir::OutputKind::kGradient && out.value == g.addend) out.value = scaled;
      }
      return;
    }
    graph_.node(g.reduction).args[0] = Arg::Value(scaled);
    MoveWithViews(g.reduction, graph_.value(scaled).dtype);
  }

  void MoveWithViews(NodeId id, DType dtype) {
    graph_.MoveBefore(id, kNoNode);
    Value& value = graph_.value(graph_.node(id).results[0]);
    value.byte_offset = value.byte_offset / ir::ByteSize(value.dtype) * ir::ByteSize(dtype);
    value.dtype = dtype;
    if (const auto users = uses_.users().find(value.id); users != uses_.users().end()) {
      for (const NodeId user : users->second) MoveWithViews(user, dtype);
    }
  }

  NodeId Add(std::string op, std::vector<Arg> args, std::vector<ValueId> results, NodeId before, Phase phase, const Node* like) {
    std::string source = like != nullptr ? like->source : "", module = like != nullptr ? like->module : "";
    const NodeId id = graph_.AddNode(std::move(op), std::move(args), std::move(results), before);
    Node& node = graph_.node(id);
    node.phase = phase;
    node.source = std::move(source);
    node.module = std::move(module);
    return id;
  }

  Graph& graph_;
  const Order order_;
  const GradientUses uses_;
  const int micro_batches_;
  std::vector<NodeId> totals_, late_nodes_;
  NodeId seed_ = kNoNode, begin_ = kNoNode, end_ = kNoNode;
  std::set<ValueId> late_, seeded_;
  std::map<ValueId, ValueId> again_;  // of micro-batches: what stands for it at the end
  ValueId scale_ = kNoValue;
};

}  // namespace

Result<bool> AccumulateGradients(Graph& graph, PassContext& context) {
  if (context.micro_batches <= 1) return false;
  if (context.dp > 1) MergeReductions(graph);  // so that a gradient's addends are those of all ranks
  return Accumulation(graph, context.micro_batches).Run();
}

}  // namespace autospc::step
