#include "passes/tile/hoist.h"

#include <map>
#include <optional>
#include <vector>

#include "passes/tile/clone.h"
#include "passes/tile/rows.h"

namespace autospc::tile {
namespace {

using ir::Arg;
using ir::Graph;
using ir::Node;
using ir::NodeId;
using ir::ValueId;

// The rows of its result. nullopt: the node is no selection, or not along its operand's rows.
std::optional<RowCount> SelectionOf(const Graph& graph, const RowAnalysis& rows, const Node& node) {
  const bool pad = node.op == "autosp.pad_last";
  if (!pad && node.op != "aten.slice.Tensor") return std::nullopt;
  const ValueId x = node.args[0].value;
  const auto& from = rows.rows(x);
  if (!from || from->outer != 1 || from->inner != 1) return std::nullopt;
  if (ir::WrapDim(node.args[1].int_value(), graph.value(x).rank()) != from->dim) return std::nullopt;
  if (pad) return RowCount{from->block, node.args[2].int_value()};
  if (graph.value(x).placement.is_sharded() || node.args[4].int_value() != 1) return std::nullopt;
  return RowCount{graph.value(node.results[0]).int_sizes()[from->dim], 0};
}

bool Plain(const std::optional<Rows>& rows) { return !rows || (rows->outer == 1 && rows->inner == 1); }

class Hoister {
 public:
  explicit Hoister(Graph& graph) : graph_(graph) {}

  int Run() {
    int steps = 0;
    while (Step()) ++steps;
    return steps;
  }

 private:
  // One selection past one op; few graphs have any.
  bool Step() {
    const RowAnalysis rows(graph_);
    const auto users = graph_.AllUsers();
    for (const NodeId id : graph_.nodes()) {
      const auto count = SelectionOf(graph_, rows, graph_.node(id));
      if (!count) continue;
      const NodeId maker = graph_.value(graph_.node(id).args[0].value).producer;
      if (maker == ir::kNoNode || !MayPass(rows, users, maker)) continue;
      Pass(rows, id, maker, *count);
      return true;
    }
    return false;
  }

  bool MayPass(const RowAnalysis& rows, const std::map<ValueId, std::vector<NodeId>>& users, NodeId id) const {
    const RowOp* op = rows.op(id);
    const Node& node = graph_.node(id);
    if (!op || node.results.size() != 1 || !Plain(op->results[0]) || !op->results[0]) return false;
    if (users.at(node.results[0]).size() != 1) return false;
    for (const ir::GraphOutput& out : graph_.outputs) {
      if (out.value == node.results[0]) return false;
    }
    int64_t bytes = 0;
    const std::vector<ValueId> operands = node.Operands();
    for (size_t i = 0; i < operands.size(); ++i) {
      if (!op->operands[i]) continue;
      if (!Plain(op->operands[i]) || !rows.SameRows(node, i)) return false;
      bytes += graph_.value(operands[i]).bytes();
    }
    const int64_t own = graph_.value(node.results[0]).bytes();
    return bytes < own || (bytes == own && IsView(node));
  }

  // select(op(x)) becomes op(select(x)).
  void Pass(const RowAnalysis& rows, NodeId id, NodeId maker, const RowCount& count) {
    const RowOp& op = *rows.op(maker);
    std::vector<ValueId> operands = graph_.node(maker).Operands();
    std::map<ValueId, ValueId> selected;
    for (size_t i = 0; i < operands.size(); ++i) {
      if (!op.operands[i]) continue;
      ValueId& done = selected.try_emplace(operands[i], ir::kNoValue).first->second;
      if (done == ir::kNoValue) done = Select(id, operands[i], *op.operands[i], count);
      operands[i] = done;
    }
    const std::vector<ValueId> results = CloneWith(graph_, maker, op, operands, count, id);
    graph_.ReplaceUses(graph_.node(id).results[0], results[0]);
    graph_.EraseNode(id);
    graph_.EraseNode(maker);
  }

  ValueId Select(NodeId id, ValueId x, const Rows& rows, const RowCount& count) {
    const Node& node = graph_.node(id);
    std::vector<Arg> args = node.args;
    args[0] = Arg::Value(x);
    args[1] = Arg::Int(rows.dim);
    const std::vector<int64_t> sizes = SizesWith(graph_, x, rows, count);
    const ir::Placement p = PlacementWith(graph_, x, rows, count);
    const ValueId v =
        graph_.Emit(node.op, std::move(args), graph_.value(x).dtype, {sizes.begin(), sizes.end()}, id, &node);
    graph_.value(v).placement = p;
    return v;
  }

  Graph& graph_;
};

}  // namespace

int HoistRowSelections(Graph& graph) { return Hoister(graph).Run(); }

}  // namespace autospc::tile
