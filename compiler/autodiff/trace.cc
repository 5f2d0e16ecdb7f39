#include "compiler/autodiff/trace.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include <fmt/ranges.h>

#include <ATen/SequenceNumber.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/strides.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/library.h>

#include "compiler/autodiff/bridge.h"
#include "compiler/autodiff/ops.h"

namespace autospc::autodiff {
namespace {

using ir::Arg;
using ir::Graph;
using ir::Node;
using ir::NodeId;
using ir::Phase;
using ir::ValueId;

// What tells one value from another: not the TensorImpl (saved outputs come back as new ones), and not
// the storage alone (views share it; _conj shares everything but a bit).
using Key = std::tuple<const void*, int64_t, std::vector<int64_t>, std::vector<int64_t>, c10::ScalarType, bool, bool>;

Key KeyOf(const at::Tensor& t) {
  return {t.storage().unsafeGetStorageImpl(), t.storage_offset(), t.sizes().vec(), t.strides().vec(), t.scalar_type(),
          t.is_conj(), t.is_neg()};
}

// An error inside a boxed kernel crosses LibTorch's frames as an exception.
struct RecordError : std::exception {
  Error error;
  explicit RecordError(Error e) : error(std::move(e)) {}
  const char* what() const noexcept override { return error.what.c_str(); }
};

class Recorder {
 public:
  explicit Recorder(Graph* graph) : graph_(graph) {}

  // The tensor of a new value of the graph, which owns its storage.
  void Bind(const at::Tensor& t, ValueId v) {
    values_[KeyOf(t)] = v;
    bases_.emplace(t.storage().unsafeGetStorageImpl(), v);
    keep_alive_.push_back(t.storage());
  }

  ValueId Find(const at::Tensor& t) {
    if (!t.has_storage()) return ir::kNoValue;
    const auto it = values_.find(KeyOf(t));
    if (it != values_.end()) return it->second;
    return scattered_.contains(t.storage().unsafeGetStorageImpl()) ? ViewAnew(t) : ir::kNoValue;
  }

  void SetContext(Phase phase, std::string source, std::string module) {
    phase_ = phase;
    source_ = std::move(source);
    module_ = std::move(module);
  }
  // Autograd nodes with sequence numbers from `first` on belong to the forward node with this context.
  void MarkSequence(uint64_t first, const Node& node) { sequence_[first] = {node.source, node.module}; }

  void Record(const c10::OperatorHandle& called, torch::jit::Stack* stack) {
    const c10::impl::ExcludeDispatchKeyGuard below(c10::DispatchKey::Fake);
    const c10::OperatorHandle op = InBytes(called);
    const auto& schema = op.schema();
    const size_t count = schema.arguments().size();
    if (OnNumbers(*stack, count)) return op.callBoxed(stack);
    std::vector<Arg> args;
    at::Tensor written;
    for (size_t i = 0; i < count; ++i) {
      const c10::IValue& v = (*stack)[stack->size() - count + i];
      auto arg = ToArg(v, schema.arguments()[i], [this](const at::Tensor& t) { return Find(t); });
      if (!arg) Fail(op, arg.error());
      args.push_back(std::move(*arg));
      const auto* alias = schema.arguments()[i].alias_info();
      if (alias && alias->isWrite()) {
        if (written.defined() || !v.isTensor()) Fail(op, {Code::kUnsupported, "it writes to several operands", "", ""});
        written = v.toTensor();
      }
    }
    DropDefaults(schema, *stack, &args);
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::Meta), stack);
    if (op.hasTag(at::Tag::inplace_view)) {  // transpose_: the same bytes by other sizes and strides
      if (!written.defined() || ViewAnew(written) == ir::kNoValue) Fail(op, {Code::kUnsupported, "it changes the shape of a tensor in place", "", ""});
      return;
    }
    const size_t first_result = stack->size() - schema.returns().size();
    const std::vector<at::Tensor> tensors =
        FlattenResults(torch::jit::Stack(stack->begin() + first_result, stack->end()));
    std::string name = OpName(op.operator_name());
    if (written.defined()) name = Functional(op, name);
    const bool into_view = written.defined() && IsShared(written);
    std::vector<ValueId> results;
    for (const at::Tensor& t : tensors) {
      results.push_back(into_view ? graph_->AddValue(ir::ShortName(name), DTypeOf(op, t), Exprs(t.sizes()), Exprs(c10::contiguous_strides(t.sizes())))
                                  : NewValue(op, name, args, t, written.defined()));
    }
    const ValueId first = results.empty() ? ir::kNoValue : results[0];
    AddNode(std::move(name), std::move(args), std::move(results));
    if (into_view) WriteBack(op, written, first);
  }

