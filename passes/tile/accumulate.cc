#include "passes/tile/accumulate.h"

#include <optional>
#include <string>
#include <vector>

#include "passes/tile/sums.h"

namespace autospc::tile {
namespace {

using ir::Arg;
using ir::Graph;
using ir::kNoValue;
using ir::Node;
using ir::NodeId;
using ir::Value;
using ir::ValueId;

class Accumulator {
 public:
  explicit Accumulator(Graph& graph) : graph_(graph) { Count(); }

  int Run() {
    int taken = 0;
    for (const NodeId id : std::vector<NodeId>(graph_.nodes().begin(), graph_.nodes().end())) {
      Node& node = graph_.node(id);
      if (!IsSum(node)) continue;
      // The later of two products is taken in: the earlier one began the sum.
      const std::optional<int> first = ProductAt(node, 0), second = ProductAt(node, 1);
      if (!first && !second) continue;
      const size_t product = !first ? 1 : !second ? 0 : *second > *first ? 1 : 0;
      const Value &sum = graph_.value(node.args[1 - product].value), &result = graph_.value(node.results[0]);
      if (!SameGeometry(sum, result)) continue;
      const Node& mm = *graph_.producer(Root(graph_, node.args[product].value));
      node.args = {Arg::Value(Whole(graph_, sum.id)), mm.args[0], mm.args[1], Arg::Int(1), Arg::Int(1)};
      node.op = mm.op == "aten.mm.default" ? "aten.addmm.default" : "aten.baddbmm.default";
      ++taken;
    }
    if (taken > 0) graph_.EliminateDeadCode();
    return taken;
  }

 private:
  void Count() {
    uses_ = CountUses(graph_);
    position_.assign(graph_.num_node_ids(), 0);
    int position = 0;
    for (const NodeId id : graph_.nodes()) position_[id] = position++;
  }

  // The place of the matrix product that is operand `i` of a sum, if it is used for nothing else.
  std::optional<int> ProductAt(const Node& sum, size_t i) const {
    const ValueId v = sum.args[i].value, whole = Whole(graph_, v);
    const Node* mm = graph_.producer(whole);
    if (!mm || (mm->op != "aten.mm.default" && mm->op != "aten.bmm.default") || uses_[whole] != 1) return std::nullopt;
    if (!SameGeometry(graph_.value(whole), graph_.value(sum.results[0]))) return std::nullopt;
    return position_[mm->id];
  }

  Graph& graph_;
  std::vector<int> uses_;      // by value that owns its storage
  std::vector<int> position_;  // by node
};

}  // namespace

int AccumulateProducts(Graph& graph) { return Accumulator(graph).Run(); }

}  // namespace autospc::tile
