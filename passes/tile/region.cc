#include "passes/tile/region.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "passes/tile/clone.h"
#include "passes/tile/cut.h"

namespace autospc::tile {
namespace {

using ir::Graph;
using ir::Node;
using ir::NodeId;
using ir::ValueId;
using Nodes = std::vector<NodeId>;

// A region is worth a place in the list if one value is wider than its ends, or all that is kept is so much wider.
constexpr int64_t kChain = 3;
constexpr int kSeeds = 4;  // widest values that are tried in one piece of the graph

// Ops whose backward pass needs none of their operands' values.
bool KeepsNoOperand(const Node& node) {
  static const std::set<std::string_view> names = {"add", "sub",  "neg",        "to",    "_to_copy", "cat",
                                                   "sum", "mean", "contiguous", "clone", "stack",    "eq",
                                                   "ne",  "lt",   "le",         "gt",    "ge"};
  return IsView(node) || names.contains(ir::ShortName(node.op)) ||
         (node.Operands().size() == 1 && (ir::ShortName(node.op) == "mul" || ir::ShortName(node.op) == "div"));
}

class Finder {
 public:
  Finder(const Graph& graph, bool narrow) : graph_(graph), rows_(graph), narrow_(narrow) {}

  std::vector<Region> Run() {
    FindUsers();
    FindStages();
    for (const Nodes& stage : Stages()) Search(stage);
    std::stable_sort(regions_.begin(), regions_.end(),
                     [](const Region& a, const Region& b) { return a.inner_bytes > b.inner_bytes; });
    return std::move(regions_);
  }

 private:
  void FindUsers() {
    users_.resize(graph_.num_values());
    is_output_.resize(graph_.num_values());
    for (const NodeId id : graph_.nodes()) {
      for (const ValueId v : graph_.node(id).Operands()) {
        if (users_[v].empty() || users_[v].back() != id) users_[v].push_back(id);
      }
    }
    for (const ir::GraphOutput& out : graph_.outputs) is_output_[out.value] = true;
  }

  // Whether a path through this use of a value leaves the row-wise ops, or needs all the rows that they make.
  bool Leaves(const Node& user, size_t operand) const {
    const NodeId from = graph_.value(user.Operands()[operand]).producer;
    return from != ir::kNoNode && rows_.op(from) && !rows_.SameRows(user, operand);
  }

  // Such a path comes to a later stage, so within a stage there are row-wise paths alone. Each node as late as its uses
  // allow: a projection belongs to the stage of the loss, whose labels come from a collective.
  void FindStages() {
    stage_.assign(graph_.num_node_ids(), 0);
    for (const NodeId id : graph_.nodes()) {
      const Node& node = graph_.node(id);
      const std::vector<ValueId> operands = node.Operands();
      for (size_t i = 0; i < operands.size(); ++i) {
        const NodeId from = graph_.value(operands[i]).producer;
        if (from != ir::kNoNode) stage_[id] = std::max(stage_[id], stage_[from] + (Leaves(node, i) ? 1 : 0));
      }
    }
    std::vector<int> latest(graph_.num_node_ids(), std::numeric_limits<int>::max());
    for (auto it = graph_.nodes().rbegin(); it != graph_.nodes().rend(); ++it) {
      const Node& node = graph_.node(*it);
      if (latest[*it] != std::numeric_limits<int>::max()) stage_[*it] = std::max(stage_[*it], latest[*it]);
      const std::vector<ValueId> operands = node.Operands();
      for (size_t i = 0; i < operands.size(); ++i) {
        const NodeId from = graph_.value(operands[i]).producer;
        if (from != ir::kNoNode) latest[from] = std::min(latest[from], stage_[*it] - (Leaves(node, i) ? 1 : 0));
      }
    }
  }

  std::vector<Nodes> Stages() const {
    std::map<int, Nodes> by_stage;
    for (const NodeId id : graph_.nodes()) {
      if (rows_.op(id)) by_stage[stage_[id]].push_back(id);
    }
    std::vector<Nodes> stages;
    for (auto& [stage, nodes] : by_stage) stages.push_back(std::move(nodes));
    return stages;
  }