 private:
  // LibTorch conjugates and negates lazily, by a bit of the tensor that says how its bytes are read. The plan knows bytes.
  static c10::OperatorHandle InBytes(const c10::OperatorHandle& op) {
    static const std::map<std::string, c10::OperatorHandle, std::less<>> physical = {
        {"aten::_conj", c10::Dispatcher::singleton().findSchemaOrThrow("aten::conj_physical", "")},
        {"aten::_neg_view", c10::Dispatcher::singleton().findSchemaOrThrow("aten::neg", "")}};
    const auto it = physical.find(op.operator_name().name);
    return it == physical.end() ? op : it->second;
  }

  // Calls over wrapped numbers alone (a Scalar made a tensor inside a kernel): computed, not recorded.
  static bool OnNumbers(const torch::jit::Stack& stack, size_t count) {
    bool any = false;
    for (size_t i = stack.size() - count; i < stack.size(); ++i) {
      if (!stack[i].isTensor() || !stack[i].toTensor().defined()) continue;
      if (!stack[i].toTensor().device().is_cpu()) return false;
      any = true;
    }
    return any;
  }

  // The IR leaves trailing defaults of our own ops out (runtime/base/autosp_ops.h).
  static void DropDefaults(const c10::FunctionSchema& schema, const torch::jit::Stack& stack, std::vector<Arg>* args) {
    if (!schema.name().starts_with("autosp::")) return;
    const size_t first = stack.size() - args->size();
    while (!args->empty()) {
      const auto& usual = schema.arguments()[args->size() - 1].default_value();
      if (!usual || *usual != stack[first + args->size() - 1]) return;
      args->pop_back();
    }
  }

  [[noreturn]] void Fail(const c10::OperatorHandle& op, Error e) const {
    e.what = fmt::format("{}: {}", OpName(op.operator_name()), e.what);
    if (e.where.empty()) e.where = source_;
    throw RecordError(std::move(e));
  }

  void AddNode(std::string name, std::vector<Arg> args, std::vector<ValueId> results) {
    Node& node = graph_->node(graph_->AddNode(std::move(name), std::move(args), std::move(results)));
    node.phase = phase_;
    node.source = source_;
    node.module = module_;
    if (phase_ == Phase::kBackward) InheritFromForward(&node);
  }

  // An in-place op inside a composite kernel is recorded as the op that returns what it wrote.
  std::string Functional(const c10::OperatorHandle& op, const std::string& name) const {
    const size_t dot = name.find('.', 5);
    const std::string base = name.substr(0, dot);
    const std::string functional = base.substr(0, base.size() - 1) + name.substr(dot);
    if (!base.ends_with('_') || !FindOp(functional)) {
      Fail(op, {Code::kUnsupported, "it writes in place where that has no functional form", "", ""});
    }
    return functional;
  }

  // Whether other values lie in the tensor's storage too: what is written to it they must see.
  bool IsShared(const at::Tensor& t) const {
    const auto* storage = t.storage().unsafeGetStorageImpl();
    return scattered_.contains(storage) ||
           std::count_if(values_.begin(), values_.end(), [&](const auto& v) { return std::get<0>(v.first) == storage; }) > 1;
  }

