#include "passes/tile/rows.h"

#include <algorithm>

#include "passes/partition/rules.h"
#include "passes/tile/clone.h"

namespace autospc::tile {
namespace {

using ir::Graph;
using ir::Node;
using ir::ValueId;
using partition::Combiner;
using partition::FactorRule;

Rows At(const Rows& like, int dim) {
  Rows rows = like;
  rows.dim = dim;
  return rows;
}

// Ops of our own know ranks and positions, random ones their place in the sequence of draws.
bool EndsRegion(const Node& node) {
  if (node.op == "autosp.stop_gradient") return false;
  return node.op.starts_with("autosp.") || partition::IsRandom(node) || ir::IsEffectful(node.op) ||
         ir::ShortName(node.op) == "dropout";
}

// Row-wise, but the adjoint makes a whole table, which T tiles would do T times.
bool LooksUp(const Node& node) {
  const std::string_view name = ir::ShortName(node.op);
  return name == "embedding" || name == "index_select" || name == "index";
}

// cross_entropy_loss and nll_loss that add up over rows: (x [N, C, ...], target [N, ...], weight, reduction, ...).
// A mean with class weights divides by the weights of the labels, which are no count: it is left alone.
std::optional<RowOp> SummedLoss(const Graph& graph, const Node& node, const Rows& rows) {
  enum : size_t { kInput, kTarget, kWeight, kReduction };
  const ir::Value &x = graph.value(node.args[kInput].value), &target = graph.value(node.args[kTarget].value);
  const int64_t reduction = node.args[kReduction].int_value();
  if (reduction == 0 || (reduction == 1 && !node.args[kWeight].is_none()) || node.results.size() != 1)
    return std::nullopt;
  if (x.rank() < 2 || target.rank() != x.rank() - 1 || IsFloating(target.dtype) || rows.dim == 1) return std::nullopt;
  RowOp op;
  op.operands = {rows, At(rows, rows.dim == 0 ? 0 : rows.dim - 1)};
  op.operands.resize(node.Operands().size());
  op.results = {std::nullopt};
  return op;
}

std::optional<int> DimOf(const std::vector<int>& dims, int factor) {
  const auto it = std::find(dims.begin(), dims.end(), factor);
  if (it == dims.end()) return std::nullopt;
  return static_cast<int>(it - dims.begin());
}

bool Fits(const ir::Value& value, const Rows& rows) {
  return rows.dim < value.rank() && value.sizes[rows.dim].value() == rows.outer * rows.block * rows.inner;
}

}  // namespace

RowAnalysis::RowAnalysis(const Graph& graph) : graph_(graph), rows_(graph.num_values()), ops_(graph.num_node_ids()) {
  for (ValueId v = 0; v < graph.num_values(); ++v) {
    if (!graph.has_value(v)) continue;
    const ir::Placement& p = graph.value(v).placement;
    if (p.is_sharded()) rows_[v] = Rows::Sharded(p.dim, p.block, p.block, p.outer, p.inner);
  }
  for (const ir::GraphInput& in : graph.inputs) {
    if (in.seq_dim < 0 || rows_[in.value]) continue;
    const int64_t length = graph.value(in.value).int_sizes().at(in.seq_dim);
    rows_[in.value] = Rows::Sharded(in.seq_dim, length, length);
  }
  for (const ir::NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    ops_[id] = Analyse(node);
    if (!ops_[id]) {
      Follow(node);
      continue;
    }
    for (size_t i = 0; i < node.results.size(); ++i) {
      if (ops_[id]->results[i]) rows_[node.results[i]] = ops_[id]->results[i];
    }
    if (LooksUp(node)) ops_[id].reset();
  }
}

std::optional<RowOp> RowAnalysis::Analyse(const Node& node) const {
  if (EndsRegion(node)) return std::nullopt;
  const std::vector<ValueId> operands = node.Operands();
  // A sharded operand decides before one that every rank holds whole.
  std::vector<size_t> leads;
  for (const bool sharded : {true, false}) {
    for (size_t i = 0; i < operands.size(); ++i) {
      if (rows_[operands[i]] && graph_.value(operands[i]).placement.is_sharded() == sharded) leads.push_back(i);
    }
  }
  if (leads.empty()) return std::nullopt;

  std::optional<RowOp> found;
  if (partition::IsReshape(node)) {
    const ValueId x = operands[0], y = node.results[0];
    if (operands.size() != 1) return std::nullopt;
    const auto to = partition::MapReshape(*rows_[x], graph_.value(x).int_sizes(), graph_.value(y).int_sizes());
    if (to) found = RowOp{{rows_[x]}, {*to}, 0};
  } else if (IsLoss(node) && node.args[3].int_value() != 0) {
    if (leads.front() == 0) found = SummedLoss(graph_, node, *rows_[operands[0]]);
  } else if (const auto rule = partition::RuleOf(graph_, node)) {
    for (const size_t lead : leads) {
      const Rows& rows = *rows_[operands[lead]];
      const int factor = rule->operands[lead][rows.dim];
      if (factor == FactorRule::kWhole) continue;
      RowOp op;
      int through = 0;
      for (const auto& dims : rule->results) {
        const auto dim = DimOf(dims, factor);
        through += dim.has_value();
        op.results.push_back(dim ? std::optional(At(rows, *dim)) : std::nullopt);
      }
      const bool all = through == static_cast<int>(node.results.size());
      const bool sum = rule->combiner != Combiner::kNone && !rule->InResults(factor) && node.results.size() == 1;
      if (!all && !sum) continue;
      for (const auto& dims : rule->operands) {
        const auto dim = DimOf(dims, factor);
        op.operands.push_back(dim ? std::optional(At(rows, *dim)) : std::nullopt);
      }
      found = std::move(op);
      break;
    }
  }
  if (!found) return std::nullopt;
  for (size_t i = 0; i < operands.size(); ++i) {
    if (found->operands[i] && !Fits(graph_.value(operands[i]), *found->operands[i])) return std::nullopt;
    if (found->operands[i]) found->block = found->operands[i]->block;
  }
  for (size_t i = 0; i < node.results.size(); ++i) {
    const ir::Value& result = graph_.value(node.results[i]);
    if (found->results[i] && !Fits(result, *found->results[i])) return std::nullopt;
    // Rows of the result that the partitioner placed elsewhere are not these.
    if (rows_[result.id] && rows_[result.id] != found->results[i]) return std::nullopt;
  }
  if (found->block < 2) return std::nullopt;
  return found;
}

void RowAnalysis::Follow(const Node& node) {
  const std::vector<ValueId> operands = node.Operands();
  if (node.op == "autosp.all_gather" && !rows_[node.results[0]]) {
    const int dim = static_cast<int>(node.args[1].int_value());
    const int64_t length = graph_.value(node.results[0]).int_sizes().at(dim);
    rows_[node.results[0]] = Rows::Sharded(dim, length, length);
    return;
  }
  const size_t from = 0;  // attention's queries, and the operand of what shifts, pads, scans or converts
  if (operands.empty() || !rows_[operands[from]]) return;
  const Rows& rows = *rows_[operands[from]];
  if (rows.outer != 1 || rows.inner != 1) return;
  for (const ValueId r : node.results) {
    if (rows_[r] || rows.dim >= graph_.value(r).rank()) continue;
    // Rows may fall off or be added at an end; much fewer are no longer the sequence.
    const int64_t length = graph_.value(r).int_sizes()[rows.dim];
    const bool attention = node.op == "autosp.attention";
    if (!attention && graph_.value(r).rank() != graph_.value(operands[from]).rank()) continue;
    if (length * 2 > rows.block) rows_[r] = Rows::Sharded(rows.dim, length, length);
  }
}

bool RowAnalysis::SameRows(const Node& node, size_t operand) const {
  const RowOp* own = op(node.id);
  const ValueId v = node.Operands()[operand];
  return own && own->operands[operand] && rows_[v] == own->operands[operand];
}

}  // namespace autospc::tile
