#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "passes/step/decay.h"
#include "passes/step/order.h"
#include "passes/step/register.h"
#include "passes/step/zero.h"

namespace autospc::step {
namespace {

using ir::Arg;
using ir::DType;
using ir::Graph;
using ir::GraphInput;
using ir::kNoValue;
using ir::Node;
using ir::NodeId;
using ir::Value;
using ir::ValueId;

// torch.optim's defaults.
constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEps = 1e-8;
constexpr double kAdamWDecay = 0.01, kSgdDecay = 0;

struct Trained {
  std::string name;  // the parameter's
  ValueId parameter = kNoValue;
  ValueId gradient = kNoValue;
  int final_at = -1;         // position behind which the gradient is final
  int update_at = -1;        // position behind which the parameter may be overwritten as well
  ValueId block = kNoValue;  // ZeRO: the rank's own block of the gradient; kNoValue: state and update are whole
};

class Optimizer {
 public:
  Optimizer(Graph& graph, const PassContext& context)
      : graph_(graph),
        context_(context),
        order_(graph),
        placed_(IsPlaced(graph)),
        stage_(placed_ ? ZeroStage(context) : 0) {}

  Result<bool> Run() {
    RETURN_IF_ERROR(Check());
    ASSIGN_OR_RETURN(undecayed_, Undecayed(graph_, context_));
    RETURN_IF_ERROR(Collect());
    if (trained_.empty()) return false;
    if (stage_ > 0) CutBlocks();
    const bool clips = context_.clip_norm > 0 && context_.optimizer != "none";
    const ValueId norm = stage_ > 0 ? NormOverRanks() : clips ? WholeNorm() : NormAsBorn();
    graph_.outputs.push_back({norm, ir::OutputKind::kUser, OutputName()});
    if (context_.optimizer == "none") return true;
    lr_ = AddState("lr", DType::kFloat64, {}, {});
    if (context_.optimizer == "adamw") step_ = AddState("step", DType::kInt64, {}, {});
    if (clips) {
      clip_ = graph_.AddValue("clip", DType::kFloat64, {});
      Place(clip_);
      Add("autosp.clip_coefficient", {Arg::Value(norm), Arg::Float(context_.clip_norm)}, {clip_}, ir::kNoNode, "");
    }
    for (const Trained& t : trained_) Update(t, BehindUpdate(t));
    if (stage_ > 0) GatherParameters();
    return true;
  }

 private:
  Status Check() const {
    const std::string& o = context_.optimizer;
    if (o != "none" && o != "sgd" && o != "adamw") {
      return Error{Code::kUsage, fmt::format("unknown optimizer '{}'", o), "", "one of none, sgd, adamw"};
    }
    if (!(context_.clip_norm >= 0)) {
      return Error{Code::kUsage, fmt::format("the clip norm is {}", context_.clip_norm), "",
                   "give a number above 0, or 0 for none"};
    }
    return Ok();
  }

  // A parameter counts once, whatever its names: gradients of two names of one storage are added up.
  Status Collect() {
    std::map<std::string_view, const GraphInput*> inputs;
    for (const GraphInput& in : graph_.inputs) {
      if (in.kind == ir::InputKind::kParameter) inputs.emplace(in.name, &in);
    }
    std::map<ValueId, size_t> by_storage;
    for (ir::GraphOutput& out : graph_.outputs) {
      if (out.kind != ir::OutputKind::kGradient) continue;
      const auto it = inputs.find(out.name);
      if (it == inputs.end()) {
        return Error{Code::kFailed, fmt::format("the gradient '{}' belongs to no parameter", out.name), "",
                     "this is a bug of the compiler"};
      }
      const ValueId parameter = order_.Owner(it->second->value);
      const auto [entry, added] = by_storage.emplace(parameter, trained_.size());
      if (added) {
        trained_.push_back(
            {OwnName(*it->second), parameter, out.value, order_.final_at(out.value), order_.last_use(parameter)});
      } else {
        AddUp(trained_[entry->second], out.value);
      }
    }
    for (ir::GraphOutput& out : graph_.outputs) {
      if (out.kind == ir::OutputKind::kGradient)
        out.value = trained_[by_storage[order_.Owner(inputs[out.name]->value)]].gradient;
    }
    return Ok();
  }

  static std::string OwnName(const GraphInput& in) { return in.alias_of.empty() ? in.name : in.alias_of; }