  // After an op in place on a part of a storage, which recorded gives `y`: the storage's owner becomes a new value with y
  // scattered into it, and views of it are taken from that as they are asked for.
  void WriteBack(const c10::OperatorHandle& op, const at::Tensor& written, ValueId y) {
    const auto* storage = written.storage().unsafeGetStorageImpl();
    const auto base = bases_.find(storage);
    const bool plain = base != bases_.end() && !offsets_.contains(storage) && graph_->value(base->second).dtype == graph_->value(y).dtype;
    if (!plain) Fail(op, {Code::kUnsupported, "it writes in place to a part of what other values share", "", ""});
    const ir::Value owner = graph_->value(base->second);
    const ValueId whole = graph_->AddValue("as_strided_scatter", owner.dtype, owner.sizes, owner.strides);
    AddNode("aten.as_strided_scatter.default",
            {Arg::Value(owner.id), Arg::Value(y), Arg::Ints(Exprs(written.sizes())), Arg::Ints(Exprs(written.strides())),
             Arg::Int(written.storage_offset())},
            {whole});
    base->second = whole;
    scattered_.insert(storage);
    std::erase_if(values_, [&](const auto& v) { return std::get<0>(v.first) == storage; });
    const c10::ScalarType type = ToScalarType(owner.dtype);
    values_[{storage, 0, owner.int_sizes(), owner.int_strides(), type, false, false}] = whole;
  }

  // A view of the value that owns a tensor's storage, as the tensor lies in it: kNoValue where that is of another type.
  ValueId ViewAnew(const at::Tensor& t) {
    const auto* storage = t.storage().unsafeGetStorageImpl();
    const auto base = bases_.find(storage);
    if (base == bases_.end() || offsets_.contains(storage)) return ir::kNoValue;
    const ir::Value owner = graph_->value(base->second);
    if (ToScalarType(owner.dtype) != t.scalar_type() || t.is_conj() || t.is_neg()) return ir::kNoValue;
    const ValueId v = graph_->AddValue("as_strided", owner.dtype, Exprs(t.sizes()), Exprs(t.strides()));
    graph_->value(v).base = owner.id;
    graph_->value(v).byte_offset = t.storage_offset() * static_cast<int64_t>(t.element_size());
    AddNode("aten.as_strided.default",
            {Arg::Value(owner.id), Arg::Ints(Exprs(t.sizes())), Arg::Ints(Exprs(t.strides())), Arg::Int(t.storage_offset())}, {v});
    values_[KeyOf(t)] = v;
    return v;
  }

  static std::vector<ir::Expr> Exprs(at::IntArrayRef v) { return std::vector<ir::Expr>(v.begin(), v.end()); }
  ir::DType DTypeOf(const c10::OperatorHandle& op, const at::Tensor& t) const {
    const auto dtype = ToDType(t.scalar_type());
    if (!dtype) Fail(op, dtype.error());
    return *dtype;
  }

  ValueId NewValue(const c10::OperatorHandle& op, const std::string& name, const std::vector<Arg>& args,
                   const at::Tensor& t, bool wrote) {
    if (!t.defined()) return graph_->AddValue("none", ir::DType::kFloat32, {ir::Expr(0)}, {ir::Expr(1)});
    const ValueId v = graph_->AddValue(ir::ShortName(name), DTypeOf(op, t), Exprs(t.sizes()), Exprs(t.strides()));
    const auto* storage = t.storage().unsafeGetStorageImpl();
    const auto it = bases_.find(storage);
    ir::Value& value = graph_->value(v);
    if (IsAliasOp(name)) {  // its meta kernel makes a storage of its own, so that the two can be told apart
      const ir::Value& x = graph_->value(args[0].value);
      value.base = x.base == ir::kNoValue ? x.id : x.base;
      value.byte_offset = x.byte_offset;
      bases_.emplace(storage, value.base);
      offsets_[storage] = x.byte_offset;
    } else if (it == bases_.end() || wrote) {
      bases_[storage] = v;
    } else {
      value.base = it->second;
      const auto offset = offsets_.find(storage);
      value.byte_offset = (offset == offsets_.end() ? 0 : offset->second) +
                          t.storage_offset() * static_cast<int64_t>(t.element_size());
      const auto known = values_.find(KeyOf(t));
      if (known != values_.end()) {  // view of the same geometry: later uses mean the newest, which is the same
        keep_alive_.push_back(t.storage());
        known->second = v;
        return v;
      }
    }
    values_[KeyOf(t)] = v;
    keep_alive_.push_back(t.storage());
    return v;
  }

