#include "passes/canonical/match.h"

#include <algorithm>

namespace autospc::canonical {

std::string_view BaseName(std::string_view op) {
  const size_t last = op.rfind('.');
  return last == std::string_view::npos || op.find('.') == last ? op : op.substr(0, last);
}

const Node* ProducerIs(const Graph& graph, ValueId v, std::string_view base) {
  if (v == kNoValue) return nullptr;
  const Node* node = graph.producer(v);
  return node && Is(*node, base) ? node : nullptr;
}

const Arg* ArgAt(const Node& node, size_t i) {
  return i < node.args.size() && !node.args[i].is_none() ? &node.args[i] : nullptr;
}

ValueId ValueAt(const Node& node, size_t i) {
  const Arg* arg = ArgAt(node, i);
  return arg && arg->is_value() ? arg->value : kNoValue;
}

std::optional<int64_t> IntAt(const Node& node, size_t i) {
  const Arg* arg = ArgAt(node, i);
  if (!arg) return std::nullopt;
  if (arg->kind == Arg::Kind::kInt && arg->i.is_const()) return arg->i.value();
  if (arg->kind == Arg::Kind::kBool) return arg->b;
  if (arg->kind == Arg::Kind::kIntList && arg->ints.size() == 1 && arg->ints[0].is_const()) return arg->ints[0].value();
  return std::nullopt;
}

int64_t IntAt(const Node& node, size_t i, int64_t fallback) { return IntAt(node, i).value_or(fallback); }

std::optional<double> NumberAt(const Node& node, size_t i) {
  const Arg* arg = ArgAt(node, i);
  if (!arg || !arg->is_number() || (arg->kind == Arg::Kind::kInt && !arg->i.is_const())) return std::nullopt;
  return arg->number();
}

bool BoolAt(const Node& node, size_t i, bool fallback) {
  const Arg* arg = ArgAt(node, i);
  return arg && arg->kind == Arg::Kind::kBool ? arg->b : fallback;
}

std::vector<int64_t> IntsAt(const Node& node, size_t i) {
  const Arg* arg = ArgAt(node, i);
  if (!arg) return {};
  if (arg->kind == Arg::Kind::kInt) return {arg->i.value()};
  return arg->kind == Arg::Kind::kIntList ? arg->int_values() : std::vector<int64_t>();
}

SliceRange ResolveSlice(int64_t size, std::optional<int64_t> start, std::optional<int64_t> end, int64_t step) {
  const auto clamp = [&](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size); };
  const int64_t first = clamp(start.value_or(0)), last = std::max(first, clamp(end.value_or(size)));
  return {first, (last - first + step - 1) / step, step};
}

bool IsContiguous(const Value& v) {
  if (v.strides.size() != v.sizes.size()) return false;
  int64_t expected = 1;
  for (size_t d = v.sizes.size(); d-- > 0;) {
    const int64_t size = v.sizes[d].value();
    if (size != 1 && v.strides[d].value() != expected) return false;
    expected *= size;
  }
  return true;
}

std::string Where(const Node& node) {
  std::string where = node.op;
  if (!node.source.empty())
    where += fmt::format(" ({}{}{})", node.source, node.module.empty() ? "" : ", ", node.module);
  return where;
}

Error Unsupported(const Node& node, std::string what, std::string hint) {
  return {Code::kUnsupported, std::move(what), Where(node), std::move(hint)};
}

ValueId Substitution::Resolve(ValueId v) const {
  const auto it = map_.find(v);
  return it == map_.end() ? v : it->second;
}

void Substitution::Apply(Node& node) const {
  for (Arg& arg : node.args) {
    if (arg.kind == Arg::Kind::kValue) arg.value = Resolve(arg.value);
    if (arg.kind == Arg::Kind::kValueList) {
      for (ValueId& v : arg.values) v = Resolve(v);
    }
  }
}

void Substitution::Apply(Graph& graph) const {
  if (empty()) return;
  for (NodeId id : graph.nodes()) Apply(graph.node(id));
  for (ir::GraphOutput& out : graph.outputs) out.value = Resolve(out.value);
}

std::vector<bool> Differentiable(const Graph& graph) {
  std::vector<bool> reached(graph.num_values(), false);
  for (const ir::GraphInput& in : graph.inputs) {
    reached[in.value] =
        in.kind == ir::InputKind::kParameter && in.requires_grad && IsFloating(graph.value(in.value).dtype);
  }
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    if (Is(node, "aten.detach") || node.op == "autosp.stop_gradient") continue;
    const std::vector<ValueId> operands = node.Operands();
    if (std::none_of(operands.begin(), operands.end(), [&](ValueId v) { return reached[v]; })) continue;
    for (ValueId v : node.results) reached[v] = IsFloating(graph.value(v).dtype);
  }
  return reached;
}

}  // namespace autospc::canonical
