// The losses of a step of several micro-batches.
#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "passes/step/micro_batches.h"

namespace autospc::step {
namespace {

using ir::Arg;
using ir::DType;
using ir::Graph;
using ir::kNoNode;
using ir::kNoValue;
using ir::Node;
using ir::NodeId;
using ir::Value;
using ir::ValueId;

bool OneOf(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// A number for a number, the same but for type and shape.
bool KeepsNumber(const Graph& graph, const Node& node) {
  const std::string_view name = ir::ShortName(node.op);
  if (OneOf(name, {"mean", "sum"})) return graph.value(node.args[0].value).numel() == 1;
  return OneOf(name, {"alias", "clone", "contiguous", "flatten", "lift_fresh_copy", "ravel", "reshape", "squeeze", "to", "_to_copy",
                      "type_as", "unsqueeze", "_unsafe_view", "view"});
}

// (input, target, weight, reduction, ignore_index, …)
enum : size_t { kInput, kTarget, kWeight, kReduction, kIgnore };
bool IsCrossEntropy(std::string_view name) { return OneOf(name, {"cross_entropy_loss", "nll_loss", "nll_loss_nd"}); }

bool StopsGradient(const Node& node) { return OneOf(ir::ShortName(node.op), {"detach", "stop_gradient"}); }

// Where losses without an ignored label have their reduction: 1 mean, 2 sum.
std::optional<size_t> ReductionOf(std::string_view name) {
  static const std::map<std::string_view, size_t> positions = {
      {"binary_cross_entropy", 3}, {"binary_cross_entropy_with_logits", 4}, {"huber_loss", 2}, {"kl_div", 2}, {"l1_loss", 2},
      {"mse_loss", 2},             {"smooth_l1_loss", 2},                   {"soft_margin_loss", 2}};
  const auto it = positions.find(name);
  return it == positions.end() ? std::nullopt : std::optional(it->second);
}

class Totals {
 public:
  Totals(Graph& graph, const PassContext& context) : graph_(graph), micro_batches_(context.micro_batches) {}

  Result<bool> Run() {
    RETURN_IF_ERROR(Look());
    RETURN_IF_ERROR(CheckBuffers());
    for (ir::GraphOutput& out : graph_.outputs) {
      if (out.kind != ir::OutputKind::kLoss && out.kind != ir::OutputKind::kUser) continue;
      const bool loss = out.kind == ir::OutputKind::kLoss;
      const ValueId v = out.value;
      if (loss && FormOf(v) == Form::kSum) return Refuse(v, "the loss is a sum over tokens", "return the mean");
      ASSIGN_OR_RETURN(out.value, Whole(v, /*counted=*/false));
      if (loss && TrainedTotals(out.value) > 1) return Refuse(v, "the loss is made of sums over tokens that are not counted alike", "");
    }
    graph_.EliminateDeadCode();
    return true;
  }

 private:
  // What a number is of the tokens of a batch: a sum, such a sum over a fixed number (be it how many tokens there are), a
  // mean. kNone: none of these.
  enum class Form { kNone, kSum, kShare, kMean };

  // Which values come of the batch and of parameters; what couples the micro-batches otherwise than by sums.
  Status Look() {
    std::set<ValueId> of_batch;  // numbers made of a whole batch
    for (const ir::GraphInput& in : graph_.inputs) {
      if (in.kind == ir::InputKind::kUser) varies_.insert(in.value);
      if (in.requires_grad) trained_.insert(in.value);
    }
    for (const NodeId id : graph_.nodes()) {
      const Node& node = graph_.node(id);
      const std::string_view name = ir::ShortName(node.op);
      if (name.find("batch_norm") != std::string_view::npos) {
        const auto training = std::find_if(node.args.begin(), node.args.end(), [](const Arg& a) { return a.kind == Arg::Kind::kBool; });
        if (training != node.args.end() && training->b) return Refuse(node, "it normalises by the statistics of one micro-batch", "");
      }
      bool varies = false, trained = false, number = false;
      for (const ValueId v : node.Operands()) {
        varies |= varies_.contains(v);
        trained |= trained_.contains(v) && !StopsGradient(node);
        number |= of_batch.contains(v) || (varies_.contains(v) && graph_.value(v).numel() > 1);
      }
      for (const ValueId v : node.results) {
        const Value& value = graph_.value(v);
        if (varies) varies_.insert(v);
        if (trained && IsFloating(value.dtype)) trained_.insert(v);
        if (value.rank() == 0 && number) of_batch.insert(v);
        if (value.numel() <= 1 || !IsFloating(value.dtype)) continue;
        for (const ValueId o : node.Operands()) {
          if (of_batch.contains(o)) return Refuse(node, fmt::format("it meets %{}, which is made of one micro-batch", graph_.value(o).name), "");
        }
      }
    }
    return Ok();
  }

  // A buffer that a micro-batch writes is as the one before has left it.
  Status CheckBuffers() const {
    std::map<std::string_view, ValueId> written;
    for (const ir::GraphOutput& out : graph_.outputs) {
      if (out.kind == ir::OutputKind::kBufferUpdate) written.emplace(out.name, out.value);
    }
    std::map<ValueId, std::string> tainted;  // by value: the buffer
    for (const ir::GraphInput& in : graph_.inputs) {
      const auto it = written.find(in.name);
      if (in.kind == ir::InputKind::kBuffer && it != written.end() && it->second != in.value) tainted[in.value] = in.name;
    }
    for (const NodeId id : graph_.nodes()) {
      const Node& node = graph_.node(id);
      for (const ValueId v : node.Operands()) {
        const auto it = tainted.find(v);
        if (it == tainted.end()) continue;
        const std::string buffer = it->second;
        for (const ValueId r : node.results) tainted.emplace(r, buffer);
      }
    }
    for (const ir::GraphOutput& out : graph_.outputs) {
      if (out.kind != ir::OutputKind::kLoss || !tainted.contains(out.value)) continue;
      return Refuse(out.value, fmt::format("the loss reads the buffer '{}', which each micro-batch writes", tainted[out.value]), "");
    }
    return Ok();
  }

  bool IsFixed(const Arg& a) const { return a.is_number() || (a.is_value() && !varies_.contains(a.value) && !trained_.contains(a.value)); }

  const Node* MakerOf(ValueId v) const { return graph_.value(v).numel() == 1 ? graph_.producer(v) : nullptr; }

  Form FormOf(ValueId v) const {
    const Node* node = MakerOf(v);
    if (node == nullptr) return Form::kNone;
    const std::string_view name = ir::ShortName(node->op);
    const auto by = [](int64_t reduction) { return reduction == 2 ? Form::kSum : reduction == 1 ? Form::kMean : Form::kNone; };
    if (IsCrossEntropy(name)) {
      const int64_t reduction = node->args[kReduction].int_value();
      return reduction == 1 && IgnoresLabels(*node) ? Form::kNone : by(reduction);
    }
    if (const auto at = ReductionOf(name)) return by(node->args[*at].int_value());
    if (KeepsNumber(graph_, *node) || name == "neg") return FormOf(node->args[0].value);
    if (name == "sum") return Form::kSum;
    if (name == "mean") return Form::kMean;
    if (node->args.size() < 2) return Form::kNone;
    const Arg &a = node->args[0], &b = node->args[1];
    if ((name == "mul" || (name == "div" && node->args.size() == 2)) && a.is_value() && IsFixed(b)) {
      const Form form = FormOf(a.value);
      return form == Form::kSum ? Form::kShare : form;
    }
    if (name == "mul" && b.is_value() && IsFixed(a)) {
      const Form form = FormOf(b.value);
      return form == Form::kSum ? Form::kShare : form;
    }
    if (name != "add" && name != "sub") return Form::kNone;
    const Form first = a.is_value() ? FormOf(a.value) : Form::kNone;
    if (IsFixed(b)) return first == Form::kSum ? Form::kNone : first;
    const Form second = FormOf(b.value);
    if (first == second || first == Form::kNone || second == Form::kNone) return first == second ? first : Form::kNone;
    const auto either = [&](Form form) { return first == form || second == form; };
    if (!either(Form::kSum)) return Form::kMean;
    return either(Form::kMean) ? Form::kNone : Form::kSum;
  }

  // Of a mean cross entropy: over the labels that count, which are not as many in each micro-batch. (Targets may also be
  // probabilities, which all count.)
  bool IgnoresLabels(const Node& node) const { return !IsFloating(graph_.value(node.args[kTarget].value).dtype); }

  // A power of two near one over the tokens that the sum `v` is of: gradients are as large as those of a mean.
  double SeedOf(ValueId v) const {
    for (const Node* node = MakerOf(v); node != nullptr;) {
      const std::string_view name = ir::ShortName(node->op);
      const bool entropy = IsCrossEntropy(name);
      const auto operand = std::find_if(node->args.begin(), node->args.end(), [](const Arg& a) { return a.is_value(); });
      if (operand == node->args.end()) break;
      const Value& x = graph_.value(entropy ? node->args[kTarget].value : operand->value);
      if (entropy || x.numel() > 1) return std::exp2(-std::round(std::log2(static_cast<double>(std::max<int64_t>(x.numel(), 1)))));
      node = MakerOf(x.id);
    }
    return 1;
  }

  ValueId Emit(const Node& like, std::string op, std::vector<Arg> args, DType dtype, std::vector<ir::Expr> sizes) {
    return graph_.Emit(std::move(op), std::move(args), dtype, std::move(sizes), kNoNode, &like);
  }

  ValueId Total(ValueId v, double seed) {
    const auto [it, added] = totals_.emplace(v, kNoValue);
    if (added) {
      const Value& x = graph_.value(v);
      it->second = Emit(*graph_.producer(v), "autosp.total", {Arg::Value(v), Arg::Float(seed)}, x.dtype, x.sizes);
    }
    return it->second;
  }

  // The micro-batches that the totals are of: those of a step, or the one of an evaluation.
  ValueId MicroBatchesHad(const Node& like) {
    if (had_ == kNoValue) {
      had_ = Emit(like, "aten.full.default",
                  {Arg::Ints(std::vector<int64_t>{}), Arg::Int(1), Arg::Type(DType::kInt64), Arg::None(), Arg::Device("cpu"), Arg::None()},
                  DType::kInt64, {});
    }
    return Total(had_, 1);
  }

  // The number `v` of the whole step: the same function of totals. A fixed factor of what is `counted`, divided by a count
  // of the batch, is a weight; else it stands for how many tokens there are.
  Result<ValueId> Whole(ValueId v, bool counted) {
    if (!varies_.contains(v)) return v;
    if (const auto it = wholes_.find({v, counted}); it != wholes_.end()) return it->second;
    ASSIGN_OR_RETURN(const ValueId whole, MakeWhole(v, counted));
    return wholes_[{v, counted}] = whole;
  }

  Result<ValueId> MakeWhole(ValueId v, bool counted) {
    const Form form = FormOf(v);
    const Node* node = MakerOf(v);
    if (node == nullptr) return Refuse(v, "", "");
    const Value& value = graph_.value(v);
    if (form == Form::kSum) return Total(v, SeedOf(v));
    if (form == Form::kMean || (form == Form::kShare && !counted)) {
      const ValueId sum = Total(v, 1), had = MicroBatchesHad(*node);
      return Emit(*node, "aten.div.Tensor", {Arg::Value(sum), Arg::Value(had)}, value.dtype, value.sizes);
    }
    const std::string_view name = ir::ShortName(node->op);
    if (IsCrossEntropy(name)) {
      if (node->args[kReduction].int_value() == 1 && node->args[kWeight].is_none()) return MeanOfLabels(*node);
      return Refuse(v, "", "");
    }
    std::vector<Arg> args = node->args;
    counted = counted || (name == "div" && args[1].is_value() && varies_.contains(args[1].value));
    for (Arg& a : args) {
      const bool number = a.values.empty() && (!a.is_value() || graph_.value(a.value).numel() == 1);
      if (!number) return Refuse(v, "", "");
      if (!a.is_value()) continue;
      ASSIGN_OR_RETURN(a.value, Whole(a.value, counted));
    }
    return Emit(*node, node->op, std::move(args), value.dtype, value.sizes);
  }

  // Totals through which the loss `v` depends on parameters.
  int TrainedTotals(ValueId v) const {
    std::set<ValueId> seen, found;
    std::vector<ValueId> waiting = {v};
    while (!waiting.empty()) {
      const ValueId at = waiting.back();
      waiting.pop_back();
      const Node* node = graph_.producer(at);
      if (node == nullptr || !seen.insert(at).second || StopsGradient(*node)) continue;
      if (node->op == "autosp.total") {
        if (trained_.contains(node->args[0].value)) found.insert(at);
        continue;
      }
      for (const ValueId o : node->Operands()) waiting.push_back(o);
    }
    return static_cast<int>(found.size());
  }

  // A mean over valid labels: their losses' sum over their count.
  ValueId MeanOfLabels(const Node& node) {
    const DType dtype = graph_.value(node.results[0]).dtype;
    std::vector<Arg> args = node.args;
    args[kReduction] = Arg::Int(2);
    const ValueId sum = Emit(node, node.op, std::move(args), dtype, {});
    if (trained_.contains(node.results[0])) trained_.insert(sum);
    const Arg target = node.args[kTarget];
    const ValueId valid = Emit(node, "aten.ne.Scalar", {target, node.args[kIgnore]}, DType::kBool, graph_.value(target.value).sizes);
    const ValueId count = Emit(node, "aten.sum.default", {Arg::Value(valid), Arg::None()}, DType::kInt64, {});
    const ValueId sums = Total(sum, SeedOf(sum)), counts = Total(count, 1);
    return Emit(node, "aten.div.Tensor", {Arg::Value(sums), Arg::Value(counts)}, dtype, {});
  }

  Error Refuse(ValueId v, std::string why, std::string hint) const {
    const Node* node = graph_.producer(v);
    if (node != nullptr) return Refuse(*node, std::move(why), std::move(hint));
    return Error{Code::kUnsupported, fmt::format("--accumulate {}: %{} is an input", micro_batches_, graph_.value(v).name), "", hint};
  }
  Error Refuse(const Node& node, std::string why, std::string hint) const {
    if (why.empty()) why = fmt::format("{} makes a number of one micro-batch that is neither a sum over its tokens nor a mean", node.op);
    if (hint.empty()) hint = "compile without --accumulate, with a --batch as large as the step's";
    return Error{Code::kUnsupported, fmt::format("--accumulate {}: {}", micro_batches_, why), ir::Where(graph_, node), hint};
  }

  Graph& graph_;
  const int micro_batches_;
  std::set<ValueId> varies_, trained_;  // come of the batch; of parameters that have a gradient
  std::map<ValueId, ValueId> totals_;
  std::map<std::pair<ValueId, bool>, ValueId> wholes_;
  ValueId had_ = kNoValue;
};

}  // namespace

Result<bool> TotalLosses(Graph& graph, PassContext& context) {
  if (context.micro_batches <= 1) return false;
  return Totals(graph, context).Run();
}

}  // namespace autospc::step