  void InheritFromForward(Node* node) const {
    const auto current = torch::autograd::get_current_node();
    if (!current) return;
    const uint64_t number = current->sequence_nr();
    auto it = sequence_.upper_bound(number);
    if (number == UINT64_MAX || it == sequence_.begin()) return;
    --it;
    node->source = it->second.first;
    node->module = it->second.second;
  }

  Graph* graph_;
  std::map<Key, ValueId> values_;
  std::map<const void*, ValueId> bases_;    // storage -> the value that owns it
  std::set<const void*> scattered_;         // storages of which parts have been written to
  std::map<const void*, int64_t> offsets_;  // storage of an alias op's result -> its offset in the base, bytes
  std::vector<c10::Storage> keep_alive_;    // so that no storage's address is used again
  std::map<uint64_t, std::pair<std::string, std::string>> sequence_;
  Phase phase_ = Phase::kForward;
  std::string source_, module_;
};

thread_local Recorder* recorder = nullptr;

void Fallback(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  TORCH_CHECK(recorder, "DispatchKey::Fake is active outside of a trace");
  recorder->Record(op, stack);
}

TORCH_LIBRARY_IMPL(_, Fake, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&Fallback>()); }

Error FromException(const std::exception& e, std::string where) {
  if (const auto* record = dynamic_cast<const RecordError*>(&e)) {
    Error error = record->error;
    if (error.where.empty()) error.where = std::move(where);
    return error;
  }
  std::string text = e.what();
  if (const auto* c10_error = dynamic_cast<const c10::Error*>(&e)) text = c10_error->what_without_backtrace();
  const bool missing = dynamic_cast<const c10::NotImplementedError*>(&e) != nullptr;
  return {missing ? Code::kUnsupported : Code::kBadInput, text.substr(0, text.find('\n')), std::move(where),
          missing ? "the op has no shape rule on meta tensors" : ""};
}

class Tracer {
 public:
  explicit Tracer(const Graph& forward) : forward_(forward), recorder_(&joint_), used_(forward.ReadValues()) {}

  Result<Graph> Run(bool differentiate) {
    joint_.name = forward_.name;
    Inputs();
    RETURN_IF_ERROR(Forward());
    RETURN_IF_ERROR(Outputs());
    if (differentiate) RETURN_IF_ERROR(Backward());
    joint_.EliminateDeadCode();
    return std::move(joint_);
  }

 private:
  void Inputs() {
    for (const ir::GraphInput& in : forward_.inputs) {
      const ir::Value& v = forward_.value(in.value);
      at::Tensor t = MetaTensor(v);
      ir::GraphInput copy = in;
      const auto strides = t.strides();
      const ValueId id = joint_.AddInput(copy, v.name, v.dtype, v.sizes, std::vector<ir::Expr>(strides.begin(), strides.end()));
      joint_.value(id).placement = v.placement;
      joint_.value(id).dp_placement = v.dp_placement;
      recorder_.Bind(t, id);
      if (in.kind == ir::InputKind::kParameter && in.requires_grad && IsFloating(v.dtype)) t.requires_grad_(true);
      env_[in.value] = t;
    }
  }

  Status Forward() {
    const Guard guard(&recorder_);
    for (NodeId id : forward_.nodes()) {
      const Node& node = forward_.node(id);
      auto op_or = FindOp(node.op);
      if (!op_or) {
        op_or.error().where = ir::Where(forward_, node);
        return op_or.error();
      }
      const c10::OperatorHandle op = *op_or;
      ASSIGN_OR_RETURN(torch::jit::Stack stack,
                       ToStack(forward_, node, op.schema(), [&](ValueId v) { return env_.at(v); }));
      recorder_.SetContext(Phase::kForward, node.source, node.module);
      recorder_.MarkSequence(at::sequence_number::peek(), node);
      try {
        op.callBoxed(&stack);
      } catch (const std::exception& e) {
        return FromException(e, ir::Where(forward_, node));
      }
      const std::vector<at::Tensor> results = FlattenResults(stack);
      if (results.size() != node.results.size()) {
        return Error{Code::kBadInput, fmt::format("{} gave {} results, not {}", node.op, results.size(), node.results.size()),
                     ir::Where(forward_, node), ""};
      }
      for (size_t i = 0; i < results.size(); ++i) RETURN_IF_ERROR(Accept(node, node.results[i], results[i]));
    }
    return Ok();
  }

