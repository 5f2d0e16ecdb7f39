#include "passes/tile/clone.h"

#include <set>

#include "passes/partition/rules.h"

namespace autospc::tile {

using ir::Arg;
using ir::Graph;
using ir::Node;
using ir::ValueId;

std::vector<int64_t> SizesWith(const Graph& graph, ValueId v, const Rows& rows, const RowCount& count) {
  std::vector<int64_t> sizes = graph.value(v).int_sizes();
  sizes[rows.dim] = rows.outer * count.length * rows.inner;
  return sizes;
}

ir::Placement PlacementWith(const Graph& graph, ValueId v, const Rows& rows, const RowCount& count) {
  const ir::Placement& p = graph.value(v).placement;
  return p.is_sharded() ? ir::Placement::Sharded(rows.dim, count.valid, count.length, rows.outer, rows.inner) : p;
}

std::vector<ValueId> CloneWith(Graph& graph, ir::NodeId id, const RowOp& op, const std::vector<ValueId>& operands,
                               const RowCount& count, ir::NodeId before) {
  const Node node = graph.node(id);
  std::vector<ValueId> results;
  for (size_t i = 0; i < node.results.size(); ++i) {
    const ValueId r = node.results[i];
    const std::vector<int64_t> sizes =
        op.results[i] ? SizesWith(graph, r, *op.results[i], count) : graph.value(r).int_sizes();
    const ir::Placement p = op.results[i] ? PlacementWith(graph, r, *op.results[i], count) : graph.value(r).placement;
    const std::string name = graph.value(r).name;
    results.push_back(graph.AddValue(name, graph.value(r).dtype, std::vector<ir::Expr>(sizes.begin(), sizes.end())));
    graph.value(results.back()).placement = p;
  }
  std::string name = node.op;
  std::vector<Arg> args = node.args;
  size_t next = 0;
  for (Arg& a : args) {
    if (a.kind == Arg::Kind::kValue) a.value = operands[next++];
    if (a.kind != Arg::Kind::kValueList) continue;
    for (ValueId& v : a.values) {
      if (v != ir::kNoValue) v = operands[next++];
    }
  }
  const std::string_view op_name = ir::ShortName(node.op);
  if (partition::IsReshape(node)) {
    name = "aten.reshape.default";
    args = {args[0], Arg::Ints(graph.value(results[0]).int_sizes())};
  } else if (op_name == "expand" || op_name == "broadcast_to") {
    args[1] = Arg::Ints(graph.value(results[0]).int_sizes());
  } else if (!op.results[0] && IsLoss(node)) {
    args[3] = Arg::Int(2);
  } else if (!op.results[0] && IsMean(node)) {
    name = node.op == "aten.mean.default" ? "aten.sum.default" : "aten.sum.dim_IntList";
  }
  Node& copy = graph.node(graph.AddNode(std::move(name), std::move(args), results, before));
  copy.source = node.source;
  copy.module = node.module;
  copy.phase = node.phase;
  return results;
}

bool IsView(const Node& node) {
  static const std::set<std::string_view> names = {
      "transpose", "permute", "t",         "numpy_T",      "swapaxes",         "swapdims",     "slice",
      "narrow",    "select",  "unbind",    "split",        "split_with_sizes", "chunk",        "expand",
      "alias",     "detach",  "expand_as", "tensor_split", "broadcast_to",     "stop_gradient"};
  return partition::IsReshape(node) || names.contains(ir::ShortName(node.op));
}

bool IsLoss(const Node& node) {
  const std::string_view name = ir::ShortName(node.op);
  return name == "cross_entropy_loss" || name == "nll_loss" || name == "nll_loss_nd";
}

bool IsMean(const Node& node) {
  return ir::ShortName(node.op) == "mean" || (IsLoss(node) && node.args[3].int_value() == 1);
}

}  // namespace autospc::tile
