#include "passes/tile/tile.h"

#include <algorithm>
#include <map>
#include <set>

#include "passes/tile/clone.h"

namespace autospc::tile {
namespace {

using ir::Arg;
using ir::Graph;
using ir::Node;
using ir::NodeId;
using ir::Placement;
using ir::ValueId;

std::vector<ir::Expr> Exprs(const std::vector<int64_t>& v) { return {v.begin(), v.end()}; }

// Makes one region anew beside the old one. Values inside get a clone for each tile; values that others use are put
// together again and noted in `made`: the old ones are replaced and erased once all regions are done.
class RegionTiler {
 public:
  // `users`: of the graph before any region was tiled.
  RegionTiler(Graph& graph, const RowAnalysis& rows, const std::vector<std::vector<NodeId>>& users,
              const TiledRegion& tiled, int ranks, std::map<ValueId, ValueId>* made)
      : graph_(graph),
        rows_(rows),
        users_(users),
        made_(*made),
        nodes_(tiled.region.nodes),
        in_(nodes_.begin(), nodes_.end()) {
    for (int64_t first = 0; first < tiled.region.block; first += tiled.rows) {
      const int64_t length = std::min(tiled.rows, tiled.region.block - first);
      counts_.push_back({length, length * ranks});
    }
  }

  void Run() {
    std::vector<NodeId> dependents = Gather();
    SplitInputs();
    for (size_t t = 0; t < counts_.size(); ++t) {
      for (const NodeId id : nodes_) Clone(id, t);
    }
    PutTogether();
    for (const NodeId id : dependents) graph_.MoveBefore(id, before_);
  }

 private:
  // The region is made anew behind its last node; what lies between its nodes and needs it must follow.
  std::vector<NodeId> Gather() {
    std::vector<NodeId> order(graph_.nodes().begin(), graph_.nodes().end());
    const auto in = [&](NodeId id) { return in_.contains(id); };
    const auto first = std::find_if(order.begin(), order.end(), in);
    const auto last = std::find_if(order.rbegin(), order.rend(), in).base();
    before_ = last == order.end() ? ir::kNoNode : *last;
    std::set<ValueId> depends;
    std::vector<NodeId> dependents;
    for (auto it = first; it != last; ++it) {
      const Node& node = graph_.node(*it);
      const std::vector<ValueId> operands = node.Operands();
      const bool uses = std::any_of(operands.begin(), operands.end(), [&](ValueId v) { return depends.contains(v); });
      if (!in_.contains(*it) && !uses) continue;
      depends.insert(node.results.begin(), node.results.end());
      if (!in_.contains(*it)) dependents.push_back(*it);
    }
    return dependents;
  }

  ValueId Emit(std::string op, std::vector<Arg> args, ir::DType dtype, const std::vector<int64_t>& sizes,
               const Placement& p, const Node* like) {
    const ValueId v = graph_.Emit(std::move(op), std::move(args), dtype, Exprs(sizes), before_, like);
    graph_.value(v).placement = p;
    return v;
  }

  ValueId Reshape(ValueId x, const std::vector<int64_t>& sizes, const Placement& p, const Node* like) {
    return Emit("aten.reshape.default", {Arg::Value(x), Arg::Ints(sizes)}, graph_.value(x).dtype, sizes, p, like);
  }

  // The sizes of `whole` with `length` rows, its rows' dim taken apart into [outer, rows * inner].
  std::vector<int64_t> Unflattened(ValueId whole, const Rows& rows, int64_t length) const {
    std::vector<int64_t> sizes = graph_.value(whole).int_sizes();
    sizes[rows.dim] = length * rows.inner;
    sizes.insert(sizes.begin() + rows.dim, rows.outer);
    return sizes;
  }
  Placement UnflattenedPlacement(const Placement& p) const {
    return p.is_sharded() ? Placement::Sharded(p.dim + 1, p.valid, p.block, 1, p.inner) : p;
  }

  void SplitInputs() {
    for (const NodeId id : nodes_) {
      const RowOp& op = *rows_.op(id);
      const std::vector<ValueId> operands = graph_.node(id).Operands();
      for (size_t i = 0; i < operands.size(); ++i) {
        const NodeId from = graph_.value(operands[i]).producer;
        if (!op.operands[i] || (from != ir::kNoNode && in_.contains(from))) continue;
        Split(operands[i], *op.operands[i], graph_.node(id));
      }
    }
  }

