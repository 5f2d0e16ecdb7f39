#include "passes/recompute/min_cut.h"

#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/boykov_kolmogorov_max_flow.hpp>
#include <cmath>
#include <limits>

namespace autospc::recompute {
namespace {

using Traits = boost::adjacency_list_traits<boost::vecS, boost::vecS, boost::directedS>;
struct VertexData {
  boost::default_color_type color = boost::white_color;
  long distance = 0;
  Traits::edge_descriptor predecessor;
};
struct EdgeData {
  int64_t capacity = 0;
  int64_t residual = 0;
  Traits::edge_descriptor reverse;
};
using FlowGraph = boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS, VertexData, EdgeData>;

// Capacities are integers, so that a residual of nothing is nothing.
constexpr double kScale = 1e15;
constexpr double kByte = 1;
constexpr int64_t kInfinite = std::numeric_limits<int64_t>::max() / 1024;

class Flow {
 public:
  explicit Flow(int vertices) : graph_(vertices) {}

  void Connect(int from, int to, int64_t capacity) {
    const auto forth = boost::add_edge(from, to, graph_).first;
    const auto back = boost::add_edge(to, from, graph_).first;
    graph_[forth] = {capacity, 0, back};
    graph_[back] = {0, 0, forth};
  }

  void Run(int source, int sink) {
    boost::boykov_kolmogorov_max_flow(graph_, boost::get(&EdgeData::capacity, graph_), boost::get(&EdgeData::residual, graph_),
                                      boost::get(&EdgeData::reverse, graph_), boost::get(&VertexData::predecessor, graph_),
                                      boost::get(&VertexData::color, graph_), boost::get(&VertexData::distance, graph_),
                                      boost::get(boost::vertex_index, graph_), source, sink);
  }

  // On the source's side of the minimum cut that is nearest to it.
  bool Before(int vertex) const { return graph_[vertex].color == boost::black_color; }

 private:
  FlowGraph graph_;
};

// What the backward pass reads of the forward pass, directly.
std::vector<bool> Wanted(const Problem& problem) {
  std::vector<bool> wanted(problem.stores.size(), false);
  for (size_t i = problem.backward; i < problem.items.size(); ++i) {
    for (int s : problem.items[i].reads) wanted[s] = wanted[s] || problem.stores[s].maker < problem.backward;
  }
  return wanted;
}

Cut KeepAll(const Problem& problem) {
  Cut cut;
  cut.keep.assign(problem.stores.size(), true);
  const std::vector<bool> wanted = Wanted(problem);
  for (size_t s = 0; s < wanted.size(); ++s) cut.bytes += wanted[s] ? static_cast<double>(problem.stores[s].bytes) : 0;
  return cut;
}

}  // namespace

Cut MinCut(const Problem& problem, double price) {
  const int stores = static_cast<int>(problem.stores.size());
  const int source = stores + problem.backward, sink = source + 1;
  double seconds = 0, bytes = 0;
  for (int i = 0; i < problem.backward; ++i) seconds += problem.items[i].seconds;
  for (const Store& s : problem.stores) bytes += s.maker < problem.backward ? static_cast<double>(s.bytes) : 0;
  if (std::isinf(price)) price = 1e3 * std::max(seconds, 1e-9);  // a byte outweighs all time there is
  const double scale = kScale / std::max(seconds + price * bytes, 1e-30);
  const auto capacity = [&](double cost) { return static_cast<int64_t>(std::llround(cost * scale)); };

  Flow flow(sink + 1);
  const std::vector<bool> wanted = Wanted(problem);
  for (int s = 0; s < stores; ++s) {
    const Store& store = problem.stores[s];
    if (store.maker >= problem.backward) continue;
    if (wanted[s]) flow.Connect(source, s, kInfinite);
    flow.Connect(s, stores + store.maker, store.fixed ? 0 : capacity(price * static_cast<double>(store.bytes)));
  }
  for (int i = 0; i < problem.backward; ++i) {
    const Item& item = problem.items[i];
    flow.Connect(stores + i, sink, item.repeatable ? capacity(item.seconds) : kInfinite);
    for (int s : item.reads) flow.Connect(stores + i, s, kInfinite);
  }
  flow.Run(source, sink);

  Cut cut;
  cut.keep.assign(stores, true);
  for (int s = 0; s < stores; ++s) {
    const Store& store = problem.stores[s];
    if (store.maker >= problem.backward) continue;
    cut.keep[s] = !flow.Before(stores + store.maker);
    if (cut.keep[s] && flow.Before(s) && !store.fixed) cut.bytes += static_cast<double>(store.bytes);
  }
  for (int i = 0; i < problem.backward; ++i) {
    if (flow.Before(stores + i)) cut.seconds += problem.items[i].seconds;
  }
  return cut;
}

std::vector<Cut> SweepPrices(const Problem& problem, int most) {
  std::vector<Cut> cuts = {KeepAll(problem), MinCut(problem, std::numeric_limits<double>::infinity())};
  std::vector<bool> closed = {false};  // by gap between neighbours: nothing lies under their chord
  while (static_cast<int>(cuts.size()) < most) {
    int widest = -1;
    double ratio = 1;
    for (size_t g = 0; g < closed.size(); ++g) {
      const double r = (cuts[g].bytes + kByte) / (cuts[g + 1].bytes + kByte);
      if (closed[g] || r <= ratio) continue;
      widest = static_cast<int>(g);
      ratio = r;
    }
    if (widest < 0) break;
    const Cut &left = cuts[widest], &right = cuts[widest + 1];
    const double price = (right.seconds - left.seconds) / (left.bytes - right.bytes);
    Cut cut = price > 0 ? MinCut(problem, price) : Cut{};
    const double chord = left.seconds + price * left.bytes;
    const bool new_corner = price > 0 && cut.bytes < left.bytes && cut.bytes > right.bytes &&
                            cut.seconds + price * cut.bytes < chord * (1 - 1e-9);
    if (!new_corner) {
      closed[widest] = true;
      continue;
    }
    cuts.insert(cuts.begin() + widest + 1, std::move(cut));
    closed.insert(closed.begin() + widest, false);
  }
  return cuts;
}

}  // namespace autospc::recompute
