#include "passes/canonical/attention_operands.h"

#include <algorithm>
#include <utility>

namespace autospc::canonical {
namespace {

std::vector<ir::Expr> Exprs(const std::vector<int64_t>& sizes) { return {sizes.begin(), sizes.end()}; }

bool SwapsLastTwo(const Node& node, int rank) {
  if (rank < 2) return false;
  if (Is(node, "aten.mT") || (Is(node, "aten.t") && rank == 2)) return true;
  if (Is(node, "aten.transpose")) {
    const auto dims = std::minmax({WrapDim(IntAt(node, 1, 0), rank), WrapDim(IntAt(node, 2, 0), rank)});
    return dims.first == rank - 2 && dims.second == rank - 1;
  }
  if (!Is(node, "aten.permute")) return false;
  const std::vector<int64_t> dims = IntsAt(node, 1);
  for (int d = 0; d < rank; ++d) {
    const int expected = d == rank - 2 ? rank - 1 : d == rank - 1 ? rank - 2 : d;
    if (WrapDim(dims[d], rank) != expected) return false;
  }
  return true;
}

}  // namespace

HeadsOperand TraceOperand(const Graph& graph, ValueId v, bool transposed, bool peel_scale, DType type) {
  HeadsOperand operand{v, transposed, 1, {}};
  while (const Node* node = graph.producer(operand.value)) {
    const ValueId x = ValueAt(*node, 0);
    if (x == kNoValue || node->results.size() != 1) break;
    const Value& in = graph.value(x);
    const Value& out = graph.value(operand.value);
    const std::string_view base = BaseName(node->op);
    if (SwapsLastTwo(*node, out.rank())) {
      operand.transposed = !operand.transposed;
    } else if (base == "aten.contiguous" || base == "aten.clone" || (base == "aten.expand" && in.sizes == out.sizes)) {
      // The same elements.
    } else if ((base == "aten.to" || base == "aten._to_copy") && in.dtype == type && out.dtype != type &&
               IsFloating(out.dtype) && ByteSize(out.dtype) > ByteSize(type)) {
      // The kernel accumulates in a wider type by itself.
    } else if (base == "aten.reshape" && out.rank() == 3 && in.rank() == 4 && in.sizes[2] == out.sizes[1] &&
               in.sizes[3] == out.sizes[2]) {
      // [B, H] merged.
    } else if (peel_scale && (base == "aten.mul" || base == "aten.div") && node->args.size() == 2 &&
               NumberAt(*node, 1) && *NumberAt(*node, 1) != 0 && in.dtype == out.dtype) {
      const double factor = *NumberAt(*node, 1);
      operand.scale *= base == "aten.div" ? 1 / factor : factor;
    } else {
      break;
    }
    operand.value = x;
  }
  std::vector<int64_t> sizes = graph.value(operand.value).int_sizes();
  if (sizes.size() >= 2 && operand.transposed) std::swap(sizes[sizes.size() - 1], sizes[sizes.size() - 2]);
  operand.sizes = std::move(sizes);
  return operand;
}

bool AgreeOnSizes(const Graph& graph, HeadsOperand* q, HeadsOperand* k, HeadsOperand* v) {
  int64_t batch = -1;
  for (const HeadsOperand* o : {q, k, v}) {
    const size_t rank = o->sizes.size();
    if (rank < 2 || rank > 4 || graph.value(o->value).dtype != graph.value(q->value).dtype) return false;
    if (rank == 4 && batch < 0) batch = o->sizes[0];
  }
  for (HeadsOperand* o : {q, k, v}) {
    if (o->sizes.size() == 2) o->sizes.insert(o->sizes.begin(), 1);
    if (o->sizes.size() == 4) continue;
    const int64_t merged = o->sizes[0], b = batch < 0 ? merged : batch;
    if (b == 0 || merged % b != 0) return false;
    o->sizes.insert(o->sizes.begin() + 1, merged / b);
    o->sizes[0] = b;
  }
  // Keys and values may be broadcast over the batch, and read by groups of query heads.
  const std::vector<int64_t>& qs = q->sizes;
  const int64_t kv_heads = std::max(k->sizes[1], v->sizes[1]);
  for (const HeadsOperand* o : {k, v}) {
    if (o->sizes[0] != qs[0] && o->sizes[0] != 1) return false;
    if (o->sizes[1] != kv_heads && o->sizes[1] != 1) return false;
  }
  for (HeadsOperand* o : {k, v}) o->sizes[0] = qs[0], o->sizes[1] = kv_heads;
  return kv_heads > 0 && qs[1] % kv_heads == 0 && k->sizes[2] == v->sizes[2] && k->sizes[3] == qs[3];
}

ValueId EmitOperand(Graph& graph, const HeadsOperand& operand, NodeId before, const Node& like) {
  ValueId v = operand.value;
  if (operand.transposed) {
    const int rank = graph.value(v).rank();
    std::vector<int64_t> order(rank);
    for (int d = 0; d < rank; ++d) order[d] = d;
    std::swap(order[rank - 1], order[rank - 2]);
    // A permutation of a permutation is one.
    if (const Node* inner = ProducerIs(graph, v, "aten.permute")) {
      const std::vector<int64_t> dims = IntsAt(*inner, 1);
      for (int64_t& d : order) d = WrapDim(dims[d], rank);
      v = ValueAt(*inner, 0);
    }
    v = EmitPermute(graph, v, order, before, like);
  }
  // Only sizes of one: batch and heads are split, or dims put in front.
  std::vector<int64_t> own = graph.value(v).int_sizes();
  if (own.size() < 4) {
    std::vector<int64_t> split = operand.sizes;
    int64_t numel = 1, wanted = 1;
    for (const int64_t n : own) numel *= n;
    for (const int64_t n : split) wanted *= n;
    if (numel != wanted && own.size() == 3) split[0] = own[0], split[1] = 1;
    if (numel != wanted && own.size() == 2) split[0] = split[1] = 1;
    v = EmitReshape(graph, v, split, before, like);
  }
  return EmitExpand(graph, v, operand.sizes, before, like);
}

ValueId EmitPermute(Graph& graph, ValueId v, const std::vector<int64_t>& order, NodeId before, const Node& like) {
  std::vector<ir::Expr> sizes;
  bool identity = true;
  for (size_t d = 0; d < order.size(); ++d) {
    sizes.push_back(graph.value(v).sizes[order[d]]);
    identity = identity && order[d] == static_cast<int64_t>(d);
  }
  if (identity) return v;
  return graph.Emit("aten.permute.default", {Arg::Value(v), Arg::Ints(order)}, graph.value(v).dtype, sizes, before,
                    &like);
}

ValueId EmitReshape(Graph& graph, ValueId v, const std::vector<int64_t>& sizes, NodeId before, const Node& like) {
  if (graph.value(v).int_sizes() == sizes) return v;
  return graph.Emit("aten.reshape.default", {Arg::Value(v), Arg::Ints(sizes)}, graph.value(v).dtype, Exprs(sizes),
                    before, &like);
}

ValueId EmitExpand(Graph& graph, ValueId v, const std::vector<int64_t>& sizes, NodeId before, const Node& like) {
  if (graph.value(v).int_sizes() == sizes) return v;
  return graph.Emit("aten.expand.default", {Arg::Value(v), Arg::Ints(sizes), Arg::Bool(false)}, graph.value(v).dtype,
                    Exprs(sizes), before, &like);
}

}  // namespace autospc::canonical
