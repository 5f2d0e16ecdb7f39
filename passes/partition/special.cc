// Ops whose partition is more than a factor rule: attention, losses, dropout, shifts, reductions over the
// sharded factor.
#include <algorithm>
#include <iterator>
#include <set>

#include "passes/partition/partitioner.h"

namespace autospc::partition {

using ir::Arg;
using ir::Expr;
using ir::Node;
using ir::Placement;
using ir::ValueId;

namespace {

// Arguments of autosp.attention, by position.
enum : size_t { kQ, kK, kV, kVectors, kPredicate, kScale, kQSharded, kQValid, kKvMap, kHeadSharded, kHeads, kDropoutP, kSite, kBatch };

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool Plain(const Placement& p, int dim) { return p.dim == dim && p.outer == 1 && p.inner == 1; }

// By rank, the kv heads that its query heads read, as many on each (the last repeated).
std::vector<std::vector<int64_t>> KvTable(int64_t ranks, int64_t heads, int64_t kv_heads) {
  const int64_t local = CeilDiv(heads, ranks);
  std::vector<std::vector<int64_t>> table;
  size_t most = 0;
  for (int64_t r = 0; r < ranks; ++r) {
    std::set<int64_t> need;
    for (int64_t h = r * local; h < (r + 1) * local; ++h) need.insert(std::min(h, heads - 1) * kv_heads / heads);
    table.emplace_back(need.begin(), need.end());
    most = std::max(most, need.size());
  }
  for (auto& row : table) row.resize(most, row.empty() ? 0 : row.back());
  return table;
}

}  // namespace

Status Partitioner::Attention(const Node& node) {
  Node& own = global_.node(node.id);
  if (own.args[kDropoutP].number() > 0 && is_first()) own.args[kSite] = Arg::Int(next_site_++);
  const ValueId q = node.args[kQ].value;
  std::optional<Placement> rows;
  if (IsSharded(q)) rows = ShardOf(q);
  else if (tags_.contains(q)) rows = tags_.at(q);
  if (axis_ == Axis::kDp) {
    for (const size_t other : {kK, kV}) {
      if (!rows && IsSharded(node.args[other].value)) rows = ShardOf(node.args[other].value);
    }
    if (!rows) return ProcessReplicated(node);
    return Plain(*rows, 0) ? AttentionOverBatch(node, *rows) : Gathered(node, "its batch is not what is sharded");
  }
  for (const size_t other : {kK, kV}) {  // few learned queries over a sharded sequence
    if (rows || !IsSharded(node.args[other].value)) continue;
    const int64_t length = global_.value(q).int_sizes()[2];
    rows = Placement::Sharded(2, length, CeilDiv(length, ranks_));
  }
  if (!rows) return ProcessReplicated(node);
  if (!Plain(*rows, 2)) return Gathered(node, "its queries are not sharded by rows");
  return ctx_.strategy == "allgather-kv" ? AllGatherKv(node, *rows) : Ulysses(node, *rows);
}

// Each rank computes its own rows of queries for all heads, over keys and values of all ranks.
Status Partitioner::AllGatherKv(const Node& node, const Placement& rows) {
  std::vector<Arg> args = node.args;
  ASSIGN_OR_RETURN(args[kQ].value, GetS(args[kQ].value, rows));
  ASSIGN_OR_RETURN(args[kK].value, GetV(args[kK].value));
  ASSIGN_OR_RETURN(args[kV].value, GetV(args[kV].value));
  for (ValueId& v : args[kVectors].values) {
    ASSIGN_OR_RETURN(v, GetV(v));
  }
  args[kQSharded] = Arg::Bool(true);
  args[kQValid] = Arg::Int(rows.valid);
  EmitAttention(node, std::move(args), rows);
  return Ok();
}

void Partitioner::EmitAttention(const Node& node, std::vector<Arg> args, const Placement& p) {
  std::vector<ValueId> results;
  for (ValueId r : node.results) {
    const ir::Value& v = global_.value(r);
    const std::vector<int64_t> sizes = LocalSizes(r, p);
    const ValueId local = local_.AddValue(v.name, v.dtype, std::vector<Expr>(sizes.begin(), sizes.end()));
    Place(local, p);
    Record(r, p, local);
    primary_[r] = p;
    results.push_back(local);
  }
  Node& copy = local_.node(local_.AddNode(node.op, std::move(args), std::move(results)));
  copy.source = node.source;
  copy.module = node.module;
}

// Each rank attends within its own rows of the batch. Vectors with one row for all of it are the same on every rank.
Status Partitioner::AttentionOverBatch(const Node& node, const Placement& batch) {
  std::vector<Arg> args = node.args;
  for (const size_t i : {kQ, kK, kV}) {
    ASSIGN_OR_RETURN(args[i].value, GetS(args[i].value, batch));
  }
  for (ValueId& v : args[kVectors].values) {
    const bool own_row = global_.value(v).int_sizes()[0] == batch.valid;
    ASSIGN_OR_RETURN(v, own_row ? GetS(v, batch) : GetV(v));
  }
  if (args[kDropoutP].number() > 0) {
    args.resize(kBatch);
    args.push_back(Arg::Int(batch.valid));
  }
  EmitAttention(node, std::move(args), batch);
  return Ok();
}

// DeepSpeed-Ulysses (arXiv 2309.14509): all-to-all from rows to heads, attention over whole sequences, and
// back. K and V move with their own heads; where P does not divide them, each rank gets those it needs.
Status Partitioner::Ulysses(const Node& node, const Placement& rows) {
  std::vector<Arg> args = node.args;
  const int64_t heads = global_.value(args[kQ].value).int_sizes()[1], kv_heads = global_.value(args[kK].value).int_sizes()[1];
  const int64_t local_heads = CeilDiv(heads, ranks_);
  const std::vector<std::vector<int64_t>> table = KvTable(ranks_, heads, kv_heads);
  const int64_t slots = static_cast<int64_t>(table[0].size());
  const bool even = kv_heads % ranks_ == 0 && slots == kv_heads / ranks_;
  if (heads % ranks_ != 0) {
    ctx_.notes.push_back({fmt::format("attention over {} heads on {} ranks computes {}", heads, ranks_, local_heads * ranks_),
                          "heads that the ranks don't divide are padded", node.source, 0, 0});
  }

  const auto to_heads = [&](ValueId global, const Placement& p, int64_t total, int64_t block) -> Result<ValueId> {
    ASSIGN_OR_RETURN(ValueId x, GetS(global, p));
    const ir::DType dtype = local_.value(x).dtype;
    std::vector<int64_t> sizes = local_.value(x).int_sizes();
    if (total != sizes[1]) {
      std::vector<int64_t> index;
      for (const auto& row : table) index.insert(index.end(), row.begin(), row.end());
      sizes[1] = total;
      x = Emit("autosp.take", {Arg::Value(x), Arg::Int(1), Arg::Ints(index)}, dtype, sizes, p, &node);
    }
    sizes[1] = block;
    sizes[2] = p.valid;
    return Emit("autosp.all_to_all",
                {Arg::Value(x), Arg::Int(2), Arg::Int(p.valid), Arg::Int(1), Arg::Int(block), Arg::Bool(false)}, dtype, sizes,
                Placement::Sharded(1, total, block), &node);
  };
  const int64_t keys = global_.value(args[kK].value).int_sizes()[2];
  const auto key_rows = [&](ValueId v) {
    return IsSharded(v) && Plain(ShardOf(v), 2) ? ShardOf(v) : Placement::Sharded(2, keys, CeilDiv(keys, ranks_));
  };
  const int64_t moved = even ? kv_heads : slots * ranks_;
  ASSIGN_OR_RETURN(args[kQ].value, to_heads(args[kQ].value, rows, heads, local_heads));
  ASSIGN_OR_RETURN(args[kK].value, to_heads(args[kK].value, key_rows(args[kK].value), moved, slots));
  ASSIGN_OR_RETURN(args[kV].value, to_heads(args[kV].value, key_rows(args[kV].value), moved, slots));
  for (ValueId& v : args[kVectors].values) {
    ASSIGN_OR_RETURN(v, GetV(v));
  }
  std::vector<int64_t> kv_map;
  for (int64_t r = 0; r < ranks_; ++r) {
    for (int64_t h = r * local_heads; h < (r + 1) * local_heads; ++h) {
      const int64_t kv = std::min(h, heads - 1) * kv_heads / heads;
      kv_map.push_back(std::find(table[r].begin(), table[r].end(), kv) - table[r].begin());
    }
  }
  args[kQValid] = Arg::Int(rows.valid);
  args[kKvMap] = Arg::Ints(kv_map);
  args[kHeadSharded] = Arg::Bool(true);
  args[kHeads] = Arg::Int(heads);

  const Placement by_head = Placement::Sharded(1, heads, local_heads);
  const ir::Value& out = global_.value(node.results[0]);
  std::vector<int64_t> sizes = out.int_sizes();
  sizes[1] = local_heads;
  const auto result = [&](const std::string& name, ir::DType dtype, const std::vector<int64_t>& s) {
    const ValueId v = local_.AddValue(name, dtype, std::vector<Expr>(s.begin(), s.end()));
    Place(v, by_head);
    return v;
  };
  const ValueId o = result(out.name + "_heads", out.dtype, sizes);
  const ir::Value& lse = global_.value(node.results[1]);
  const ValueId l = result(lse.name, lse.dtype, {sizes[0], sizes[1], sizes[2]});
  for (const ValueId v : {o, l}) local_.value(v).dp_placement = out.dp_placement;  // of dim 0, untouched
  Node& copy = local_.node(local_.AddNode(node.op, std::move(args), {o, l}));
  copy.source = node.source;
  copy.module = node.module;
  sizes[1] = heads;
  sizes[2] = rows.block;
  Record(node.results[0], rows,
         Emit("autosp.all_to_all",
              {Arg::Value(o), Arg::Int(1), Arg::Int(heads), Arg::Int(2), Arg::Int(rows.block), Arg::Bool(false)}, out.dtype,
              sizes, rows, &node));
  primary_[node.results[0]] = rows;
  return Ok();
}

// A sum or mean over tokens: each rank's sum over its own rows, padding labels ignored; the count comes from
// the labels alone.
Status Partitioner::CrossEntropy(const Node& node, bool* done) {
  enum : size_t { kInput, kTarget, kWeight, kReduction, kIgnore };
  const int64_t reduction = node.args[kReduction].int_value();
  const ValueId x = node.args[kInput].value, target = node.args[kTarget].value;
  const ir::Value& labels = global_.value(target);
  std::optional<Placement> p;
  if (IsSharded(x)) p = ShardOf(x);
  else if (tags_.contains(x)) p = tags_.at(x);
  if (!p || reduction == 0 || global_.value(x).rank() < 2 || labels.rank() != global_.value(x).rank() - 1 || p->dim == 1 ||
      IsFloating(labels.dtype) || (!node.args[kWeight].is_none() && reduction == 1)) {
    return Ok();
  }
  *done = true;
  Placement rows = *p;
  if (rows.dim > 1) --rows.dim;
  std::vector<Arg> args = node.args;
  ASSIGN_OR_RETURN(args[kInput].value, GetS(x, *p));
  ASSIGN_OR_RETURN(const ValueId local_labels, GetS(target, rows));
  args[kTarget].value = MaskRows(local_labels, rows, args[kIgnore], &node);
  const ValueId masked = args[kTarget].value;
  if (args[kWeight].is_value()) {
    ASSIGN_OR_RETURN(args[kWeight].value, GetV(args[kWeight].value));
  }
  args[kReduction] = Arg::Int(2);
  const ir::Value& loss = global_.value(node.results[0]);
  ValueId sum = Emit(node.op, std::move(args), loss.dtype, {}, Placement::Partial(), &node);
  if (reduction == 1) {
    const auto count_valid = [&](ValueId v, const Placement& seen, const Placement& total) {
      const ValueId valid = Emit("aten.ne.Scalar", {Arg::Value(v), node.args[kIgnore]}, ir::DType::kBool,
                                 local_.value(v).int_sizes(), seen, &node);
      return Emit("aten.sum.default", {Arg::Value(valid), Arg::None()}, ir::DType::kInt64, {}, total, &node);
    };
    ValueId count = ir::kNoValue;
    if (IsSharded(target)) {
      count = count_valid(masked, rows, Placement::Partial());
      count = Emit("autosp.all_reduce", {Arg::Value(count), Arg::String("sum")}, ir::DType::kInt64, {}, Placement::Replicated(), &node);
    } else {
      ASSIGN_OR_RETURN(const ValueId whole, GetR(target));
      count = count_valid(whole, Placement::Replicated(), Placement::Replicated());
    }
    count = Emit("autosp.vary", {Arg::Value(count)}, ir::DType::kInt64, {}, Placement::Varying(), &node);
    sum = Emit("aten.div.Tensor", {Arg::Value(sum), Arg::Value(count)}, loss.dtype, {}, Placement::Partial(), &node);
  }
  Record(node.results[0], Placement::Partial(), sum);
  primary_[node.results[0]] = Placement::Partial();
  return Ok();
}

// Drawn by global element index, so that every mesh, and recomputation, draws the same.
Status Partitioner::Dropout(const Node& node) {
  enum : size_t { kX, kP, kSiteOf, kSpLie, kDpLie = 7, kEnd = 11 };  // arguments of autosp.dropout
  const ValueId x = node.args[0].value, y = node.results[0];
  const double probability = node.args[1].number();
  const bool own = node.op == "autosp.dropout";  // the first run's
  if (!own && (!node.args[2].b || probability == 0)) {
    if (IsSharded(x) || IsPartial(x) || forms_[x].r != ir::kNoValue) {
      Same(y, x);
      return Ok();
    }
    Node& alias = global_.node(node.id);
    alias.op = "aten.alias.default";
    alias.args = {Arg::Value(x)};
    return ProcessReplicated(alias);
  }
  std::vector<Arg> args = node.args;
  if (!own) {
    args = {Arg::Value(x), Arg::Float(probability), Arg::Int(next_site_++)};
    const Arg whole[] = {Arg::Int(-1), Arg::Int(0), Arg::Int(1), Arg::Int(1)};
    args.insert(args.end(), std::begin(whole), std::end(whole));
  }
  std::optional<Placement> p;
  if (IsSharded(x)) p = ShardOf(x);
  else if (tags_.contains(x) && !IsPartial(x)) p = tags_.at(x);
  if (!p) {
    Node& whole = global_.node(node.id);
    whole.op = "autosp.dropout";
    whole.args = std::move(args);
    return ProcessReplicated(whole);
  }
  const auto lie = [&](size_t first, const Placement& at) {
    const Arg numbers[] = {Arg::Int(at.dim), Arg::Int(at.valid), Arg::Int(at.outer), Arg::Int(at.inner)};
    std::copy(std::begin(numbers), std::end(numbers), args.begin() + static_cast<std::ptrdiff_t>(first));
  };
  if (axis_ == Axis::kDp) {
    args.resize(kEnd);
    lie(kDpLie, *p);
  } else {
    if (args.size() > kDpLie) lie(kDpLie, global_.value(x).dp_placement.Within(*p));
    lie(kSpLie, *p);
  }
  ASSIGN_OR_RETURN(args[kX].value, GetS(x, *p));
  const ir::Value& v = local_.value(args[kX].value);
  Record(y, *p, Emit("autosp.dropout", std::move(args), v.dtype, v.int_sizes(), *p, &node));
  primary_[y] = *p;
  return Ok();
}

// x[:n] along the sharded dim keeps the layout: the rows that fall off become padding.
Status Partitioner::SliceRows(const Node& node, const Placement& p, bool* done) {
  const std::string_view name = ir::ShortName(node.op);
  if (name != "slice" && name != "narrow") return Ok();
  const ValueId x = node.args[0].value, y = node.results[0];
  const int dim = ir::WrapDim(node.args[1].int_value(), global_.value(x).rank());
  const int64_t start = node.args[2].is_none() ? 0 : node.args[2].int_value();
  const int64_t step = name == "slice" ? node.args[4].int_value() : 1;
  const int64_t rows = global_.value(y).int_sizes()[dim];
  if (!Plain(p, dim) || start != 0 || step != 1 || rows == 0) return Ok();
  *done = true;
  if (rows == p.valid) {
    Same(y, x);
    return Ok();
  }
  ASSIGN_OR_RETURN(const ValueId s, GetS(x, p));
  const Placement shorter = Placement::Sharded(dim, rows, p.block);
  const ir::Value& v = local_.value(s);
  Record(y, shorter, Emit("autosp.pad_last", {Arg::Value(s), Arg::Int(dim), Arg::Int(rows)}, v.dtype, v.int_sizes(), shorter, &node));
  primary_[y] = shorter;
  return Ok();
}

// x[:, i]: the owner's row, zero elsewhere, added up.
Status Partitioner::SelectRow(const Node& node, const Placement& p, bool* done) {
  if (ir::ShortName(node.op) != "select") return Ok();
  const ValueId x = node.args[0].value, y = node.results[0];
  const int rank = global_.value(x).rank(), dim = ir::WrapDim(node.args[1].int_value(), rank);
  if (!Plain(p, dim) || !IsFloating(global_.value(x).dtype)) return Ok();
  *done = true;
  const int64_t index = node.args[2].int_value() < 0 ? node.args[2].int_value() + p.valid : node.args[2].int_value();
  ASSIGN_OR_RETURN(const ValueId s, GetS(x, p));
  const ValueId masked = MaskRows(s, p, Arg::Int(0), &node);
  const ir::Value& v = local_.value(masked);
  const Placement vector = Placement::Sharded(0, p.valid, p.block);
  const ValueId positions = Emit("autosp.positions", {Arg::Int(0), Arg::Int(1), Arg::Int(p.block), Arg::Int(p.valid), Arg::Type(ir::DType::kInt64)},
                                 ir::DType::kInt64, {p.block}, vector, &node);
  ValueId here = Emit("aten.eq.Scalar", {Arg::Value(positions), Arg::Int(index)}, ir::DType::kBool, {p.block}, vector, &node);
  std::vector<int64_t> shape(rank, 1);
  shape[dim] = p.block;
  here = Emit("aten.reshape.default", {Arg::Value(here), Arg::Ints(shape)}, ir::DType::kBool, shape, p, &node);
  const ValueId row = Emit("aten.where.ScalarOther", {Arg::Value(here), Arg::Value(masked), Arg::Int(0)}, v.dtype, v.int_sizes(), p, &node);
  Record(y, Placement::Partial(),
         Emit("aten.sum.dim_IntList", {Arg::Value(row), Arg::Ints(std::vector<int64_t>{dim}), Arg::Bool(false), Arg::None()},
              v.dtype, global_.value(y).int_sizes(), Placement::Partial(), &node));
  primary_[y] = Placement::Partial();
  return Ok();
}

// A reduction over the sharded factor: padding masked with 0, the ranks' results are addends.
Status Partitioner::Reduce(const Node& node, int lead, const Placement& p, const FactorRule& rule, bool* done) {
  if (rule.combiner == Combiner::kNone || node.results.size() != 1) return Ok();
  *done = true;
  const std::vector<ValueId> operands = node.Operands();
  const ir::Value& result = global_.value(node.results[0]);
  const int factor = rule.operands[lead][p.dim];
  std::vector<ValueId> local;
  for (size_t i = 0; i < operands.size(); ++i) {
    const auto it = std::find(rule.operands[i].begin(), rule.operands[i].end(), factor);
    if (it == rule.operands[i].end()) {
      ASSIGN_OR_RETURN(const ValueId v, GetV(operands[i]));
      local.push_back(v);
      continue;
    }
    Placement own = p;
    own.dim = static_cast<int>(it - rule.operands[i].begin());
    ASSIGN_OR_RETURN(const ValueId s, GetS(operands[i], own));
    local.push_back(static_cast<int>(i) == lead ? MaskRows(s, own, Arg::Int(0), &node) : s);
  }
  if (rule.combiner == Combiner::kMean) {
    const ir::Value& x = global_.value(operands[0]);
    const bool all = node.op == "aten.mean.default";
    const Arg dtype = node.args.back();
    const ValueId sum = all ? Emit("aten.sum.default", {Arg::Value(local[0]), dtype}, result.dtype, {}, Placement::Partial(), &node)
                            : Emit("aten.sum.dim_IntList", {Arg::Value(local[0]), node.args[1], node.args[2], dtype}, result.dtype,
                                   result.int_sizes(), Placement::Partial(), &node);
    const double count = static_cast<double>(x.numel()) / static_cast<double>(std::max<int64_t>(result.numel(), 1));
    Record(result.id, Placement::Partial(),
           Emit("aten.div.Scalar", {Arg::Value(sum), Arg::Float(count)}, result.dtype, result.int_sizes(), Placement::Partial(), &node));
  } else {
    RETURN_IF_ERROR(EmitLocal(node, local, {Placement::Partial()}));
  }
  primary_[result.id] = Placement::Partial();
  return Ok();
}

// Ops over the sharded dim that are compositions of reductions with a combiner.
Status Partitioner::Decompose(const Node& node, const Placement& p, bool* done) {
  const std::string_view name = ir::ShortName(node.op);
  const ValueId x = node.args.empty() || !node.args[0].is_value() ? ir::kNoValue : node.args[0].value;
  if (x == ir::kNoValue || !IsSharded(x)) return Ok();
  const ir::Value& in = global_.value(x);
  const ir::Value& out = global_.value(node.results[0]);
  const auto sizes_without = [&](const std::vector<int64_t>& dims) {
    std::vector<Expr> sizes = in.sizes;
    for (int64_t d : dims) sizes[ir::WrapDim(d, in.rank())] = Expr(1);
    return sizes;
  };

  if (name == "logsumexp") {
    // Each rank's own, one row of P, then the log-sum-exp of those; LibTorch's derivative both times.
    *done = true;
    ASSIGN_OR_RETURN(const ValueId s, GetS(x, p));
    const ValueId masked = MaskRows(s, p, Arg::Float(-std::numeric_limits<double>::infinity()), &node);
    std::vector<int64_t> sizes;
    for (const Expr& size : sizes_without(node.args[1].int_values())) sizes.push_back(size.value());
    ValueId part = Emit(node.op, {Arg::Value(masked), node.args[1], Arg::Bool(true)}, out.dtype, sizes,
                        Placement::Sharded(p.dim, ranks_, 1), &node);
    sizes[p.dim] = ranks_;
    part = Emit("autosp.all_gather", {Arg::Value(part), Arg::Int(p.dim), Arg::Int(ranks_), Arg::Bool(false)}, out.dtype,
                sizes, Placement::Replicated(), &node);
    Record(out.id, Placement::Replicated(), Emit(node.op, {Arg::Value(part), node.args[1], node.args[2]}, out.dtype,
                                                 out.int_sizes(), Placement::Replicated(), &node));
    return Ok();
  }
  if (name == "softmax" || name == "log_softmax") {
    *done = true;
    const int64_t dim = node.args[1].int_value();
    ValueId y = x;
    if (in.dtype != out.dtype) {
      ASSIGN_OR_RETURN(y, Global("aten.to.dtype", {Arg::Value(y), Arg::Type(out.dtype), Arg::Bool(false), Arg::Bool(false), Arg::None()},
                                 out.dtype, in.sizes, node));
    }
    const std::vector<int64_t> dims = {dim};
    ASSIGN_OR_RETURN(const ValueId l, Global("aten.logsumexp.default", {Arg::Value(y), Arg::Ints(dims), Arg::Bool(true)}, out.dtype,
                                             sizes_without(dims), node));
    ASSIGN_OR_RETURN(y, Global("aten.sub.Tensor", {Arg::Value(y), Arg::Value(l), Arg::Int(1)}, out.dtype, in.sizes, node));
    if (name == "softmax") {
      ASSIGN_OR_RETURN(y, Global("aten.exp.default", {Arg::Value(y)}, out.dtype, in.sizes, node));
    }
    Same(out.id, y);
    return Ok();
  }
  if (node.op == "aten.var.correction" || node.op == "aten.std.correction" || node.op == "aten.var_mean.correction") {
    *done = true;
    std::vector<int64_t> dims;
    if (node.args[1].kind == Arg::Kind::kIntList) dims = node.args[1].int_values();
    if (dims.empty()) {
      for (int d = 0; d < in.rank(); ++d) dims.push_back(d);
    }
    const double correction = node.args[2].is_none() ? 1 : node.args[2].number();
    const Arg keep = node.args[3];
    ASSIGN_OR_RETURN(const ValueId mean, Global("aten.mean.dim", {Arg::Value(x), Arg::Ints(dims), Arg::Bool(true), Arg::None()},
                                                in.dtype, sizes_without(dims), node));
    ASSIGN_OR_RETURN(const ValueId centred, Global("aten.sub.Tensor", {Arg::Value(x), Arg::Value(mean), Arg::Int(1)}, in.dtype, in.sizes, node));
    ASSIGN_OR_RETURN(const ValueId square, Global("aten.mul.Tensor", {Arg::Value(centred), Arg::Value(centred)}, in.dtype, in.sizes, node));
    ASSIGN_OR_RETURN(ValueId y, Global("aten.sum.dim_IntList", {Arg::Value(square), Arg::Ints(dims), keep, Arg::None()}, out.dtype, out.sizes, node));
    const double count = static_cast<double>(in.numel()) / static_cast<double>(out.numel()) - correction;
    ASSIGN_OR_RETURN(y, Global("aten.div.Scalar", {Arg::Value(y), Arg::Float(count)}, out.dtype, out.sizes, node));
    if (node.op == "aten.std.correction") {
      ASSIGN_OR_RETURN(y, Global("aten.sqrt.default", {Arg::Value(y)}, out.dtype, out.sizes, node));
    }
    Same(out.id, y);
    if (node.results.size() == 2) {
      const std::vector<Expr> sizes = global_.value(node.results[1]).sizes;
      ASSIGN_OR_RETURN(const ValueId m, Global("aten.reshape.default", {Arg::Value(mean), Arg::Ints(sizes)}, out.dtype, sizes, node));
      Same(node.results[1], m);
    }
    return Ok();
  }
  return Ok();
}

}  // namespace autospc::partition