  void Split(ValueId x, const Rows& rows, const Node& like) {
    std::vector<ValueId>& tiles = splits_[{x, rows.dim}];
    if (!tiles.empty()) return;
    const std::string source = like.source, module = like.module;
    const Node named = {ir::kNoNode, "", {}, {}, source, module, ir::Phase::kForward};
    const bool flat = rows.outer != 1;
    ValueId from = x;
    int dim = rows.dim;
    if (flat) {
      from = Reshape(x, Unflattened(x, rows, rows.block), UnflattenedPlacement(graph_.value(x).placement), &named);
      ++dim;
    }
    std::vector<int64_t> lengths;
    std::vector<ValueId> parts;
    for (const RowCount& count : counts_) {
      lengths.push_back(count.length * rows.inner);
      const Placement p = PlacementWith(graph_, x, rows, count);
      const std::vector<int64_t> sizes = flat ? Unflattened(x, rows, count.length) : SizesWith(graph_, x, rows, count);
      const std::string name = graph_.value(x).name + "_tile";
      parts.push_back(graph_.AddValue(name, graph_.value(x).dtype, Exprs(sizes)));
      graph_.value(parts.back()).placement = flat ? UnflattenedPlacement(p) : p;
    }
    Node& split = graph_.node(graph_.AddNode("aten.split_with_sizes.default",
                                             {Arg::Value(from), Arg::Ints(lengths), Arg::Int(dim)}, parts, before_));
    split.source = source;
    split.module = module;
    for (size_t t = 0; t < parts.size(); ++t) {
      const RowCount& count = counts_[t];
      tiles.push_back(
          flat ? Reshape(parts[t], SizesWith(graph_, x, rows, count), PlacementWith(graph_, x, rows, count), &named)
               : parts[t]);
    }
  }

  void Clone(NodeId id, size_t tile) {
    const RowOp& op = *rows_.op(id);
    std::vector<ValueId> operands = graph_.node(id).Operands();
    for (size_t i = 0; i < operands.size(); ++i) {
      if (!op.operands[i]) continue;
      const auto inner = clones_.find(operands[i]);
      operands[i] = inner != clones_.end() ? inner->second[tile] : splits_.at({operands[i], op.operands[i]->dim})[tile];
    }
    const std::vector<ValueId> results = CloneWith(graph_, id, op, operands, counts_[tile], before_);
    const Node& node = graph_.node(id);
    for (size_t i = 0; i < results.size(); ++i) clones_[node.results[i]].push_back(results[i]);
    if (!op.results[0] && IsLoss(node) && IsMean(node)) {
      labels_[node.results[0]].push_back(CountLabels(operands[1], node.args[4], node));
    }
  }

  // How many of a tile's labels count.
  ValueId CountLabels(ValueId labels, const Arg& ignored, const Node& like) {
    const Placement sum = graph_.value(like.results[0]).placement, rows = graph_.value(labels).placement;
    const std::vector<int64_t> sizes = graph_.value(labels).int_sizes();
    const ValueId valid = Emit("aten.ne.Scalar", {Arg::Value(labels), ignored}, ir::DType::kBool, sizes, rows, &like);
    return Emit("aten.sum.default", {Arg::Value(valid), Arg::None()}, ir::DType::kInt64, {}, sum, &like);
  }

  void PutTogether() {
    for (const NodeId id : nodes_) {
      const Node node = graph_.node(id);
      const RowOp& op = *rows_.op(id);
      for (size_t i = 0; i < node.results.size(); ++i) {
        const ValueId r = node.results[i];
        if (!UsedOutside(r)) continue;
        made_[r] = op.results[i] ? Concatenate(r, *op.results[i], node) : AddUp(r, node);
      }
    }
  }

  bool UsedOutside(ValueId v) const {
    const std::vector<NodeId>& users = users_[v];
    return std::any_of(users.begin(), users.end(), [&](NodeId u) { return !in_.contains(u); }) ||
           std::any_of(graph_.outputs.begin(), graph_.outputs.end(), [&](const auto& out) { return out.value == v; });
  }

  ValueId Concatenate(ValueId whole, const Rows& rows, const Node& like) {
    std::vector<ValueId> tiles = clones_.at(whole);
    const Placement placement = graph_.value(whole).placement;
    const std::vector<int64_t> sizes = graph_.value(whole).int_sizes();
    const ir::DType dtype = graph_.value(whole).dtype;
    if (rows.outer == 1)
      return Emit("aten.cat.default", {Arg::Values(tiles), Arg::Int(rows.dim)}, dtype, sizes, placement, &like);
    for (size_t t = 0; t < tiles.size(); ++t) {
      tiles[t] = Reshape(tiles[t], Unflattened(whole, rows, counts_[t].length),
                         UnflattenedPlacement(PlacementWith(graph_, whole, rows, counts_[t])), &like);
    }
    const ValueId cat = Emit("aten.cat.default", {Arg::Values(tiles), Arg::Int(rows.dim + 1)}, dtype,
                             Unflattened(whole, rows, rows.block), UnflattenedPlacement(placement), &like);
    return Reshape(cat, sizes, placement, &like);
  }