  void AddUp(Trained& t, ValueId other) {
    t.final_at = std::max(t.final_at, order_.final_at(other));
    // Under ZeRO 2 one may be whole and the other the rank's block: then the sum is a block.
    const bool block = IsSharded(graph_.value(t.gradient)) || IsSharded(graph_.value(other));
    const ValueId a = block ? OwnBlock(t.gradient, t) : t.gradient, b = block ? OwnBlock(other, t) : other;
    const Value& g = graph_.value(a);
    const ir::Placement placement = g.placement, dp_placement = g.dp_placement;
    const ValueId sum = graph_.AddValue("tied_gradient", g.dtype, g.sizes, ContiguousStrides(g.sizes));
    graph_.value(sum).placement = placement;
    graph_.value(sum).dp_placement = dp_placement;
    Add("aten.add.Tensor", {Arg::Value(a), Arg::Value(b), Arg::Int(1)}, {sum}, order_.Behind(t.final_at), t.name);
    t.gradient = sum;
  }

  // `gradient` itself if it is a block already.
  ValueId OwnBlock(ValueId gradient, const Trained& t) {
    const Value& g = graph_.value(gradient);
    if (IsSharded(g)) return gradient;
    const int64_t n = g.numel();
    const ValueId block =
        graph_.AddValue("gradient_block", g.dtype, {ir::Expr(BlockLength(n, context_.ranks))}, {ir::Expr(1)});
    placed_.Put(&graph_.value(block), BlockPlacement(n, context_.ranks));
    Add("autosp.own_block", {Arg::Value(gradient)}, {block}, order_.Behind(t.final_at), t.name);
    return block;
  }

  // As soon as a gradient is final, so that the whole of it dies.
  void CutBlocks() {
    for (Trained& t : trained_) {
      if (graph_.value(t.parameter).numel() > 0) t.block = OwnBlock(t.gradient, t);
    }
  }

  ValueId Norm(std::vector<ValueId> of, const char* name, NodeId before) {
    const ValueId norm = graph_.AddValue(name, DType::kFloat64, {});
    Place(norm);
    Add("autosp.grad_norm", {Arg::Values(std::move(of))}, {norm}, before, "");
    return norm;
  }

  // Clipping needs the norm before any update, so every gradient lives to the end anyway.
  ValueId WholeNorm() {
    std::vector<ValueId> gradients;
    for (const Trained& t : trained_) gradients.push_back(t.gradient);
    return Norm(std::move(gradients), "grad_norm", ir::kNoNode);
  }

  // The norm of norms: each of the gradients that become final together, so that none lives on for the norm.
  ValueId NormAsBorn() {
    std::map<int, std::vector<ValueId>> born;
    for (const Trained& t : trained_) born[t.final_at].push_back(t.gradient);
    std::vector<ValueId> parts;
    for (auto& [position, gradients] : born) {
      parts.push_back(Norm(std::move(gradients), "part_norm", order_.Behind(position)));
    }
    return Norm(std::move(parts), "grad_norm", ir::kNoNode);
  }

  // The blocks' squares, added up as the blocks are born and then over the ranks; each parameter counts once, and what
  // is whole on every rank (it has no elements) by itself.
  ValueId NormOverRanks() {
    std::map<int, std::vector<ValueId>> born;
    std::vector<ValueId> norms;
    for (const Trained& t : trained_) {
      t.block == kNoValue ? norms.push_back(t.gradient) : born[t.final_at].push_back(t.block);
    }
    ValueId squares = kNoValue;
    for (auto& [position, blocks] : born) {
      const NodeId before = order_.Behind(position);
      const ValueId part = Scalar("squares", ir::Placement::Partial());
      Add("autosp.sum_of_squares", {Arg::Values(std::move(blocks))}, {part}, before, "");
      if (squares == kNoValue) {
        squares = part;
        continue;
      }
      const ValueId sum = Scalar("squares", ir::Placement::Partial());
      Add("aten.add.Tensor", {Arg::Value(squares), Arg::Value(part), Arg::Int(1)}, {sum}, before, "");
      squares = sum;
    }
    if (squares != kNoValue) {
      const ValueId sum = Scalar("squares", ir::Placement::Replicated()),
                    root = Scalar("norm", ir::Placement::Replicated());
      std::vector<Arg> over_all = {Arg::Value(squares), Arg::String("sum")};
      if (context_.dp > 1) over_all.push_back(Arg::String(std::string(Name(Axis::kWorld))));
      Add("autosp.all_reduce", std::move(over_all), {sum}, ir::kNoNode, "");
      Add("aten.sqrt.default", {Arg::Value(sum)}, {root}, ir::kNoNode, "");
      norms.push_back(root);
    }
    return Norm(std::move(norms), "grad_norm", ir::kNoNode);
  }

  ValueId Scalar(const char* name, ir::Placement placement) {
    const ValueId v = graph_.AddValue(name, DType::kFloat64, {});
    placed_.Put(&graph_.value(v), placement);
    return v;
  }

  std::string OutputName() const {
    std::string name = "grad_norm";
    const auto taken = [&](const ir::GraphOutput& out) {
      return out.kind == ir::OutputKind::kUser && out.name == name;
    };
    while (std::any_of(graph_.outputs.begin(), graph_.outputs.end(), taken)) name += "_";
    return name;
  }

