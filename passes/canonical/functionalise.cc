// functionalise: every write becomes a new value.
//
// In order of execution, each storage (a value that is no view) has a current value. A write to a view is scattered
// into its base, up to the storage; who reads a view after that gets it taken anew from what the storage holds then.
#include <algorithm>
#include <map>

#include "passes/canonical/alias.h"
#include "passes/canonical/register.h"

namespace autospc::canonical {
namespace {

class Functionaliser {
 public:
  explicit Functionaliser(Graph& graph) : graph_(graph), differentiable_(Differentiable(graph)) {}

  Result<bool> Run() {
    const std::vector<NodeId> nodes(graph_.nodes().begin(), graph_.nodes().end());
    const bool writes = std::any_of(nodes.begin(), nodes.end(), [&](NodeId id) {
      const Node& node = graph_.node(id);
      return WritesInPlace(node.op) || UpdatesRunningStatistics(node);
    });
    if (!writes) return false;
    for (const NodeId id : nodes) RETURN_IF_ERROR(Visit(id));
    for (ir::GraphOutput& out : graph_.outputs) {
      ASSIGN_OR_RETURN(out.value, Current(out.value, kNoNode, nullptr));
    }
    RETURN_IF_ERROR(UpdateBuffers());
    return true;
  }

 private:
  // How a view is taken from its parent.
  struct View {
    ValueId parent = kNoValue;
    NodeId node = kNoNode;  // kNoNode: the same elements (the result of an in-place op)
    Sharing sharing = Sharing::kView;
  };
  // What a value is now, and as of which write to its storage.
  struct State {
    ValueId value = kNoValue;
    int version = 0;
  };

  Status Visit(NodeId id) {
    // Operands as they are now. Emitting does not move nodes, so references to them hold.
    Node& node = graph_.node(id);
    const bool writes = WritesInPlace(node.op);
    for (size_t i = 0; i < node.args.size(); ++i) {
      Arg& arg = node.args[i];
      if (arg.kind == Arg::Kind::kValue && !(writes && i == 0)) {
        ASSIGN_OR_RETURN(arg.value, Current(arg.value, id, &node));
      } else if (arg.kind == Arg::Kind::kValueList) {
        for (ValueId& v : arg.values) {
          if (v == kNoValue) continue;
          ASSIGN_OR_RETURN(v, Current(v, id, &node));
        }
      }
    }
    if (writes) return Write(id);
    if (UpdatesRunningStatistics(node)) return SplitBatchNorm(id);
    if (ValueAt(node, 0) == kNoValue) return Ok();
    // The parent is the value the export names, whose strides are known; `node` may read another one by now.
    const ValueId parent = Original(ValueAt(node, 0));
    for (const ValueId r : node.results) {
      const Sharing sharing = SharingOf(node, graph_.value(parent), graph_.value(r));
      if (sharing == Sharing::kNone) continue;
      views_[r] = {parent, id, sharing};
      state_[r] = {r, Version(Root(parent))};
    }
    return Ok();
  }

  ValueId Root(ValueId v) const {
    for (auto it = views_.find(v); it != views_.end(); it = views_.find(v)) v = it->second.parent;
    return v;
  }

  int Version(ValueId root) const {
    const auto it = state_.find(root);
    return it == state_.end() ? 0 : it->second.version;
  }

  // The value of the export that `v` stands for now.
  ValueId Original(ValueId v) const {
    const auto it = original_.find(v);
    return it == original_.end() ? v : it->second;
  }

