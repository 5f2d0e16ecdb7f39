#include <set>

#include "passes/step/register.h"

namespace autospc::step {

using ir::Arg;
using ir::Node;
using ir::NodeId;
using ir::ValueId;

namespace {

bool IsSum(const Node* node) { return node != nullptr && node->op == "autosp.all_reduce" && node->args[1].s == "sum"; }

}  // namespace

int MergeReductions(ir::Graph& graph) {
  std::set<ValueId> outputs;
  for (const ir::GraphOutput& out : graph.outputs) outputs.insert(out.value);
  const std::map<ValueId, std::vector<NodeId>> users = graph.AllUsers();
  int merged = 0;
  const std::vector<NodeId> nodes(graph.nodes().begin(), graph.nodes().end());
  for (const NodeId id : nodes) {
    Node& node = graph.node(id);
    if (!IsSum(&node)) continue;
    const ValueId between = node.args[0].value;
    const Node* inner = graph.producer(between);
    if (!IsSum(inner) || outputs.contains(between) || users.at(between).size() != 1 || inner->phase != node.phase) continue;
    const Axis a = ir::AxisOf(*inner), b = ir::AxisOf(node);
    if (a == b || a == Axis::kWorld || b == Axis::kWorld) continue;
    const NodeId inner_id = inner->id;
    node.args = {inner->args[0], Arg::String("sum"), Arg::String(std::string(Name(Axis::kWorld)))};
    graph.EraseNode(inner_id);
    ++merged;
  }
  return merged;
}

}  // namespace autospc::step