  ValueId Sum(const std::vector<ValueId>& tiles, const Node& like) {
    const ir::DType dtype = graph_.value(tiles[0]).dtype;
    const std::vector<int64_t> sizes = graph_.value(tiles[0]).int_sizes();
    const Placement placement = graph_.value(tiles[0]).placement;
    ValueId sum = tiles[0];
    for (size_t t = 1; t < tiles.size(); ++t) {
      sum =
          Emit("aten.add.Tensor", {Arg::Value(sum), Arg::Value(tiles[t]), Arg::Int(1)}, dtype, sizes, placement, &like);
    }
    return sum;
  }

  ValueId AddUp(ValueId whole, const Node& like) {
    const ValueId sum = Sum(clones_.at(whole), like);
    if (!IsMean(like)) return sum;
    const ir::DType dtype = graph_.value(whole).dtype;
    const std::vector<int64_t> sizes = graph_.value(whole).int_sizes();
    const Placement placement = graph_.value(whole).placement;
    if (IsLoss(like)) {
      const ValueId count = Sum(labels_.at(whole), like);
      return Emit("aten.div.Tensor", {Arg::Value(sum), Arg::Value(count)}, dtype, sizes, placement, &like);
    }
    const int64_t numel = graph_.value(like.args[0].value).numel(),
                  kept = std::max<int64_t>(graph_.value(whole).numel(), 1);
    const double count = static_cast<double>(numel) / static_cast<double>(kept);
    return Emit("aten.div.Scalar", {Arg::Value(sum), Arg::Float(count)}, dtype, sizes, placement, &like);
  }

  Graph& graph_;
  const RowAnalysis& rows_;
  const std::vector<std::vector<NodeId>>& users_;
  std::map<ValueId, ValueId>& made_;
  const std::vector<NodeId> nodes_;
  const std::set<NodeId> in_;
  // By tile. Of a sharded value a tile has that many rows of each rank, all of them called valid: nothing in a region
  // asks which are padding.
  std::vector<RowCount> counts_;
  NodeId before_ = ir::kNoNode;                                     // where the new nodes go
  std::map<std::pair<ValueId, int>, std::vector<ValueId>> splits_;  // of a value on a dim, by tile
  std::map<ValueId, std::vector<ValueId>> clones_;                  // of an inner value, by tile
  std::map<ValueId, std::vector<ValueId>> labels_;                  // of a mean loss: how many labels count, by tile
};

void Replace(Graph& graph, const std::map<ValueId, ValueId>& made) {
  const auto replace = [&](ValueId* v) {
    const auto it = made.find(*v);
    if (it != made.end()) *v = it->second;
  };
  for (const NodeId id : graph.nodes()) {
    for (Arg& a : graph.node(id).args) {
      if (a.kind == Arg::Kind::kValue) replace(&a.value);
      for (ValueId& v : a.values) replace(&v);
    }
  }
  for (ir::GraphOutput& out : graph.outputs) replace(&out.value);
}

}  // namespace

Result<bool> Tile(Graph& graph, PassContext& ctx, const TileChoice& choice) {
  const RowAnalysis rows(graph);
  std::vector<std::vector<NodeId>> users(graph.num_values());
  for (const NodeId id : graph.nodes()) {
    for (const ValueId v : graph.node(id).Operands()) users[v].push_back(id);
  }
  std::map<ValueId, ValueId> made;
  std::vector<NodeId> old;
  for (const TiledRegion& tiled : choice) {
    if (tiled.rows < 1 || tiled.rows >= tiled.region.block) continue;
    RegionTiler(graph, rows, users, tiled, ctx.ranks, &made).Run();
    old.insert(old.end(), tiled.region.nodes.begin(), tiled.region.nodes.end());
  }
  Replace(graph, made);
  const std::set<NodeId> erased(old.begin(), old.end());
  const std::vector<NodeId> order(graph.nodes().begin(), graph.nodes().end());
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    if (erased.contains(*it)) graph.EraseNode(*it);
  }
  return !old.empty();
}

}  // namespace autospc::tile