  // What `v` holds at this point.
  Result<ValueId> Current(ValueId v, NodeId before, const Node* reader) {
    const auto view = views_.find(v);
    if (view == views_.end()) {
      const auto it = state_.find(v);
      return it == state_.end() ? v : it->second.value;
    }
    const int version = Version(Root(v));
    State& state = state_[v];
    if (state.version == version) return state.value;
    const View taken = view->second;
    if (taken.sharing == Sharing::kUnknown) {
      const Node& node = graph_.node(taken.node);
      return Unsupported(
          reader ? *reader : node,
          fmt::format("'{}' is read after a write that it sees only if {} made no copy", graph_.value(v).name, node.op),
          fmt::format("the export records no strides for '{}'; write to it before it is reshaped, or clone it",
                      graph_.value(taken.parent).name));
    }
    ASSIGN_OR_RETURN(const ValueId parent, Current(taken.parent, before, reader));
    ValueId fresh = parent;
    if (taken.node != kNoNode) {
      const Node node = graph_.node(taken.node);
      std::vector<ValueId> results;
      for (const ValueId r : node.results) {
        const Value old = graph_.value(r);
        results.push_back(graph_.AddValue(old.name, old.dtype, old.sizes, old.strides));
      }
      Node& again = graph_.node(graph_.AddNode(node.op, node.args, results, before));
      again.args[0] = Arg::Value(parent);
      again.source = node.source;
      again.module = node.module;
      fresh = results[graph_.value(v).result_index];
      original_[fresh] = v;
    }
    state_[v] = {fresh, version};
    return fresh;
  }

  Status Write(NodeId id) {
    const Node node = graph_.node(id);
    const ValueId target = Original(ValueAt(node, 0));
    if (target == kNoValue)
      return Unsupported(node, "an in-place op without a tensor to write to", "export the model again");
    ASSIGN_OR_RETURN(const ValueId now, Current(target, id, &node));
    ASSIGN_OR_RETURN(const ValueId written, Written(node, now));
    RETURN_IF_ERROR(Store(node, target, written));
    for (const ValueId r : node.results) {
      // `y = x.add_(1)`: y is x.
      views_[r] = {target, kNoNode, Sharing::kView};
      ASSIGN_OR_RETURN(const ValueId value, Current(target, id, &node));
      state_[r] = {value, Version(Root(target))};
    }
    // The node goes once nothing names its results: readers take what state_ says.
    dead_.push_back(id);
    return Ok();
  }

  // What the op would have left in its operand.
  Result<ValueId> Written(const Node& node, ValueId now) {
    const Value self = graph_.value(now);
    const std::string_view name = ir::ShortName(node.op);
    const auto emit = [&](const std::string& op, std::vector<Arg> args, DType dtype,
                          const std::vector<ir::Expr>& sizes) {
      return graph_.Emit(op, std::move(args), dtype, sizes, node.id, &node);
    };
    const auto cast = [&](ValueId v) {
      const Value& from = graph_.value(v);
      if (from.dtype == self.dtype) return v;
      return emit("aten.to.dtype",
                  {Arg::Value(v), Arg::Type(self.dtype), Arg::Bool(false), Arg::Bool(false), Arg::None()}, self.dtype,
                  from.sizes);
    };
    const auto broadcast = [&](ValueId v) {
      if (graph_.value(v).sizes == self.sizes) return v;
      return emit("aten.expand.default", {Arg::Value(v), Arg::Ints(self.sizes), Arg::Bool(false)}, self.dtype,
                  self.sizes);
    };
    const auto full = [&](Arg value) {
      return emit("aten.full.default",
                  {Arg::Ints(self.sizes), std::move(value), Arg::Type(self.dtype), Arg::None(), Arg::Device("cpu"),
                   Arg::None()},
                  self.dtype, self.sizes);
    };
    if (name == "zero_") return full(Arg::Int(0));
    if (name == "copy_" || name == "fill_") {
      const ValueId source = ValueAt(node, 1);
      if (source == kNoValue) return full(node.args.at(1));
      // A value of its own: the source may be written to later.
      const ValueId copy = broadcast(cast(source));
      return copy == source ? emit("aten.alias.default", {Arg::Value(source)}, self.dtype, self.sizes) : copy;
    }
    const std::optional<std::string> op = OutOfPlace(node.op);
    if (!op) {
      return Unsupported(node, fmt::format("{} has no functional form", node.op),
                         "use the out-of-place form in the model, or keep it out of the exported region");
    }
    std::vector<Arg> args = node.args;
    args[0] = Arg::Value(now);
    // In place, the type stays; out of place it may be promoted.
    DType type = self.dtype;
    for (size_t i = 1; i < args.size(); ++i) {
      if (!args[i].is_value()) continue;
      const Value& other = graph_.value(args[i].value);
      const bool counts = IsFloating(other.dtype) && IsFloating(self.dtype) && (other.rank() > 0 || self.rank() == 0);
      if (!counts || other.dtype == type) continue;
      if (ByteSize(other.dtype) > ByteSize(type))
        type = other.dtype;
      else if (ByteSize(other.dtype) == ByteSize(type))
        type = DType::kFloat32;  // half and bfloat16
    }
    const bool converts = name == "masked_fill_" || name == "index_put_" || name.starts_with("scatter") ||
                          name.starts_with("index_") || name == "masked_scatter_" || name == "lerp_";
    const bool compares = name.starts_with("logical_") || name == "lt_" || name == "le_" || name == "gt_" ||
                          name == "ge_" || name == "eq_" || name == "ne_";
    const DType result = converts ? self.dtype : compares ? DType::kBool : type;
    return cast(emit(*op, std::move(args), result, self.sizes));
  }

