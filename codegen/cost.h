// The time that a node takes on one rank, estimated from what it computes, moves and sends (a roofline: Williams,
// Waterman and Patterson, "Roofline: an insightful visual performance model", with the collectives' time on top).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "codegen/flops.h"
#include "codegen/rates.h"
#include "passes/ir/graph.h"
#include "passes/recompute/cost.h"

namespace autospc::codegen {

// What bounds a node's time: which rate of the table holds for it.
enum class OpKind : uint8_t {
  kView,  // no instruction
  kMatmul, kAttention, kAttentionBackward, kElementwise, kExponential, kReduction, kGather, kTranspose, kCollective,
};
inline constexpr int kNumOpKinds = 10;
std::string_view Name(OpKind kind);  // "view", "matmul", …
OpKind KindOf(const ir::Graph& graph, const ir::Node& node);

struct NodeCost {
  double seconds = 0;
  double flops = 0;
  double bytes_moved = 0;  // read and written in memory
  double bytes_sent = 0;   // by this rank

  NodeCost& operator+=(const NodeCost& other);
  NodeCost operator*(double times) const { return {seconds * times, flops * times, bytes_moved * times, bytes_sent * times}; }
};

// Answers for one rank's program on a mesh. `rates` outlives the model. Nodes need bound sizes. Before
// differentiation values have no `base`, and views count as copies.
class CostModel {
 public:
  CostModel(const Mesh& mesh, const Rates& rates) : mesh_(mesh), rates_(rates), flops_(mesh) {}

  // seconds = max(FLOPs / rate, bytes moved / bandwidth) + bytes sent / link + latency + the instruction's overhead;
  // all zero for a view.
  NodeCost Cost(const ir::Graph& graph, const ir::Node& node);

  const Rates& rates() const { return rates_; }

 private:
  double ComputeSeconds(const ir::Graph& graph, const ir::Node& node, OpKind kind, const NodeCost& cost) const;

  Mesh mesh_;
  const Rates& rates_;
  FlopCounter flops_;
};

// A step's nodes added up.
struct StepCost {
  NodeCost total;
  struct Op {
    OpKind kind = OpKind::kView;
    int count = 0;
    NodeCost cost;
  };
  std::map<std::string, Op> by_op;  // by "aten.mm.default"
};
StepCost CostOfStep(const ir::Graph& graph, const Mesh& mesh, const Rates& rates);

// Cost(...).seconds for the choice of what to recompute. Nodes of one op, equal operands and attributes are computed
// once: 80 equal layers cost as much as one. `rates` outlives the function.
recompute::CostFn KernelCosts(const Mesh& mesh, const Rates& rates);

}  // namespace autospc::codegen
