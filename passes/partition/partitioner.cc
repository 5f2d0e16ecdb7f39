#include "passes/partition/partitioner.h"

#include <algorithm>

namespace autospc::partition {

using ir::Arg;
using ir::kNoValue;
using ir::Node;
using ir::Placement;
using ir::ValueId;

namespace {

std::optional<int> DimOf(const std::vector<int>& dims, int factor) {
  const auto it = std::find(dims.begin(), dims.end(), factor);
  if (factor == FactorRule::kWhole || it == dims.end()) return std::nullopt;
  return static_cast<int>(it - dims.begin());
}

bool AnyFloating(const ir::Graph& graph, const Node& node) {
  return std::any_of(node.results.begin(), node.results.end(), [&](ValueId v) { return IsFloating(graph.value(v).dtype); });
}

}  // namespace

Partitioner::Partitioner(const ir::Graph& global, PassContext& ctx, Axis axis)
    : global_(global), ctx_(ctx), axis_(axis), ranks_(ctx.mesh().Size(axis)) {}

Result<ir::Graph> Partitioner::Run() {
  local_.name = global_.name;
  RETURN_IF_ERROR(Inputs());
  const std::vector<ir::NodeId> order(global_.nodes().begin(), global_.nodes().end());
  for (ir::NodeId id : order) RETURN_IF_ERROR(Process(id));
  RETURN_IF_ERROR(Outputs());
  local_.EliminateDeadCode();
  return std::move(local_);
}

Status Partitioner::Inputs() {
  bool found = false;
  for (const ir::GraphInput& in : global_.inputs) {
    const ir::Value& v = global_.value(in.value);
    const ValueId local = local_.AddInput(in, v.name, v.dtype, v.sizes, v.strides);
    Place(local, Placement::Replicated());
    Record(in.value, Placement::Replicated(), local);
    const int dim = axis_ == Axis::kDp ? in.batch_dim : in.seq_dim;
    if (dim < 0 || ranks_ == 1) continue;
    found = true;
    const int64_t length = v.int_sizes().at(dim);
    tags_[in.value] = Placement::Sharded(dim, length, (length + ranks_ - 1) / ranks_);
  }
  if (ranks_ > 1 && !found && axis_ == Axis::kDp) {
    return Error{Code::kBadInput, "no input has a batch dimension to shard", "", "leave dp out of the mesh"};
  }
  if (ranks_ > 1 && !found) {
    return Error{Code::kBadInput, "no input has a sequence dimension to shard", "", "name one with --shard INPUT:DIM"};
  }
  return Ok();
}

Status Partitioner::Process(ir::NodeId id) {
  const Node& node = global_.node(id);
  if (ranks_ > 1 && IsRandom(node)) {
    return Error{Code::kUnsupported, fmt::format("{} would draw other numbers on each rank", node.op), ir::Where(global_, node),
                 "use dropout, which is drawn by global position, or compile for one rank"};
  }
  const std::string_view name = ir::ShortName(node.op);
  if (node.op == "autosp.attention") return Attention(node);
  if (name == "dropout") return Dropout(node);
  bool done = false;
  if (name == "cross_entropy_loss" || name == "nll_loss" || name == "nll_loss_nd") {
    RETURN_IF_ERROR(CrossEntropy(node, &done));
    if (done) return Ok();
  }

  const std::vector<ValueId> operands = node.Operands();
  const bool any_sharded = std::any_of(operands.begin(), operands.end(), [&](ValueId v) { return IsSharded(v); });
  if (!any_sharded && std::any_of(operands.begin(), operands.end(), [&](ValueId v) { return IsPartial(v); })) {
    RETURN_IF_ERROR(ProcessPartial(node, &done));
    if (done) return Ok();
  }
  // Where each operand is sharded, or, at a floating-point op over replicated ones, would be: the work is
  // split from there on. Integer prologues (label shifts, positions) stay whole: they are O(S).
  std::vector<std::optional<Placement>> where(operands.size());
  bool start = false;
  for (size_t i = 0; i < operands.size(); ++i) {
    if (any_sharded) {
      if (IsSharded(operands[i])) where[i] = ShardOf(operands[i]);
    } else if (AnyFloating(global_, node) && tags_.contains(operands[i]) && !IsPartial(operands[i])) {
      const Placement& tag = tags_.at(operands[i]);
      if (tag.valid <= tag.block * ranks_) where[i] = tag;
    }
    start = start || where[i].has_value();
  }
  if (!start) return ProcessReplicated(node);

  if (IsReshape(node) && where[0]) return ProcessReshape(node, *where[0]);
  const auto rule = RuleOf(global_, node);
  const std::optional<int> lead = rule ? LeadOperand(node, *rule, where) : std::nullopt;
  if (lead) return ProcessSharded(node, *rule, *lead, *where[*lead]);
  if (!any_sharded) return ProcessReplicated(node);
  for (size_t i = 0; i < operands.size() && !done; ++i) {
    if (!where[i]) continue;
    RETURN_IF_ERROR(SliceRows(node, *where[i], &done));
    if (!done) RETURN_IF_ERROR(SelectRow(node, *where[i], &done));
    if (!done) RETURN_IF_ERROR(Decompose(node, *where[i], &done));
  }
  if (done) return Ok();
  return Gathered(node, rule ? fmt::format("the op mixes rows of the {}", subject()) : "the op has no partition rule");
}

// The sharded operand that decides: the first whose factor runs through to every result, else the first over
// whose factor partial results can be combined.
std::optional<int> Partitioner::LeadOperand(const Node& node, const FactorRule& rule,
                                            const std::vector<std::optional<Placement>>& where) const {
  std::optional<int> combined;
  for (size_t i = 0; i < where.size(); ++i) {
    if (!where[i]) continue;
    const int factor = rule.operands[i][where[i]->dim];
    if (factor == FactorRule::kWhole) continue;
    const bool through = std::all_of(rule.results.begin(), rule.results.end(), [&](const auto& dims) { return DimOf(dims, factor).has_value(); });
    if (through) return static_cast<int>(i);
    if (!combined && rule.combiner != Combiner::kNone && !rule.InResults(factor)) combined = static_cast<int>(i);
  }
  return combined;
}

Status Partitioner::ProcessReplicated(const Node& node) {
  for (size_t i = 0; i < node.results.size(); ++i) {
    if (const auto tag = TagOf(node, static_cast<int>(i))) tags_[node.results[i]] = *tag;
  }
  return Ok();  // evaluated when asked for
}

// How a replicated node's result would be sharded, from its operands' tags. A wrong or missing tag costs time,
// never a wrong number.
std::optional<Placement> Partitioner::TagOf(const Node& node, int result) const {
  const std::vector<ValueId> operands = node.Operands();
  const std::vector<int64_t> sizes = global_.value(node.results[result]).int_sizes();
  const std::string_view name = ir::ShortName(node.op);
  const auto rule = IsReshape(node) ? std::nullopt : RuleOf(global_, node);
  for (size_t i = 0; i < operands.size(); ++i) {
    const auto it = tags_.find(operands[i]);
    if (it == tags_.end()) continue;
    const Placement& tag = it->second;
    if (IsReshape(node)) {
      if (const auto to = MapReshape(tag, global_.value(operands[i]).int_sizes(), sizes)) return to;
      continue;
    }
    const int factor = rule ? rule->operands[i][tag.dim] : FactorRule::kWhole;
    if (const auto dim = rule ? DimOf(rule->results[result], factor) : std::nullopt) {
      Placement to = tag;
      to.dim = *dim;
      return to;
    }
    // Shifts: rows fall off or are added at an end, the rest are the sequence still.
    const bool shift = name == "slice" || name == "pad" || name == "constant_pad_nd" || name == "narrow" || !rule;
    if (shift && tag.outer == 1 && tag.inner == 1 && tag.dim < static_cast<int>(sizes.size()) &&
        sizes.size() == global_.value(operands[i]).sizes.size() && sizes[tag.dim] * 2 > tag.valid) {
      Placement to = tag;
      to.valid = sizes[tag.dim];
      return to;
    }
  }
  return std::nullopt;
}

Status Partitioner::ProcessReshape(const Node& node, const Placement& p) {
  const ValueId x = node.Operands()[0];
  const auto to = MapReshape(p, global_.value(x).int_sizes(), global_.value(node.results[0]).int_sizes());
  if (!to) return Gathered(node, fmt::format("the reshape splits the sharded {}", subject()));
  ASSIGN_OR_RETURN(const ValueId s, GetS(x, p));
  RETURN_IF_ERROR(EmitLocal(node, {s}, {*to}));
  primary_[node.results[0]] = *to;
  return Ok();
}

Status Partitioner::ProcessSharded(const Node& node, const FactorRule& rule, int lead, const Placement& p) {
  const std::vector<ValueId> operands = node.Operands();
  const int factor = rule.operands[lead][p.dim];
  if (!rule.InResults(factor)) {
    bool done = false;
    RETURN_IF_ERROR(Reduce(node, lead, p, rule, &done));
    return done ? Ok() : Gathered(node, "no way is known to combine partial results of this reduction");
  }
  std::vector<ValueId> local;
  for (size_t i = 0; i < operands.size(); ++i) {
    const auto dim = DimOf(rule.operands[i], factor);
    Placement own = p;
    if (dim) own.dim = *dim;
    if (IsSharded(operands[i]) && (!dim || !(ShardOf(operands[i]) == own))) {
      const ir::Value& v = global_.value(operands[i]);
      ctx_.notes.push_back({fmt::format("{}: operand %{} gathered", node.op, v.name),
                            "it is sharded on another dim than the op's first operand", node.source, v.bytes(), 0});
    }
    ASSIGN_OR_RETURN(const ValueId v, dim ? GetS(operands[i], own) : GetV(operands[i]));
    local.push_back(v);
  }
  std::vector<Placement> placements;
  for (size_t r = 0; r < node.results.size(); ++r) {
    placements.push_back(p);
    placements.back().dim = *DimOf(rule.results[r], factor);
    primary_[node.results[r]] = placements.back();
  }
  return EmitLocal(node, local, placements);
}

// An op over partial operands and no sharded one: it stays partial where it is linear in one of them.
Status Partitioner::ProcessPartial(const Node& node, bool* done) {
  const std::vector<ValueId> operands = node.Operands();
  const std::string_view name = ir::ShortName(node.op);
  const bool floating = AnyFloating(global_, node);
  std::vector<int> partial;
  for (size_t i = 0; i < operands.size(); ++i) {
    if (IsPartial(operands[i])) partial.push_back(static_cast<int>(i));
  }
  std::vector<ValueId> local(operands.size());
  if ((name == "add" || name == "sub") && floating) {
    for (size_t i = 0; i < operands.size(); ++i) {
      if (IsPartial(operands[i])) {
        local[i] = forms_[operands[i]].p;
        continue;
      }
      // P + R: the R part counts once.
      ASSIGN_OR_RETURN(const ValueId v, GetV(operands[i]));
      const ir::Value& value = local_.value(v);
      local[i] = Emit("autosp.first", {Arg::Value(v)}, value.dtype, value.int_sizes(), Placement::Partial(), &node);
    }
    if (operands.size() == 1) return Ok();  // P + number: the number would count P times
  } else {
    std::optional<int> linear = LinearOperand(node);
    if (name == "mul" && partial.front() == 1) linear = 1;
    const bool widening = (name == "to" || name == "_to_copy") && floating && IsFloating(global_.value(operands[0]).dtype) &&
                          ByteSize(global_.value(node.results[0]).dtype) >= ByteSize(global_.value(operands[0]).dtype);
    if (widening) linear = 0;
    if (!linear || partial.size() != 1 || partial.front() != *linear) return Ok();
    for (size_t i = 0; i < operands.size(); ++i) {
      if (static_cast<int>(i) == *linear) {
        local[i] = forms_[operands[i]].p;
        continue;
      }
      ASSIGN_OR_RETURN(const ValueId v, GetV(operands[i]));
      local[i] = v;
    }
  }
  RETURN_IF_ERROR(EmitLocal(node, local, std::vector<Placement>(node.results.size(), Placement::Partial())));
  for (ValueId v : node.results) primary_[v] = Placement::Partial();
  *done = true;
  return Ok();
}

// The op is computed whole on every rank, from gathered operands. Its result is replicated, and sliced again
// by the next op that works on rows.
Status Partitioner::Gathered(const Node& node, const std::string& why) {
  if (ctx_.strict) {
    return Error{Code::kUnsupported, fmt::format("{} can't be partitioned: {}", node.op, why), ir::Where(global_, node),
                 "compile without --strict to gather its operands and compute it whole on every rank"};
  }
  int64_t bytes = 0;
  for (ValueId v : node.Operands()) {
    if (IsSharded(v)) bytes += global_.value(v).bytes();
  }
  ctx_.notes.push_back({fmt::format("{} gathered and computed whole", node.op), why, node.source, bytes, 0});
  for (size_t r = 0; r < node.results.size(); ++r) {
    // A result of the operand's shape is most likely the sequence still.
    for (ValueId v : node.Operands()) {
      if (!IsSharded(v)) continue;
      const Placement& p = ShardOf(v);
      const std::vector<int64_t> from = global_.value(v).int_sizes(), to = global_.value(node.results[r]).int_sizes();
      if (IsReshape(node) || from.size() != to.size() || from[p.dim] != to[p.dim]) continue;
      tags_[node.results[r]] = p;
      break;
    }
  }
  return Ok();
}

Status Partitioner::Outputs() {
  for (const ir::GraphOutput& out : global_.outputs) {
    ASSIGN_OR_RETURN(const ValueId r, GetR(out.value));
    local_.outputs.push_back({r, out.kind, out.name});
  }
  return Ok();
}

Result<ValueId> Partitioner::Global(std::string op, std::vector<Arg> args, ir::DType dtype, std::vector<ir::Expr> sizes,
                                    const Node& like) {
  const ValueId v = global_.Emit(std::move(op), std::move(args), dtype, std::move(sizes), ir::kNoNode, &like);
  RETURN_IF_ERROR(Process(global_.value(v).producer));
  return v;
}

void Partitioner::Same(ValueId x, ValueId y) {
  forms_[x] = forms_[y];
  if (primary_.contains(y)) primary_[x] = primary_.at(y);
  if (tags_.contains(y)) tags_[x] = tags_.at(y);
}

}  // namespace autospc::partition
