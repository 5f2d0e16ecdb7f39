#include "passes/recompute/materialise.h"

#include <map>
#include <utility>
#include <vector>

#include "passes/memory/storage.h"

namespace autospc::recompute {
namespace {

using ir::Arg;
using ir::kNoNode;
using ir::kNoValue;
using ir::Node;
using ir::NodeId;
using ir::ValueId;

class Materialiser {
 public:
  Materialiser(const ir::Graph& graph, const Problem& problem, const Schedule& schedule)
      : problem_(problem), schedule_(schedule), first_(graph), graph_(graph), store_of_(graph.num_values(), -1), placed_(graph.num_node_ids(), false) {
    for (size_t s = 0; s < problem.stores.size(); ++s) store_of_[problem.stores[s].value] = static_cast<int>(s);
  }

  // Every node goes to the end in turn; a view goes there before its first reader, since it costs nothing anywhere.
  ir::Graph Run() {
    for (const Step& step : schedule_.steps) {
      const NodeId id = problem_.items[step.item].node;
      std::map<ValueId, ValueId> renamed;
      for (ValueId v : first_.node(id).Operands()) {
        if (!renamed.contains(v)) renamed[v] = Had(v, step);
      }
      if (step.again) {
        Repeat(id, step, renamed);
        continue;
      }
      Rename(graph_.node(id), renamed);
      for (ValueId r : graph_.node(id).results) {
        ir::Value& value = graph_.value(r);
        if (value.base == kNoValue) continue;
        const int copy = CopyRead(value.base, step);
        if (copy >= Originals()) value.base = roots_.at(copy);
      }
      Place(id);
    }
    for (const ir::GraphOutput& out : graph_.outputs) {
      if (out.value != kNoValue) PlaceViews(out.value);
    }
    graph_.EliminateDeadCode();  // views that only the first run's readers had
    return std::move(graph_);
  }

 private:
  int Originals() const { return static_cast<int>(problem_.stores.size()); }

  // The copy of root value `root` that the step reads; -1: it is not in the arena.
  int CopyRead(ValueId root, const Step& step) const {
    const int store = root < static_cast<ValueId>(store_of_.size()) ? store_of_[root] : -1;
    if (store < 0) return -1;
    const std::vector<int>& reads = problem_.items[step.item].reads;
    for (size_t i = 0; i < reads.size(); ++i) {
      if (reads[i] == store) return schedule_.reads[step.reads + i];
    }
    return -1;
  }

  // The value that stands for `v` in the step's run, its views made and placed.
  ValueId Had(ValueId v, const Step& step) {
    const int copy = CopyRead(memory::Root(graph_, v), step);
    if (copy >= Originals()) return ViewOf(v, copy);
    PlaceViews(v);
    return v;
  }

  // `v` itself where it is a root or made by an instruction; else its view node and those before it are placed.
  void PlaceViews(ValueId v) {
    const NodeId producer = graph_.value(v).producer;
    if (producer == kNoNode || placed_[producer] || memory::IsInstruction(graph_, graph_.node(producer))) return;
    for (ValueId operand : graph_.node(producer).Operands()) PlaceViews(operand);
    Place(producer);
  }

  void Place(NodeId id) {
    graph_.MoveBefore(id, kNoNode);
    placed_[id] = true;
  }

  // `v`, a view of the storage of which `copy` is a repetition, over that repetition.
  ValueId ViewOf(ValueId v, int copy) {
    const ValueId root = memory::Root(graph_, v);
    if (v == root) return roots_.at(copy);
    if (const auto it = views_.find({copy, v}); it != views_.end()) return it->second;
    const NodeId producer = graph_.value(v).producer;
    std::map<ValueId, ValueId> renamed;
    for (ValueId operand : graph_.node(producer).Operands()) {
      const bool same = memory::Root(graph_, operand) == root;
      if (!same) PlaceViews(operand);
      renamed[operand] = same ? ViewOf(operand, copy) : operand;
    }
    Clone(producer, renamed, [&](ValueId) { return roots_.at(copy); });
    const Node& node = graph_.node(producer);
    const Node& clone = graph_.node(last_clone_);
    for (size_t i = 0; i < node.results.size(); ++i) views_[{copy, node.results[i]}] = clone.results[i];
    return views_.at({copy, v});
  }

  void Repeat(NodeId id, const Step& step, const std::map<ValueId, ValueId>& renamed) {
    Clone(id, renamed, [&](ValueId base) {
      const int copy = CopyRead(base, step);
      return copy >= Originals() ? roots_.at(copy) : base;
    });
    const Node& node = graph_.node(id);
    const Node& clone = graph_.node(last_clone_);
    int made = 0;
    for (size_t i = 0; i < node.results.size(); ++i) {
      const ValueId base = graph_.value(node.results[i]).base;
      if (base == kNoValue) {
        roots_[step.makes + made++] = clone.results[i];
      } else if (const int copy = CopyRead(base, step); copy >= Originals()) {
        views_[{copy, node.results[i]}] = clone.results[i];
      }
    }
  }

  template <typename NewBase>
  void Clone(NodeId id, const std::map<ValueId, ValueId>& renamed, NewBase new_base) {
    std::vector<ValueId> results;
    for (ValueId r : graph_.node(id).results) {
      const ir::Value value = graph_.value(r);  // a copy: the next line makes the vector of values grow
      const ValueId now = graph_.AddValue(value.name, value.dtype, value.sizes, value.strides);
      ir::Value& made = graph_.value(now);
      made.placement = value.placement;
      made.dp_placement = value.dp_placement;
      made.byte_offset = value.byte_offset;
      if (value.base != kNoValue) made.base = new_base(value.base);
      results.push_back(now);
    }
    std::vector<Arg> args = first_.node(id).args;
    last_clone_ = graph_.AddNode(graph_.node(id).op, std::move(args), std::move(results));
    Node& clone = graph_.node(last_clone_);
    Rename(clone, renamed);
    const Node& first = graph_.node(id);
    clone.source = first.source;
    clone.module = first.module;
    clone.phase = first.phase;
  }

  static void Rename(Node& node, const std::map<ValueId, ValueId>& renamed) {
    for (Arg& a : node.args) {
      if (a.kind == Arg::Kind::kValue) a.value = renamed.at(a.value);
      if (a.kind != Arg::Kind::kValueList) continue;
      for (ValueId& v : a.values) {
        if (v != kNoValue) v = renamed.at(v);
      }
    }
  }

  const Problem& problem_;
  const Schedule& schedule_;
  const ir::Graph& first_;  // as it came: a first run that reads a repetition has other operands by now
  ir::Graph graph_;
  std::vector<int> store_of_;  // by value id of `graph`: the storage that it is the root of, -1
  std::vector<bool> placed_;   // by node id of `graph`
  std::map<int, ValueId> roots_;                        // by repeated copy
  std::map<std::pair<int, ValueId>, ValueId> views_;    // by repeated copy and the first run's view
  NodeId last_clone_ = kNoNode;
};

}  // namespace

ir::Graph Materialise(const ir::Graph& graph, const Problem& problem, const Schedule& schedule) {
  return Materialiser(graph, problem, schedule).Run();
}

}  // namespace autospc::recompute