  // Puts `written` in the place of what `target` held, in its storage.
  Status Store(const Node& node, ValueId target, ValueId written) {
    const auto view = views_.find(target);
    if (view == views_.end()) {
      RETURN_IF_ERROR(CheckInput(node, target));
      const int version = Version(target) + 1;
      state_[target] = {written, version};
      original_[written] = target;
      return Ok();
    }
    const View taken = view->second;
    if (taken.sharing == Sharing::kUnknown) {
      return Unsupported(node,
                         fmt::format("a write to '{}', which may or may not be a copy", graph_.value(target).name),
                         "the export records no strides for it; clone the value before it is written");
    }
    ValueId scattered = written;
    if (taken.node != kNoNode) {
      ASSIGN_OR_RETURN(const ValueId parent, Current(taken.parent, node.id, &node));
      const Node view_node = graph_.node(taken.node);
      const bool ends_gradient = Is(view_node, "aten.detach") || view_node.op == "autosp.stop_gradient";
      if (ends_gradient && differentiable_[taken.parent]) {
        return Unsupported(node, "a write through a detached view of a value that has a gradient",
                           "clone the detached value before writing to it");
      }
      scattered = EmitScatter(graph_, view_node, graph_.value(target), parent, written, node.id, node);
      if (scattered == kNoValue) {
        return Unsupported(node, fmt::format("a write through {} has no functional form", view_node.op),
                           "write to the tensor itself, or to a slice or select of it");
      }
    }
    RETURN_IF_ERROR(Store(node, taken.parent, scattered));
    // The view itself need not be taken again.
    state_[target] = {written, Version(Root(target))};
    original_[written] = target;
    return Ok();
  }

  // Parameters are the optimiser's to write; a storage of several names has no one value.
  Status CheckInput(const Node& node, ValueId target) {
    const ir::GraphInput* in = graph_.FindInput(target);
    if (!in) return Ok();
    if (in->kind == ir::InputKind::kParameter) {
      return Unsupported(node, fmt::format("the forward pass writes to the parameter '{}'", in->name),
                         "make it a buffer, or write to a copy");
    }
    const auto shared = std::find_if(graph_.inputs.begin(), graph_.inputs.end(), [&](const ir::GraphInput& other) {
      return other.alias_of == in->name ||
             (!in->alias_of.empty() && (other.alias_of == in->alias_of || other.name == in->alias_of) &&
              other.name != in->name);
    });
    if (shared != graph_.inputs.end()) {
      return Unsupported(node, fmt::format("a write to '{}', whose storage '{}' shares", in->name, shared->name),
                         "give the two buffers storages of their own");
    }
    return Ok();
  }