  // The parts of `nodes` that hang together by values with rows; each in order of execution.
  std::vector<Nodes> Pieces(const Nodes& nodes) const {
    std::map<NodeId, NodeId> parent;
    for (const NodeId id : nodes) parent[id] = id;
    const auto root = [&](NodeId id) {
      while (parent[id] != id) id = parent[id] = parent[parent[id]];
      return id;
    };
    for (const NodeId id : nodes) {
      const Node& node = graph_.node(id);
      const std::vector<ValueId> operands = node.Operands();
      for (size_t i = 0; i < operands.size(); ++i) {
        const NodeId from = graph_.value(operands[i]).producer;
        if (from != ir::kNoNode && parent.contains(from) && rows_.SameRows(node, i)) parent[root(id)] = root(from);
      }
    }
    std::map<NodeId, Nodes> by_root;
    for (const NodeId id : nodes) by_root[root(id)].push_back(id);
    std::vector<Nodes> pieces;
    for (const NodeId id : nodes) {
      if (const auto it = by_root.find(root(id)); it != by_root.end()) {
        pieces.push_back(std::move(it->second));
        by_root.erase(it);
      }
    }
    return pieces;
  }

  // Takes a region out of each piece, and goes on with what lies before and after it.
  void Search(const Nodes& nodes) {
    for (const Nodes& piece : Pieces(nodes)) {
      const std::set<NodeId> in_piece(piece.begin(), piece.end());
      std::vector<ValueId> seeds;
      for (const NodeId id : piece) {
        if (IsView(graph_.node(id))) continue;
        for (const ValueId v : graph_.node(id).results) {
          if (IsInner(v, in_piece) && IsFloating(graph_.value(v).dtype)) seeds.push_back(v);
        }
      }
      std::stable_sort(seeds.begin(), seeds.end(), [&](ValueId a, ValueId b) { return Bytes(a) > Bytes(b); });
      std::set<Nodes> tried;
      for (const ValueId seed : seeds) {
        if (tried.size() == kSeeds) break;
        Nodes before, region, after;
        Cut(piece, seed, &before, &region, &after);
        if (!tried.insert(region).second) continue;
        Region found = Measure(region);
        const bool wide = found.widest_bytes > found.end_bytes || found.inner_bytes >= kChain * found.end_bytes;
        if (!wide && !narrow_) continue;
        regions_.push_back(std::move(found));
        Search(before);
        Search(after);
        break;
      }
    }
  }

  // Made in `nodes`, and used there alone, by its rows.
  bool IsInner(ValueId v, const std::set<NodeId>& nodes) const {
    const NodeId from = graph_.value(v).producer;
    if (is_output_[v] || from == ir::kNoNode || !nodes.contains(from) || users_[v].empty() || !rows_.rows(v))
      return false;
    return std::all_of(users_[v].begin(), users_[v].end(), [&](NodeId user) {
      if (!nodes.contains(user)) return false;
      const std::vector<ValueId> operands = graph_.node(user).Operands();
      for (size_t i = 0; i < operands.size(); ++i) {
        if (operands[i] == v && !rows_.SameRows(graph_.node(user), i)) return false;
      }
      return true;
    });
  }

