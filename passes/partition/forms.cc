// Values in the form that is asked for, and the conversions between forms.
#include "passes/partition/partitioner.h"

#include <algorithm>

namespace autospc::partition {

using ir::Arg;
using ir::kNoValue;
using ir::Node;
using ir::Placement;
using ir::PlacementKind;
using ir::ValueId;

namespace {

std::vector<ir::Expr> Exprs(const std::vector<int64_t>& v) { return {v.begin(), v.end()}; }

// The node's arguments with its operands, in order, replaced.
std::vector<Arg> WithOperands(const Node& node, const std::vector<ValueId>& operands) {
  std::vector<Arg> args = node.args;
  size_t next = 0;
  for (Arg& a : args) {
    if (a.kind == Arg::Kind::kValue) a.value = operands[next++];
    if (a.kind != Arg::Kind::kValueList) continue;
    for (ValueId& v : a.values) {
      if (v != kNoValue) v = operands[next++];
    }
  }
  return args;
}

}  // namespace

bool Partitioner::IsSharded(ValueId x) const {
  const auto it = primary_.find(x);
  return it != primary_.end() && it->second.is_sharded();
}

bool Partitioner::IsPartial(ValueId x) const {
  const auto it = primary_.find(x);
  return it != primary_.end() && it->second.is_partial();
}

const Placement& Partitioner::ShardOf(ValueId x) const { return primary_.at(x); }

std::vector<int64_t> Partitioner::LocalSizes(ValueId global, const Placement& p) const {
  std::vector<int64_t> sizes = global_.value(global).int_sizes();
  if (p.is_sharded()) sizes.at(p.dim) = p.outer * p.block * p.inner;
  return sizes;
}

void Partitioner::Record(ValueId global, const Placement& p, ValueId local) {
  Forms& forms = forms_[global];
  if (axis_ == Axis::kSp) local_.value(local).dp_placement = global_.value(global).dp_placement.Within(p);
  switch (p.kind) {
    case PlacementKind::kReplicated: forms.r = local; break;
    case PlacementKind::kVarying: forms.v = local; break;
    case PlacementKind::kPartial: forms.p = local; break;
    default: forms.shards.emplace_back(p, local); break;
  }
}

ValueId Partitioner::Emit(std::string op, std::vector<Arg> args, ir::DType dtype, std::vector<int64_t> sizes,
                          const Placement& p, const Node* like) {
  if (axis_ != Axis::kSp && AxisArgument(op)) args.push_back(Arg::String(std::string(Name(axis_))));
  const ValueId v = local_.Emit(std::move(op), std::move(args), dtype, Exprs(sizes), ir::kNoNode, like);
  Place(v, p);
  return v;
}

ValueId Partitioner::OnFactor(const std::string& op, ValueId x, const Placement& p, int64_t rows_in, int64_t rows_out,
                              const Placement& result, const Node* like,
                              const std::function<std::vector<Arg>(int dim)>& make) {
  const ir::DType dtype = local_.value(x).dtype;
  std::vector<int64_t> sizes = local_.value(x).int_sizes();
  const bool plain = p.outer == 1 && p.inner == 1;
  const std::vector<int64_t> flat = sizes;
  int dim = p.dim;
  if (!plain) {
    sizes.erase(sizes.begin() + dim);
    sizes.insert(sizes.begin() + dim, {p.outer, rows_in, p.inner});
    // The placement on the way is the flattened one: only its geometry differs.
    const Placement own = local_.value(x).placement_on(axis_);
    x = Emit("aten.reshape.default", {Arg::Value(x), Arg::Ints(sizes)}, dtype, sizes,
             own.is_sharded() ? Placement::Sharded(dim + 1, p.valid, p.block) : own, like);
    ++dim;
  }
  std::vector<Arg> args = {Arg::Value(x)};
  for (Arg& a : make(dim)) args.push_back(std::move(a));
  sizes[dim] = rows_out;
  Placement on_way = result;
  if (!plain && result.is_sharded()) on_way = Placement::Sharded(dim, result.valid, result.block);
  ValueId y = Emit(op, std::move(args), dtype, sizes, on_way, like);
  if (plain) return y;
  std::vector<int64_t> back = flat;
  back[p.dim] = p.outer * rows_out * p.inner;
  return Emit("aten.reshape.default", {Arg::Value(y), Arg::Ints(back)}, dtype, back, result, like);
}

ValueId Partitioner::MaskRows(ValueId x, const Placement& p, const Arg& fill, const Node* like) {
  if (p.valid == p.block * ranks_) return x;  // there is no padding
  return OnFactor("autosp.mask", x, p, p.block, p.block, p, like,
                  [&](int dim) { return std::vector<Arg>{Arg::Int(dim), Arg::Int(p.valid), fill}; });
}

Result<ValueId> Partitioner::GetR(ValueId x) {
  if (forms_[x].r != kNoValue) return forms_[x].r;
  const Node* like = global_.producer(x);
  if (IsSharded(x)) {
    const Placement p = ShardOf(x);
    ASSIGN_OR_RETURN(const ValueId s, GetS(x, p));
    Record(x, Placement::Replicated(),
           OnFactor("autosp.all_gather", s, p, p.block, p.valid, Placement::Replicated(), like, [&](int dim) {
             return std::vector<Arg>{Arg::Int(dim), Arg::Int(p.valid), Arg::Bool(false)};
           }));
  } else if (IsPartial(x)) {
    const ir::Value& v = global_.value(x);
    Record(x, Placement::Replicated(),
           Emit("autosp.all_reduce", {Arg::Value(forms_[x].p), Arg::String("sum")}, v.dtype, v.int_sizes(),
                Placement::Replicated(), like));
  } else {
    RETURN_IF_ERROR(EmitWhole(*like));
  }
  return forms_[x].r;
}

Result<ValueId> Partitioner::GetV(ValueId x) {
  if (forms_[x].v != kNoValue) return forms_[x].v;
  const Node* like = global_.producer(x);
  const ir::Value& v = global_.value(x);
  if (IsSharded(x) && forms_[x].r == kNoValue) {
    const Placement p = ShardOf(x);
    ASSIGN_OR_RETURN(const ValueId s, GetS(x, p));
    Record(x, Placement::Varying(),
           OnFactor("autosp.all_gather", s, p, p.block, p.valid, Placement::Varying(), like, [&](int dim) {
             return std::vector<Arg>{Arg::Int(dim), Arg::Int(p.valid), Arg::Bool(true)};
           }));
  } else {
    ASSIGN_OR_RETURN(const ValueId r, GetR(x));
    Record(x, Placement::Varying(), Emit("autosp.vary", {Arg::Value(r)}, v.dtype, v.int_sizes(), Placement::Varying(), like));
  }
  return forms_[x].v;
}

Result<ValueId> Partitioner::GetS(ValueId x, const Placement& p) {
  for (const auto& [placement, local] : forms_[x].shards) {
    if (placement == p) return local;
  }
  const Node* like = global_.producer(x);
  ValueId s = kNoValue;
  if (IsPartial(x)) {
    s = OnFactor("autosp.reduce_scatter", forms_[x].p, p, p.valid, p.block, p, like, [&](int dim) {
      return std::vector<Arg>{Arg::Int(dim), Arg::Int(p.block), Arg::Bool(false)};
    });
  } else {
    // A longer chain than any model's is computed whole from there on: it would reach the stack's end.
    constexpr int kDeepest = 500;
    if (!IsSharded(x) && forms_[x].r == kNoValue && pushing_ < kDeepest) {
      ++pushing_;
      const auto pushed = Push(x, p);
      --pushing_;
      if (!pushed.ok()) return pushed.error();
      if (*pushed) return **pushed;
    }
    ASSIGN_OR_RETURN(const ValueId r, GetR(x));
    s = OnFactor("autosp.shard", r, p, p.valid, p.block, p, like, [&](int dim) {
      return std::vector<Arg>{Arg::Int(dim), Arg::Int(p.block), Arg::Bool(false)};
    });
  }
  Record(x, p, s);
  return s;
}

// The shard of a replicated value, computed from shards of its producer's operands where the producer treats
// the rows one by one; nullopt where it doesn't.
Result<std::optional<ValueId>> Partitioner::Push(ValueId x, const Placement& p) {
  const Node& node = *global_.producer(x);
  const std::vector<ValueId> operands = node.Operands();
  const int result = global_.value(x).result_index;
  const std::string_view name = ir::ShortName(node.op);
  const ir::Value& value = global_.value(x);

  if (name == "arange" && p.outer == 1 && p.inner == 1) {
    const bool has_start = node.op != "aten.arange.default";
    const Arg start = has_start ? node.args[0] : Arg::Int(0);
    const Arg step = node.op == "aten.arange.start_step" ? node.args[2] : Arg::Int(1);
    Record(x, p, Emit("autosp.positions", {start, step, Arg::Int(p.block), Arg::Int(p.valid), Arg::Type(value.dtype)},
                      value.dtype, {p.block}, p, &node));
    return std::optional(forms_[x].shards.back().second);
  }
  if (const auto sizes = SizesArgument(node)) {
    std::vector<Arg> args = node.args;
    args[*sizes] = Arg::Ints(LocalSizes(x, p));
    Record(x, p, Emit(node.op, std::move(args), value.dtype, LocalSizes(x, p), p, &node));
    return std::optional(forms_[x].shards.back().second);
  }

  std::vector<ValueId> local;
  std::vector<Placement> placements(node.results.size(), p);
  if (IsReshape(node)) {
    const auto up = MapReshape(p, value.int_sizes(), global_.value(operands[0]).int_sizes());
    if (!up) return std::optional<ValueId>();
    ASSIGN_OR_RETURN(const ValueId s, GetS(operands[0], *up));
    local = {s};
    for (size_t i = 1; i < operands.size(); ++i) local.push_back(s);  // view_as: the sizes are given outright
  } else {
    const auto rule = operands.empty() ? std::nullopt : RuleOf(global_, node);
    const int factor = rule ? rule->results[result][p.dim] : FactorRule::kWhole;
    if (factor == FactorRule::kWhole || name == "dropout") return std::optional<ValueId>();
    for (size_t r = 0; r < node.results.size(); ++r) {
      const auto& dims = rule->results[r];
      const auto it = std::find(dims.begin(), dims.end(), factor);
      if (it == dims.end()) return std::optional<ValueId>();
      placements[r].dim = static_cast<int>(it - dims.begin());
    }
    for (size_t i = 0; i < operands.size(); ++i) {
      const auto& dims = rule->operands[i];
      const auto it = std::find(dims.begin(), dims.end(), factor);
      if (it == dims.end()) {
        ASSIGN_OR_RETURN(const ValueId v, GetV(operands[i]));
        local.push_back(v);
        continue;
      }
      Placement up = p;
      up.dim = static_cast<int>(it - dims.begin());
      ASSIGN_OR_RETURN(const ValueId s, GetS(operands[i], up));
      local.push_back(s);
    }
  }
  RETURN_IF_ERROR(EmitLocal(node, local, placements));
  return std::optional(forms_[x].shards.back().second);
}

// What a whole node reads is whole by the same way, as far back as the graph is long: by a list, not down the stack.
Status Partitioner::EmitWhole(const Node& node) {
  struct Waiting {
    const Node* node;
    std::vector<ValueId> reads, operands;  // operands: of the first of them, made
  };
  std::vector<Waiting> waiting;
  waiting.push_back({&node, node.Operands(), {}});
  while (!waiting.empty()) {
    Waiting& w = waiting.back();
    if (w.operands.size() < w.reads.size()) {
      const ValueId v = w.reads[w.operands.size()];
      if (forms_[v].r == kNoValue && !IsSharded(v) && !IsPartial(v)) {
        const Node* maker = global_.producer(v);
        waiting.push_back({maker, maker->Operands(), {}});
      } else {
        ASSIGN_OR_RETURN(const ValueId r, GetR(v));
        w.operands.push_back(r);
      }
      continue;
    }
    RETURN_IF_ERROR(EmitLocal(*w.node, w.operands, std::vector<Placement>(w.node->results.size(), Placement::Replicated())));
    waiting.pop_back();
  }
  return Ok();
}

Status Partitioner::EmitLocal(const Node& node, const std::vector<ValueId>& operands,
                              const std::vector<Placement>& placements) {
  std::string op = node.op;
  std::vector<Arg> args = WithOperands(node, operands);
  std::vector<ValueId> results;
  for (size_t i = 0; i < node.results.size(); ++i) {
    const ir::Value& v = global_.value(node.results[i]);
    const ValueId local = local_.AddValue(v.name, v.dtype, Exprs(LocalSizes(v.id, placements[i])));
    Place(local, placements[i]);
    results.push_back(local);
    Record(v.id, placements[i], local);
  }
  if (IsReshape(node)) {  // a view of a permuted local layout may need a copy
    op = "aten.reshape.default";
    args = {Arg::Value(operands[0]), Arg::Ints(local_.value(results[0]).int_sizes())};
  } else if (ir::ShortName(op) == "expand" || ir::ShortName(op) == "broadcast_to") {
    args[1] = Arg::Ints(local_.value(results[0]).int_sizes());
  }
  Node& copy = local_.node(local_.AddNode(std::move(op), std::move(args), std::move(results)));
  copy.source = node.source;
  copy.module = node.module;
  copy.phase = node.phase;
  return Ok();
}

}  // namespace autospc::partition