  // aten.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled) writes the
  // running statistics when training, without a trailing underscore.
  static bool UpdatesRunningStatistics(const Node& node) {
    return node.op == "aten.batch_norm.default" && BoolAt(node, 5, false) && ValueAt(node, 3) != kNoValue;
  }

  Status SplitBatchNorm(NodeId id) {
    Node& node = graph_.node(id);
    const ValueId x = ValueAt(node, 0);
    const Value input = graph_.value(x);
    const double momentum = NumberAt(node, 6).value_or(0.1);
    std::vector<int64_t> dims;
    for (int d = 0; d < input.rank(); ++d) {
      if (d != 1) dims.push_back(d);
    }
    const std::vector<ir::Expr> sizes = {input.sizes[1]};
    const Node like = node;
    const auto emit = [&](const char* op, std::vector<Arg> args, DType dtype) {
      return graph_.Emit(op, std::move(args), dtype, sizes, id, &like);
    };
    const ValueId still = graph_.Emit("aten.detach.default", {Arg::Value(x)}, input.dtype, input.sizes, id, &like);
    const ValueId mean =
        emit("aten.mean.dim", {Arg::Value(still), Arg::Ints(dims), Arg::Bool(false), Arg::None()}, input.dtype);
    const ValueId var =
        emit("aten.var.correction", {Arg::Value(still), Arg::Ints(dims), Arg::Int(1), Arg::Bool(false)}, input.dtype);
    for (const size_t arg : {size_t{3}, size_t{4}}) {
      const ValueId old = ValueAt(like, arg);
      if (old == kNoValue) continue;
      const DType dtype = graph_.value(old).dtype;
      ValueId fresh = arg == 3 ? mean : var;
      if (dtype != input.dtype) {
        fresh = emit("aten.to.dtype",
                     {Arg::Value(fresh), Arg::Type(dtype), Arg::Bool(false), Arg::Bool(false), Arg::None()}, dtype);
      }
      fresh = emit("aten.mul.Tensor", {Arg::Value(fresh), Arg::Float(momentum)}, dtype);
      const ValueId kept = emit("aten.mul.Tensor", {Arg::Value(old), Arg::Float(1 - momentum)}, dtype);
      const ValueId sum = emit("aten.add.Tensor", {Arg::Value(kept), Arg::Value(fresh), Arg::Int(1)}, dtype);
      RETURN_IF_ERROR(Store(like, Original(old), sum));
    }
    // Normalised by the batch's own statistics either way.
    node.args[3] = node.args[4] = Arg::None();
    return Ok();
  }

  // What buffers hold at the end; then the in-place nodes can go.
  Status UpdateBuffers() {
    for (const ir::GraphInput& in : graph_.inputs) {
      const auto it = state_.find(in.value);
      const bool kept = in.kind == ir::InputKind::kBuffer || in.kind == ir::InputKind::kConstant;
      if (!kept || it == state_.end() || it->second.version == 0) continue;
      graph_.outputs.push_back({it->second.value, ir::OutputKind::kBufferUpdate, in.name});
    }
    for (auto it = dead_.rbegin(); it != dead_.rend(); ++it) graph_.EraseNode(*it);
    return Ok();
  }

  Graph& graph_;
  const std::vector<bool> differentiable_;  // of the values of the export
  std::map<ValueId, View> views_;
  std::map<ValueId, State> state_;
  std::map<ValueId, ValueId> original_;  // a value that stands for one of the export
  std::vector<NodeId> dead_;
};

}  // namespace

Result<bool> Functionalise(ir::Graph& graph, PassContext&) { return Functionaliser(graph).Run(); }

}  // namespace autospc::canonical