  // The place of a parameter's update: with clipping the end, else as soon as it may be.
  int UpdatePosition(const Trained& t) const {
    return clip_ == kNoValue ? std::max(t.final_at, t.update_at) : order_.size() - 1;
  }
  NodeId BehindUpdate(const Trained& t) const { return order_.Behind(UpdatePosition(t)); }

  void Update(const Trained& t, NodeId before) {
    const Value& p = graph_.value(t.parameter);
    const bool narrow = p.dtype == DType::kBFloat16 || p.dtype == DType::kFloat16, shard = t.block != kNoValue;
    const DType wide = narrow ? DType::kFloat32 : p.dtype;
    const std::vector<ir::Expr> sizes = p.sizes, strides = p.strides;
    const int64_t n = p.numel();
    const auto state = [&](const char* suffix) {
      const std::string name = t.name + suffix;
      if (!shard) return Arg::Value(AddState(name, wide, sizes, strides));
      const ValueId v = AddState(name, wide, {ir::Expr(BlockLength(n, context_.ranks))}, {ir::Expr(1)});
      placed_.Put(&graph_.value(v), BlockPlacement(n, context_.ranks));
      return Arg::Value(v);
    };
    const Arg gradient = Arg::Value(shard ? t.block : t.gradient);
    const Arg clip = clip_ == kNoValue ? Arg::None() : Arg::Value(clip_);
    const Arg master = narrow ? state(".master") : Arg::None();
    const double decay = undecayed_.contains(t.name) ? 0 : context_.weight_decay;
    if (context_.optimizer == "sgd") {
      Add(shard ? "autosp.sgd_shard_" : "autosp.sgd_",
          {Arg::Value(t.parameter), master, gradient, clip, Arg::Value(lr_), Arg::Float(decay < 0 ? kSgdDecay : decay)},
          {}, before, t.name);
      return;
    }
    const Arg m = state(".exp_avg"), v = state(".exp_avg_sq");
    Add(shard ? "autosp.adamw_shard_" : "autosp.adamw_",
        {Arg::Value(t.parameter), master, gradient, m, v, clip, Arg::Value(lr_), Arg::Value(step_), Arg::Float(kBeta1),
         Arg::Float(kBeta2), Arg::Float(kEps), Arg::Float(decay < 0 ? kAdamWDecay : decay)},
        {}, before, t.name);
  }

  // Updated parameters in buckets, each behind its last update.
  void GatherParameters() {
    std::map<int, std::vector<ValueId>> updated;  // by position
    for (const Trained& t : trained_) {
      if (t.block != kNoValue) updated[UpdatePosition(t)].push_back(t.parameter);
    }
    const int64_t limit = std::max<int64_t>(context_.chosen_bucket_bytes, 1);
    std::vector<ValueId> bucket;
    int64_t bytes = 0;
    for (const auto& [position, parameters] : updated) {
      for (ValueId p : parameters) {
        bucket.push_back(p);
        bytes += graph_.value(p).bytes();
        const bool last = position == updated.rbegin()->first && p == parameters.back();
        if (bytes < limit && !last) continue;
        Add("autosp.all_gather_coalesced_", {Arg::Values(std::move(bucket))}, {}, order_.Behind(position), "");
        bucket.clear();
        bytes = 0;
      }
    }
  }

  ValueId AddState(const std::string& name, DType dtype, std::vector<ir::Expr> sizes, std::vector<ir::Expr> strides) {
    GraphInput input;
    input.kind = ir::InputKind::kState;
    input.name = name;
    const ValueId v = graph_.AddInput(std::move(input), ValueName(name), dtype, std::move(sizes), std::move(strides));
    Place(v);
    return v;
  }

  static std::string ValueName(std::string name) {
    for (char& c : name) {
      const bool plain =
          (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
      if (!plain) c = '_';
    }
    return name;
  }

  void Place(ValueId v) {
    placed_.Put(&graph_.value(v), ir::Placement::Replicated());
  }

  void Add(std::string op, std::vector<Arg> args, std::vector<ValueId> results, NodeId before,
           const std::string& module) {
    Node& node = graph_.node(graph_.AddNode(std::move(op), std::move(args), std::move(results), before));
    node.phase = ir::Phase::kStep;
    node.module = module;
  }

  Graph& graph_;
  const PassContext& context_;
  const Order order_;
  const PlacedAxes placed_;
  const int stage_;
  std::set<std::string> undecayed_;  // by the name of the storage, as Trained::name
  std::vector<Trained> trained_;
  ValueId lr_ = kNoValue, step_ = kNoValue, clip_ = kNoValue;
};

}  // namespace

Result<bool> AddOptimizer(Graph& graph, PassContext& context) { return Optimizer(graph, context).Run(); }

}  // namespace autospc::step
