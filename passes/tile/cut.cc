#include "passes/tile/cut.h"

#include <algorithm>
#include <limits>

namespace autospc::tile {
namespace {

constexpr int64_t kInfinite = std::numeric_limits<int64_t>::max() / 4;

class Flow {
 public:
  explicit Flow(int nodes) : arcs_of_(nodes) {}

  void AddArc(int from, int to, int64_t capacity) {
    arcs_of_[from].push_back(static_cast<int>(arcs_.size()));
    arcs_.push_back({to, capacity});
    arcs_of_[to].push_back(static_cast<int>(arcs_.size()));
    arcs_.push_back({from, 0});
  }

  void Maximise(int source, int sink) {
    while (Levels(source, sink)) {
      next_.assign(arcs_of_.size(), 0);
      while (Push(source, sink, kInfinite) > 0) {
      }
    }
  }

  // Nodes that the source still reaches: the smallest source side of a minimum cut.
  std::vector<bool> ReachedFrom(int source) const { return Search(source, /*forward=*/true); }
  // Nodes that still reach the sink: the smallest sink side.
  std::vector<bool> Reaching(int sink) const { return Search(sink, /*forward=*/false); }

 private:
  struct Arc {
    int to;
    int64_t left;  // capacity that is left; arc i ^ 1 is the other direction
  };

  bool Levels(int source, int sink) {
    level_.assign(arcs_of_.size(), -1);
    std::vector<int> queue = {source};
    level_[source] = 0;
    for (size_t i = 0; i < queue.size(); ++i) {
      for (const int a : arcs_of_[queue[i]]) {
        if (arcs_[a].left == 0 || level_[arcs_[a].to] >= 0) continue;
        level_[arcs_[a].to] = level_[queue[i]] + 1;
        queue.push_back(arcs_[a].to);
      }
    }
    return level_[sink] >= 0;
  }

  int64_t Push(int from, int sink, int64_t most) {
    if (from == sink) return most;
    for (size_t& i = next_[from]; i < arcs_of_[from].size(); ++i) {
      const int a = arcs_of_[from][i];
      if (arcs_[a].left == 0 || level_[arcs_[a].to] != level_[from] + 1) continue;
      const int64_t pushed = Push(arcs_[a].to, sink, std::min(most, arcs_[a].left));
      if (pushed == 0) continue;
      arcs_[a].left -= pushed;
      arcs_[a ^ 1].left += pushed;
      return pushed;
    }
    return 0;
  }

  std::vector<bool> Search(int start, bool forward) const {
    std::vector<bool> seen(arcs_of_.size(), false);
    std::vector<int> queue = {start};
    seen[start] = true;
    for (size_t i = 0; i < queue.size(); ++i) {
      for (const int a : arcs_of_[queue[i]]) {
        if (arcs_[forward ? a : a ^ 1].left == 0 || seen[arcs_[a].to]) continue;
        seen[arcs_[a].to] = true;
        queue.push_back(arcs_[a].to);
      }
    }
    return seen;
  }

  std::vector<std::vector<int>> arcs_of_;
  std::vector<Arc> arcs_;
  std::vector<int> level_;
  std::vector<size_t> next_;
};

// Nodes 0 … n-1, a node for each value, source, sink. The source's side comes earlier in the order of the edges.
Flow Network(int nodes, const std::vector<CutValue>& values, int source, int sink) {
  Flow flow(sink + 1);
  for (size_t i = 0; i < values.size(); ++i) {
    const CutValue& v = values[i];
    const int hub = nodes + static_cast<int>(i);
    flow.AddArc(v.producer < 0 ? source : v.producer, hub, v.weight);
    if (v.used_after) flow.AddArc(hub, sink, kInfinite);
    for (const int c : v.consumers) {
      flow.AddArc(hub, c, kInfinite);
      if (v.producer >= 0) flow.AddArc(c, v.producer, kInfinite);
    }
  }
  return flow;
}

}  // namespace

std::vector<bool> NarrowestRegion(int nodes, const std::vector<CutValue>& values, const std::vector<int>& inside) {
  const int source = nodes + static_cast<int>(values.size()), sink = source + 1;
  Flow entry = Network(nodes, values, source, sink), exit = entry;
  for (const int i : inside) {
    entry.AddArc(i, sink, kInfinite);
    exit.AddArc(source, i, kInfinite);
  }
  entry.Maximise(source, sink);
  exit.Maximise(source, sink);
  const std::vector<bool> before = entry.ReachedFrom(source), after = exit.Reaching(sink);
  std::vector<bool> region(nodes);
  for (int i = 0; i < nodes; ++i) region[i] = !before[i] && !after[i];
  return region;
}

}  // namespace autospc::tile
