// simplify: what changes no value goes; one spelling for what stays.
#include <algorithm>

#include "passes/canonical/match.h"
#include "passes/canonical/register.h"

namespace autospc::canonical {
namespace {

bool KeepsLayout(const Arg* memory_format) {
  return !memory_format || memory_format->kind != Arg::Kind::kMemoryFormat || memory_format->s == "preserve";
}

// Whether any argument asks for a layout of its own.
bool AsksForLayout(const Node& node) {
  return std::any_of(node.args.begin(), node.args.end(), [](const Arg& a) { return !KeepsLayout(&a); });
}

bool SameType(const Value& a, const Value& b) { return a.dtype == b.dtype && a.sizes == b.sizes; }

// Ops whose result is their operand where dtype and sizes are the same.
bool IsReshaping(std::string_view base) {
  static constexpr std::string_view kOps[] = {
      "aten.expand",       "aten.expand_as", "aten.broadcast_to", "aten.view",      "aten.reshape",
      "aten._unsafe_view", "aten.flatten",   "aten.unflatten",    "aten.squeeze",   "aten.view_as",
      "aten.reshape_as",   "aten.ravel",     "aten.atleast_1d",   "aten.atleast_2d"};
  return std::find(std::begin(kOps), std::end(kOps), base) != std::end(kOps);
}

bool IsCast(std::string_view base) { return base == "aten.to" || base == "aten.type_as" || base == "aten._to_copy"; }

bool IsIdentityPermutation(const Node& node, int rank) {
  if (Is(node, "aten.transpose")) return WrapDim(IntAt(node, 1, 0), rank) == WrapDim(IntAt(node, 2, 0), rank);
  if (!Is(node, "aten.permute")) return false;
  const std::vector<int64_t> dims = IntsAt(node, 1);
  for (size_t d = 0; d < dims.size(); ++d) {
    if (WrapDim(dims[d], rank) != static_cast<int>(d)) return false;
  }
  return true;
}

// The operand that `node`'s one result equals, or kNoValue.
ValueId EqualOperand(const Graph& graph, const Node& node, const std::vector<bool>& differentiable) {
  const ValueId x = ValueAt(node, 0);
  if (x == kNoValue || node.results.size() != 1) return kNoValue;
  const Value& in = graph.value(x);
  const Value& out = graph.value(node.results[0]);
  if (!SameType(in, out) || node.op == "aten.view.dtype") return kNoValue;
  const std::string_view base = BaseName(node.op);
  if (base == "aten.alias" || base == "aten.lift_fresh_copy" || base == "aten.lift_fresh" || base == "aten.positive" ||
      base == "aten._assert_async" || IsReshaping(base)) {
    return x;
  }
  if ((IsCast(base) || base == "aten.clone") && !AsksForLayout(node)) return x;
  if (base == "aten.contiguous" || base == "aten.clone" || IsCast(base)) return IsContiguous(in) ? x : kNoValue;
  if (base == "aten.slice") return IntAt(node, 4, 1) == 1 ? x : kNoValue;  // the same size: the full range
  if (base == "aten.repeat") return x;
  if (IsIdentityPermutation(node, in.rank())) return x;
  if (base == "aten.dropout" || base == "aten.feature_dropout" || base == "aten.alpha_dropout") {
    return NumberAt(node, 1) == 0.0 || !BoolAt(node, 2, true) ? x : kNoValue;
  }
  if (base == "aten.detach" || node.op == "autosp.stop_gradient") return differentiable[x] ? kNoValue : x;
  if ((base == "aten.add" || base == "aten.sub") && !IsFloating(in.dtype)) {
    return NumberAt(node, 1) == 0.0 ? x : kNoValue;
  }
  // Exact for every floating value, NaN and signed zeros included.
  if (base == "aten.mul" || base == "aten.div") return NumberAt(node, 1) == 1.0 && node.args.size() == 2 ? x : kNoValue;
  return kNoValue;
}

// One spelling, and chains of two where one does.
bool Respell(Graph& graph, Node& node) {
  if (node.results.size() != 1) return false;
  const Value& out = graph.value(node.results[0]);
  const std::string_view base = BaseName(node.op);  // of the old op: node.op is assigned last
  bool changed = false;
  if (base == "aten._unsafe_view" || base == "aten.view_as" || base == "aten.reshape_as" || base == "aten.flatten" ||
      base == "aten.unflatten" || base == "aten.ravel" || node.op == "aten.view.default") {
    // Rewritten producers may change a layout that a view would rely on; a reshape relies on none.
    node.args = {Arg::Value(ValueAt(node, 0)), Arg::Ints(out.sizes)};
    node.op = "aten.reshape.default";
    changed = true;
  } else if (base == "aten.expand_as" || base == "aten.broadcast_to") {
    node.args = {Arg::Value(ValueAt(node, 0)), Arg::Ints(out.sizes), Arg::Bool(false)};
    node.op = "aten.expand.default";
    changed = true;
  }
  if (!Is(node, "aten.reshape")) return changed;
  const Node* inner = ProducerIs(graph, ValueAt(node, 0), "aten.reshape");
  if (!inner) return changed;
  node.args = {inner->args[0], Arg::Ints(out.sizes)};
  return true;
}

// transpose(transpose(x)) with the same two dims is x.
ValueId TransposedTwice(const Graph& graph, const Node& node) {
  if (!Is(node, "aten.transpose")) return kNoValue;
  const Node* inner = ProducerIs(graph, ValueAt(node, 0), "aten.transpose");
  if (!inner) return kNoValue;
  const int rank = graph.value(node.results[0]).rank();
  const auto dims = [&](const Node& n) {
    return std::minmax({WrapDim(IntAt(n, 1, 0), rank), WrapDim(IntAt(n, 2, 0), rank)});
  };
  return dims(node) == dims(*inner) ? ValueAt(*inner, 0) : kNoValue;
}

}  // namespace

Result<bool> Simplify(ir::Graph& graph, PassContext&) {
  bool changed = false;
  const std::vector<bool> differentiable = Differentiable(graph);
  Substitution substitution;
  for (NodeId id : graph.nodes()) {
    Node& node = graph.node(id);
    substitution.Apply(node);
    changed |= Respell(graph, node);
    ValueId same = EqualOperand(graph, node, differentiable);
    if (same == kNoValue) same = TransposedTwice(graph, node);
    if (same != kNoValue) substitution.Map(node.results[0], same);
  }
  for (ir::GraphOutput& out : graph.outputs) out.value = substitution.Resolve(out.value);
  changed |= !substitution.empty();
  changed |= graph.EliminateDeadCode() > 0;
  return changed;
}

}  // namespace autospc::canonical
