#include "passes/canonical/decompose_attention.h"

#include <cmath>
#include <limits>

#include "passes/canonical/attention_operands.h"

namespace autospc::canonical {
namespace {

// Finite, far below any score, exact in each type.
double FiniteMinimum(DType dtype) { return dtype == DType::kFloat16 ? -65504.0 : -1.0e38; }

}  // namespace

bool DecomposeSdpa(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const Value q = graph.value(ValueAt(node, sdpa::kQuery)), v = graph.value(ValueAt(node, sdpa::kValue));
  ValueId key = ValueAt(node, sdpa::kKey), value = v.id;
  const ValueId mask = ValueAt(node, sdpa::kMask);
  const int rank = q.rank();
  if (mask == kNoValue || rank < 2 || graph.value(key).rank() != rank || v.rank() != rank) return false;
  for (const Value& own : {graph.value(key), v}) {  // heads that those of the query share evenly
    if (rank == 4 && (own.sizes[1].value() < 1 || q.sizes[1].value() % own.sizes[1].value() != 0)) return false;
  }

  const auto emit = [&](const char* op, std::vector<Arg> args, DType dtype, const std::vector<ir::Expr>& sizes) {
    return graph.Emit(op, std::move(args), dtype, sizes, id, &node);
  };
  // Grouped heads: each key and value head once for every query head that reads it.
  const auto repeat = [&](ValueId x) {
    if (rank != 4 || graph.value(x).sizes[1] == q.sizes[1]) return x;
    std::vector<int64_t> sizes = graph.value(x).int_sizes();
    const int64_t heads = q.sizes[1].value(), own = sizes[1];
    const std::vector<int64_t> apart = {sizes[0], own, 1, sizes[2], sizes[3]};
    const std::vector<int64_t> repeated = {sizes[0], own, heads / own, sizes[2], sizes[3]};
    const ValueId wide = EmitExpand(graph, EmitReshape(graph, x, apart, id, node), repeated, id, node);
    return EmitReshape(graph, wide, {sizes[0], heads, sizes[2], sizes[3]}, id, node);
  };
  key = repeat(key);
  value = repeat(value);

  std::vector<int64_t> order(rank);
  for (int d = 0; d < rank; ++d) order[d] = d;
  std::swap(order[rank - 1], order[rank - 2]);
  const ValueId transposed = EmitPermute(graph, key, order, id, node);
  std::vector<ir::Expr> sizes = q.sizes;
  sizes[rank - 1] = graph.value(key).sizes[rank - 2];
  const double scale =
      NumberAt(node, sdpa::kScale).value_or(1 / std::sqrt(static_cast<double>(q.sizes[rank - 1].value())));
  ValueId scores = emit("aten.matmul.default", {Arg::Value(q.id), Arg::Value(transposed)}, q.dtype, sizes);
  scores = emit("aten.mul.Tensor", {Arg::Value(scores), Arg::Float(scale)}, q.dtype, sizes);

  // Blocked entries become a finite minimum before the softmax and zero after it, so that a row of nothing else
  // gives zero, not NaN.
  const std::vector<ir::Expr> mask_sizes = graph.value(mask).sizes;
  ValueId blocked;
  if (graph.value(mask).dtype == DType::kBool) {
    blocked = emit("aten.logical_not.default", {Arg::Value(mask)}, DType::kBool, mask_sizes);
  } else {
    const double infinity = std::numeric_limits<double>::infinity();
    blocked = emit("aten.eq.Scalar", {Arg::Value(mask), Arg::Float(-infinity)}, DType::kBool, mask_sizes);
    scores = emit("aten.add.Tensor", {Arg::Value(scores), Arg::Value(mask), Arg::Int(1)}, q.dtype, sizes);
  }
  scores = emit("aten.masked_fill.Scalar",
                {Arg::Value(scores), Arg::Value(blocked), Arg::Float(FiniteMinimum(q.dtype))}, q.dtype, sizes);
  ValueId p = emit("aten.softmax.int", {Arg::Value(scores), Arg::Int(-1), Arg::None()}, q.dtype, sizes);
  p = emit("aten.masked_fill.Scalar", {Arg::Value(p), Arg::Value(blocked), Arg::Float(0.0)}, q.dtype, sizes);
  if (const double dropout = NumberAt(node, sdpa::kDropout).value_or(0); dropout > 0) {
    p = emit("aten.dropout.default", {Arg::Value(p), Arg::Float(dropout), Arg::Bool(true)}, q.dtype, sizes);
  }
  const Value result = graph.value(node.results[0]);
  const ValueId out = emit("aten.matmul.default", {Arg::Value(p), Arg::Value(value)}, result.dtype, result.sizes);
  graph.ReplaceUses(node.results[0], out);
  return true;
}

}  // namespace autospc::canonical