  // Checks a result against what the graph says of it, and hands placement and dtype on.
  Status Accept(const Node& node, ValueId v, const at::Tensor& t) {
    const ir::Value& value = forward_.value(v);
    const bool differs = t.defined() && (t.sizes().vec() != value.int_sizes() || t.scalar_type() != ToScalarType(value.dtype));
    if (differs && used_.contains(v)) {
      return Error{Code::kBadInput,
                   fmt::format("{} gives {} [{}], the graph says {} [{}]", node.op, c10::toString(t.scalar_type()),
                               fmt::join(t.sizes(), ", "), ir::Name(value.dtype), fmt::join(value.int_sizes(), ", ")),
                   ir::Where(forward_, node), "bind sizes within what the export holds"};
    }
    env_[v] = t;
    const ValueId recorded = t.defined() ? recorder_.Find(t) : ir::kNoValue;
    if (recorded != ir::kNoValue && joint_.value(recorded).placement.is_none() &&
        joint_.value(recorded).dp_placement.is_none()) {
      joint_.value(recorded).placement = value.placement;
      joint_.value(recorded).dp_placement = value.dp_placement;
    }
    return Ok();
  }

  Status Outputs() {
    for (const ir::GraphOutput& out : forward_.outputs) {
      const ValueId v = recorder_.Find(env_.at(out.value));
      if (v == ir::kNoValue) return Error{Code::kBadInput, fmt::format("output '{}' is not computed", out.name), "", ""};
      joint_.outputs.push_back({v, out.kind, out.name});
      if (out.kind == ir::OutputKind::kLoss) loss_ = env_.at(out.value);
    }
    return Ok();
  }

  Status Backward() {
    if (!loss_.defined() || loss_.numel() != 1 || !loss_.is_floating_point()) {
      return Error{Code::kBadInput, "the graph has no scalar floating-point loss", "", "name it with --loss"};
    }
    std::vector<at::Tensor> leaves;
    std::vector<std::string> names;
    for (const ir::GraphInput& in : forward_.inputs) {
      if (!env_.at(in.value).requires_grad()) continue;
      leaves.push_back(env_.at(in.value));
      names.push_back(in.name);
    }
    if (leaves.empty()) return Ok();
    if (!loss_.requires_grad()) {
      return Error{Code::kUnsupported, "the loss depends on no parameter that requires a gradient", "", ""};
    }
    const Guard guard(&recorder_);
    recorder_.SetContext(Phase::kBackward, "", "");
    try {
      const auto gradients = torch::autograd::grad({loss_}, leaves, {}, /*retain_graph=*/true, /*create_graph=*/false,
                                                   /*allow_unused=*/true);
      for (size_t i = 0; i < gradients.size(); ++i) {
        if (!gradients[i].defined()) continue;
        const ValueId v = recorder_.Find(gradients[i]);
        if (v == ir::kNoValue) return Error{Code::kUnsupported, fmt::format("the gradient of '{}' is not recorded", names[i]), "", ""};
        joint_.outputs.push_back({v, ir::OutputKind::kGradient, names[i]});
      }
    } catch (const std::exception& e) {
      return FromException(e, "backward pass");
    }
    return Ok();
  }

  // Recording on, for a scope.
  struct Guard {
    explicit Guard(Recorder* r) : include(c10::DispatchKey::Fake), grad(true) { recorder = r; }
    ~Guard() { recorder = nullptr; }
    c10::impl::IncludeDispatchKeyGuard include;
    at::AutoGradMode grad;
  };

  const Graph& forward_;
  Graph joint_;
  Recorder recorder_;
  std::map<ValueId, at::Tensor> env_;
  at::Tensor loss_;
  const std::set<ValueId> used_;  // by nodes and outputs of `forward`; others may be of another backend's making
};

}  // namespace

Result<Graph> Trace(const Graph& forward, bool differentiate) {
  RegisterOps();
  return Tracer(forward).Run(differentiate);
}

}  // namespace autospc::autodiff
