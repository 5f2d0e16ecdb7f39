// Floating-point operations of a step: a multiply-add counts two, an element of anything else one.
#pragma once

#include <map>
#include <string>
#include <tuple>

#include "passes/ir/graph.h"

namespace autospc::codegen {

// Counts nodes of one rank's program on a mesh. Where ranks differ (causal attention over query
// shards) the busiest rank counts. Keeps what it learnt of predicates, so that 80 equal layers cost one count.
class FlopCounter {
 public:
  explicit FlopCounter(const Mesh& mesh) : mesh_(mesh) {}
  double Count(const ir::Graph& graph, const ir::Node& node);

 private:
  double Attention(const ir::Graph& graph, const ir::Node& node, bool backward);
  // Of the busiest rank, for one head and batch row.
  int64_t Pairs(const std::string& predicate, bool q_sharded, int64_t q_len, int64_t q_valid, int64_t k_len);

  Mesh mesh_;
  std::map<std::tuple<std::string, bool, int64_t, int64_t, int64_t>, int64_t> pairs_;
};

}  // namespace autospc::codegen