  void Cut(const Nodes& piece, ValueId seed, Nodes* before, Nodes* region, Nodes* after) const {
    std::map<NodeId, int> index;
    for (const NodeId id : piece) index.emplace(id, static_cast<int>(index.size()));
    std::map<ValueId, CutValue> values;
    for (const NodeId id : piece) {
      const Node& node = graph_.node(id);
      const std::vector<ValueId> operands = node.Operands();
      for (size_t i = 0; i < operands.size(); ++i) {
        if (!rows_.op(id)->operands[i]) continue;  // whole, so not of this stage: a weight
        CutValue& v = values[operands[i]];
        v.weight = Bytes(operands[i]);
        v.consumers.push_back(index.at(id));
      }
      for (const ValueId r : node.results) {
        CutValue& v = values[r];
        v.weight = Bytes(r);
        v.producer = index.at(id);
        v.used_after = is_output_[r] ||
                       std::any_of(users_[r].begin(), users_[r].end(), [&](NodeId u) { return !index.contains(u); });
      }
    }
    std::vector<CutValue> list;
    for (auto& [v, value] : values) list.push_back(std::move(value));
    std::vector<int> inside = {index.at(graph_.value(seed).producer)};
    for (const NodeId user : users_[seed]) inside.push_back(index.at(user));
    std::vector<bool> in = NarrowestRegion(static_cast<int>(piece.size()), list, inside);
    KeepConnected(list, inside.front(), &in);
    // What is not in the region lies before it where a path leads into the region, else after it or beside it.
    std::set<NodeId> leads;
    for (auto it = piece.rbegin(); it != piece.rend(); ++it) {
      for (const ValueId r : graph_.node(*it).results) {
        for (const NodeId user : users_[r]) {
          if (index.contains(user) && (in[index.at(user)] || leads.contains(user))) leads.insert(*it);
        }
      }
    }
    for (const NodeId id : piece) (in[index.at(id)] ? *region : leads.contains(id) ? *before : *after).push_back(id);
  }

  // What hangs together with `start`: a view between two ends is no reason to put it together again.
  static void KeepConnected(const std::vector<CutValue>& values, int start, std::vector<bool>* in) {
    std::vector<bool> kept(in->size(), false);
    kept[start] = true;
    for (bool grown = true; grown;) {
      grown = false;
      for (const CutValue& v : values) {
        std::vector<int> nodes;
        if (v.producer < 0) continue;
        if ((*in)[v.producer]) nodes.push_back(v.producer);
        for (const int c : v.consumers) {
          if ((*in)[c]) nodes.push_back(c);
        }
        if (nodes.empty() || nodes.front() != v.producer) continue;
        if (std::none_of(nodes.begin(), nodes.end(), [&](int n) { return kept[n]; })) continue;
        for (const int n : nodes) {
          grown = grown || !kept[n];
          kept[n] = true;
        }
      }
    }
    *in = std::move(kept);
  }

  Region Measure(const Nodes& nodes) const {
    Region region;
    region.nodes = nodes;
    region.block = rows_.op(nodes.front())->block;
    const std::set<NodeId> in(nodes.begin(), nodes.end());
    std::set<ValueId> ends;
    for (const NodeId id : nodes) {
      const Node& node = graph_.node(id);
      const std::vector<ValueId> operands = node.Operands();
      for (size_t i = 0; i < operands.size(); ++i) {
        const NodeId from = graph_.value(operands[i]).producer;
        if (rows_.op(id)->operands[i] && (from == ir::kNoNode || !in.contains(from))) ends.insert(operands[i]);
      }
      for (const ValueId r : node.results) {
        if (!IsInner(r, in)) {
          if (is_output_[r] || !users_[r].empty()) ends.insert(r);
          continue;
        }
        if (IsView(node)) continue;
        const bool kept = std::any_of(users_[r].begin(), users_[r].end(), [&](NodeId u) { return Keeps(u); });
        region.widest_bytes = std::max(region.widest_bytes, Bytes(r));
        if (kept) region.inner_bytes += Bytes(r);
      }
    }
    region.inner_bytes = std::max(region.inner_bytes, 2 * region.widest_bytes);
    for (const ValueId v : ends) region.end_bytes += Bytes(v);
    return region;
  }

  bool Keeps(NodeId user) const {
    const Node& node = graph_.node(user);
    if (!IsView(node)) return !KeepsNoOperand(node);
    return std::any_of(node.results.begin(), node.results.end(), [&](ValueId r) {
      return std::any_of(users_[r].begin(), users_[r].end(), [&](NodeId u) { return Keeps(u); });
    });
  }

  int64_t Bytes(ValueId v) const { return graph_.value(v).bytes(); }

  const Graph& graph_;
  const RowAnalysis rows_;
  const bool narrow_;
  std::vector<Nodes> users_;     // by value
  std::vector<bool> is_output_;  // by value
  std::vector<int> stage_;       // by node
  std::vector<Region> regions_;
};

}  // namespace

std::vector<Region> FindRegions(const Graph& graph, bool narrow) { return Finder(graph, narrow).Run(); }

}  // namespace autospc::tile
