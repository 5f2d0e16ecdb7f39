#include "passes/canonical/attention.h"

#include <algorithm>

namespace autospc::canonical {

ValueId EmitAttention(Graph& graph, const Attention& a, NodeId before, const Node& like) {
  const Value& q = graph.value(a.q);
  const int64_t heads = q.sizes[1].value(), q_size = q.sizes[2].value();
  const DType dtype = q.dtype;
  const DType lse_type = dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  const std::vector<ir::Expr> out_sizes = {q.sizes[0], q.sizes[1], q.sizes[2], graph.value(a.v).sizes[3]};
  const std::vector<ir::Expr> lse_sizes = {q.sizes[0], q.sizes[1], q.sizes[2]};
  const int64_t site = a.dropout_p > 0 ? NextDropoutSite(graph) : 0;
  const ValueId out = graph.AddValue("attention", dtype, out_sizes);
  const ValueId lse = graph.AddValue("lse", lse_type, lse_sizes);
  const std::string source = like.source, module = like.module;
  Node& node = graph.node(graph.AddNode(
      "autosp.attention",
      {Arg::Value(a.q), Arg::Value(a.k), Arg::Value(a.v), Arg::Values(a.vectors), Arg::String(a.predicate.ToString()),
       Arg::Float(a.scale), Arg::Bool(false), Arg::Int(q_size), Arg::Ints(std::vector<int64_t>{}), Arg::Bool(false),
       Arg::Int(heads), Arg::Float(a.dropout_p), Arg::Int(site)},
      {out, lse}, before));
  node.source = source;
  node.module = module;
  return out;
}

int64_t NextDropoutSite(const Graph& graph) {
  int64_t next = 0;
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    if (node.op == "autosp.attention" && NumberAt(node, 11).value_or(0) > 0)
      next = std::max(next, IntAt(node, 12, 0) + 1);
    if (node.op == "autosp.dropout") next = std::max(next, IntAt(node, 2, 0) + 1);
  }
  return next;
}

namespace {

// A predicate that implies `p` and holds no vectors but in forms that the diagonal satisfies.
Predicate WithoutVectors(const Predicate& p) {
  using Kind = Predicate::Kind;
  switch (p.kind) {
    case Kind::kSame:
      return Predicate::Make(Kind::kDiff, 0, 0);
    case Kind::kKey:
    case Kind::kQuery:
    case Kind::kKeyCmp:
    case Kind::kQueryCmp:
      return Predicate::False();
    case Kind::kNot:
      return VectorCount(p) > 0 ? Predicate::False() : p;
    case Kind::kAnd:
    case Kind::kOr: {
      std::vector<Predicate> operands;
      for (const Predicate& o : p.operands) operands.push_back(WithoutVectors(o));
      return p.kind == Kind::kAnd ? Predicate::And(std::move(operands)) : Predicate::Or(std::move(operands));
    }
    default:
      return p;
  }
}

}  // namespace

bool NoRowIsEmpty(const Predicate& predicate, int64_t q_size, int64_t k_size) {
  if (k_size < 1) return false;
  if (q_size <= k_size && Implies(Predicate::Make(Predicate::Kind::kDiff, 0, 0), predicate)) return true;
  const Predicate lower = WithoutVectors(predicate);
  if (lower.kind == Predicate::Kind::kTrue) return true;
  // Row by row over the keys where an interval of some atom begins or ends: between two of them nothing changes.
  for (int64_t q = 0; q < q_size; ++q) {
    std::vector<int64_t> candidates = {0, std::min(q, k_size - 1)};
    const auto add = [&](int64_t k) {
      if (k >= 0 && k < k_size) candidates.push_back(k);
    };
    const auto collect = [&](const auto& self, const Predicate& p) -> void {
      const bool has_lo = p.lo != Predicate::kMin, has_hi = p.hi != Predicate::kMax;
      if (p.kind == Predicate::Kind::kDiff) {  // q - hi <= k <= q - lo
        if (has_hi) add(q - p.hi);
        if (has_lo) add(q - p.lo + 1);
      } else if (p.kind == Predicate::Kind::kK) {
        if (has_lo) add(p.lo);
        if (has_hi) add(p.hi + 1);
      } else if (p.kind == Predicate::Kind::kSameChunk) {
        add(q / p.lo * p.lo);
        add(q / p.lo * p.lo + p.lo);
      }
      for (const Predicate& o : p.operands) self(self, o);
    };
    collect(collect, lower);
    if (std::none_of(candidates.begin(), candidates.end(), [&](int64_t k) { return Holds(lower, q, k); })) return false;
  }
  return true;
}

}  // namespace autospc::canonical
