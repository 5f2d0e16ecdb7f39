#include <algorithm>
#include <set>
#include <utility>

#include "passes/ir/placement_rules.h"
#include "passes/ir/verifier.h"

namespace autospc::ir {
namespace {

// An operand as one alternative has it: `kind` is a single kind.
struct Operand {
  size_t arg = 0;  // its position among the node's arguments
  ValueId value = kNoValue;
  KindSet kind = 0;
};

// What an op makes of operands of given kinds: the kinds that its results may have, or the rule that is broken.
struct Verdict {
  KindSet results = 0;
  std::string problem;  // empty: lawful
};

class PlacementVerifier {
 public:
  PlacementVerifier(const Graph& graph, Axis axis) : graph_(graph), axis_(axis), kinds_(graph.num_values(), 0) {}

  std::vector<std::string> Run() {
    bool placed = false;
    for (ValueId v = 0; v < graph_.num_values(); ++v) {
      if (!graph_.has_value(v)) continue;
      const Placement& p = PlacementOf(v);
      kinds_[v] = Bit(p.kind);
      placed |= kinds_[v] != 0;
      one_row_ |= p.is_sharded() && p.block == 1;
    }
    if (!placed) return {};
    for (const GraphInput& in : graph_.inputs) {
      if (kinds_[in.value] == 0) kinds_[in.value] = kR;
      const bool block = in.kind == InputKind::kState && kinds_[in.value] == kS;  // ZeRO's states
      if (kinds_[in.value] != kR && !block) Say(Describe(in.value) + ", and an input is R");
      if (in.requires_grad) differentiable_.insert(in.value);
    }
    for (const NodeId id : graph_.nodes()) {
      node_ = &graph_.node(id);
      OneNode();
    }
    node_ = nullptr;
    for (const GraphOutput& out : graph_.outputs) {
      if (out.kind == OutputKind::kUser || out.kind == OutputKind::kStateUpdate || (Kind(out.value) & kR)) continue;
      if (out.kind == OutputKind::kGradient && Kind(out.value) == kS) continue;  // the rank's block of it
      Say(Describe(out.value) + ", and an output on which all ranks must agree is R");
    }
    for (const ValueId v : apart_) {
      Say(fmt::format("of %{} each rank has updated its own block, and nothing gathers them", graph_.value(v).name));
    }
    return std::move(violations_);
  }

 private:
  void Say(const std::string& what) {
    std::string text = node_ ? node_->op : "graph";
    if (node_ && !node_->results.empty()) text += " of %" + graph_.value(node_->results.front()).name;
    if (node_ && !node_->source.empty()) text += fmt::format(" ({})", node_->source);
    const std::string along = axis_ == Axis::kSp ? "" : fmt::format(" (along {})", Name(axis_));
    violations_.push_back(text + ": " + what + along);
  }

  const Placement& PlacementOf(ValueId v) const { return graph_.value(v).placement_on(axis_); }

  // The kinds that a value may have now: an in-place all-reduce makes all of a storage replicated.
  KindSet Kind(ValueId v) const {
    const Value& value = graph_.value(v);
    return reduced_.contains(value.base == kNoValue ? v : value.base) ? kR : kinds_[v];
  }
  std::string Describe(ValueId v) const { return fmt::format("%{} is {}", graph_.value(v).name, KindSetText(Kind(v))); }

  // R and V differ by their cotangents alone, so a node that nothing will differentiate may take one for the other.
  bool Final() const { return node_->phase != Phase::kForward; }

  void OneNode() {
    const Node& n = *node_;
    const std::vector<ValueId> operands = n.Operands();
    const bool differentiable = !StopsGradient(n.op) && std::any_of(operands.begin(), operands.end(), [&](ValueId v) {
      return differentiable_.contains(v);
    });
    for (const ValueId v : n.results) {
      if (differentiable && IsFloating(graph_.value(v).dtype)) differentiable_.insert(v);
    }
    if (n.op == "autosp.all_gather_coalesced_") return GatherBlocks(operands);
    for (const ValueId v : operands) {
      if (apart_.contains(Root(v))) Say(fmt::format("reads %{}, of which each rank has another block anew", graph_.value(v).name));
    }
    const bool here = Covers(AxisOf(n), axis_);
    if (n.op == "autosp.all_reduce_" || n.op == "autosp.all_reduce_coalesced_") return here ? ReduceInPlace(operands) : void();
    if (n.op == "autosp.reduce_scatter_coalesced") return ScatterBlocks(operands);
    if (n.op == "autosp.adamw_shard_" || n.op == "autosp.sgd_shard_") return UpdateBlock();
    if (const Conversion* c = FindConversion(n, axis_)) return Convert(*c, operands);
    if (IsFill(n.op)) {
      const KindSet same = kR | kV | kS;
      return Results(IsZeroFill(n) ? same | kP : same, "the same value on each rank is no addend");
    }
    if (n.op == "autosp.accumulate_") return Accumulate(operands);
    if (IsEffectful(n.op)) return Update(operands);
    OneFactor(operands);
    const Verdict verdict = JudgeAll();
    if (!verdict.problem.empty()) Say(verdict.problem);
    Results(verdict.results, "its operands do not allow that");
  }

  // Results without a placement take what the rules allow; those with one must be among it.
  void Results(KindSet may, std::string_view why) {
    for (const ValueId v : node_->results) {
      // After a violation any kind may follow: one mistake is one line.
      const KindSet allowed = may ? may : kR | kV | kP | kS;
      // An integer or boolean has no cotangent and is never an addend.
      if (kinds_[v] == 0) kinds_[v] = IsFloating(graph_.value(v).dtype) || allowed == kP ? allowed : allowed & ~kP;
      if (!(kinds_[v] & allowed)) Say(fmt::format("the result {}, not {}: {}", Describe(v), KindSetText(allowed), why));
    }
  }

  void ReduceInPlace(const std::vector<ValueId>& operands) {
    for (const ValueId v : operands) {
      if (!(Kind(v) & (one_row_ ? kP | kS : kP))) Say(Describe(v) + ", not P: it is reduced twice or needs no reduction");
      const ValueId base = graph_.value(v).base;
      reduced_.insert(base == kNoValue ? v : base);
    }
  }

  ValueId Root(ValueId v) const { return graph_.value(v).base == kNoValue ? v : graph_.value(v).base; }

  // `block` is a rank's block of `whole`, flattened.
  void Block(const Value& block, const Value& whole) {
    const Placement& p = block.placement_on(axis_);
    const int64_t n = whole.numel();
    if (block.rank() == 1 && p == Placement::Sharded(0, n, p.block) && p.block <= n) return;
    Say(fmt::format("%{} is {}, no block of the {} elements of %{}", block.name, p.ToString(), n, whole.name));
  }

  void ScatterBlocks(const std::vector<ValueId>& operands) {
    for (size_t i = 0; i < operands.size(); ++i) {
      if (!(Kind(operands[i]) & (one_row_ ? kP | kS : kP))) Say(Describe(operands[i]) + ", not P: it needs no reduction");
      if (i < node_->results.size()) Block(graph_.value(node_->results[i]), graph_.value(operands[i]));
    }
    if (operands.size() != node_->results.size()) Say("it has a result for each operand");
  }

  // The parameter is R before; gradient and states are the rank's blocks, scalars R.
  void UpdateBlock() {
    const ValueId p = node_->args.front().value;
    if (!(Kind(p) & kR)) Say(Describe(p) + ", and each rank updates its own block of an R parameter");
    for (size_t i = 1; i < node_->args.size(); ++i) {
      if (!node_->args[i].is_value()) continue;
      const ValueId v = node_->args[i].value;
      if (graph_.value(v).rank() > 0) {
        Block(graph_.value(v), graph_.value(p));
      } else if (!(Kind(v) & kR)) {
        Say(Describe(v) + ", and an update is of one kind only if its numbers are R");
      }
    }
    apart_.insert(Root(p));
  }

  void GatherBlocks(const std::vector<ValueId>& operands) {
    for (const ValueId v : operands) {
      if (apart_.erase(Root(v)) == 0) Say(fmt::format("%{} is the same on all ranks already", graph_.value(v).name));
    }
  }

  // A sum over micro-batches is of the kind of what is added up.
  void Accumulate(const std::vector<ValueId>& operands) {
    const ValueId sum = operands.front(), x = operands.back();
    if (!(Kind(sum) & Kind(x))) return Say(Describe(sum) + ", and " + Describe(x) + ", which is added to it");
    kinds_[sum] = Kind(sum) & Kind(x);
  }

  // Ops that write: updates of parameters, buffers and states, the same on all ranks.
  void Update(const std::vector<ValueId>& operands) {
    for (const ValueId v : operands) {
      if (!(Kind(v) & kR)) Say(Describe(v) + ", and an update is the same on all ranks only if its operands are R");
    }
    Results(kR, "an update is the same on all ranks");
  }

  void Convert(const Conversion& c, const std::vector<ValueId>& operands) {
    const Node& n = *node_;
    if (operands.empty() || n.results.size() != 1) return Say("a conversion has one operand and one result");
    const ValueId x = operands.front(), y = n.results.front();
    KindSet from = c.from;
    if (Final() && (from & (kR | kV))) from |= kR | kV;
    if (one_row_ && (from & kP)) from |= kS;
    if (!(Kind(x) & from)) Say(fmt::format("{}, not {}", Describe(x), KindSetText(c.from)));
    const bool keeps = n.op == "autosp.stop_gradient";
    Results(keeps ? Kind(x) : c.to, "that is what the conversion makes");
    const Placement &px = PlacementOf(x), &py = PlacementOf(y);
    if (keeps && px.kind == py.kind && px != py) {
      Say(fmt::format("the result is {}, the operand {}", py.ToString(), px.ToString()));
    } else if (n.op == "autosp.shard" || n.op == "autosp.reduce_scatter") {
      Rows("the result", py, 1, 2, py.block);
    } else if (n.op == "autosp.own_block") {
      Block(graph_.value(y), graph_.value(x));
    } else if (n.op == "autosp.all_gather" || n.op == "autosp.mask") {
      Rows("the operand", px, 1, 2, px.valid);
    } else if (n.op == "autosp.all_to_all") {
      Rows("the operand", px, 1, 2, px.valid);
      Rows("the result", py, 3, 4, py.block);
    } else if (n.op == "autosp.pad_last") {
      Rows("the result", py, 1, 2, py.valid);
      if (px.is_sharded() && py.is_sharded() && (px.block != py.block || px.dim != py.dim)) {
        Say("the result lies otherwise than the operand");
      }
    }
  }

  // The op's arguments must say what the placement says: the dim, and `rows` (its block or its valid length).
  void Rows(std::string_view what, const Placement& p, size_t dim_arg, size_t rows_arg, int64_t rows) {
    if (!p.is_sharded()) return;
    const std::vector<Arg>& args = node_->args;
    const auto is_int = [&](size_t i) {
      return i < args.size() && args[i].kind == Arg::Kind::kInt && args[i].i.is_const();
    };
    if (!is_int(dim_arg) || !is_int(rows_arg)) return Say("its dim and length are no numbers");
    if (p.outer != 1) {
      Say(fmt::format("{} is {}: a dim with an outer factor must be unflattened first", what, p.ToString()));
    } else if (args[dim_arg].int_value() != p.dim || args[rows_arg].int_value() != rows * p.inner) {
      Say(fmt::format("{} is {}, its arguments say dim {} and {} rows", what, p.ToString(), args[dim_arg].int_value(),
                      args[rows_arg].int_value()));
    }
  }

  // All sharded operands of an op lie on the same factor; attention's query and kv heads are two by nature, and one
  // row a rank (its own log-sum-exp, say) goes with all rows of that rank. Tiles of rows are put one behind the other.
  void OneFactor(const std::vector<ValueId>& operands) {
    if (node_->op.starts_with("autosp.attention") || node_->op == "autosp.sum_of_squares") return;
    const Value* first = nullptr;
    for (const ValueId id : operands) {
      const Value& v = graph_.value(id);
      const Placement& p = v.placement_on(axis_);
      if (!p.is_sharded() || p.block == 1) continue;
      if (node_->op == "aten.cat.default" && WrapDim(node_->args[1].int_value(), v.rank()) == p.dim) continue;
      if (!first) {
        first = &v;
      } else if (const Placement& q = first->placement_on(axis_); p.valid != q.valid || p.block != q.block) {
        return Say(fmt::format("%{} and %{} are sharded differently: {} and {}", first->name, v.name, q.ToString(), p.ToString()));
      }
    }
  }

  // Judges every combination of kinds that the operands may have; the node is wrong if none is lawful.
  Verdict JudgeAll() const {
    std::vector<Operand> operands;
    for (size_t i = 0; i < node_->args.size(); ++i) {
      const Arg& a = node_->args[i];
      std::vector<ValueId> values = a.kind == Arg::Kind::kValueList ? a.values : std::vector<ValueId>();
      if (a.is_value()) values.push_back(a.value);
      for (const ValueId v : values) {
        if (v != kNoValue) operands.push_back({i, v, 0});
      }
    }
    if (operands.empty()) return {kR | kV | kS, ""};
    int open = 0;
    for (const Operand& o : operands) {
      const KindSet k = Kind(o.value);
      open += (k & (k - 1)) != 0;
    }
    // Long lists (cat, pack) stand or fall together: there one kind for all open operands is enough.
    constexpr int kMostOpen = 4;
    Verdict all;
    std::string first_problem;
    const auto judge = [&] {
      const Verdict one = Judge(operands);
      if (one.problem.empty()) all.results |= one.results;
      if (first_problem.empty()) first_problem = one.problem;
    };
    if (open > kMostOpen) {
      for (const KindSet wish : {kS, kP, kV, kR}) {
        for (Operand& o : operands) {
          const KindSet k = Kind(o.value);
          o.kind = (k & wish) ? wish : k & (~k + 1u);
        }
        judge();
      }
    } else {
      Enumerate(operands, 0, judge);
    }
    if (all.results == 0) all.problem = first_problem;
    return all;
  }
  template <typename F>
  void Enumerate(std::vector<Operand>& operands, size_t from, const F& judge) const {
    if (from == operands.size()) return judge();
    for (const KindSet kind : {kS, kV, kR, kP}) {
      if (!(Kind(operands[from].value) & kind)) continue;
      operands[from].kind = kind;
      Enumerate(operands, from + 1, judge);
    }
  }

  Verdict Judge(const std::vector<Operand>& operands) const {
    KindSet kinds = 0;
    for (const Operand& o : operands) kinds |= o.kind;
    return kinds & kP ? JudgePartial(operands, kinds) : JudgeLocal(operands, kinds);
  }

  // addmm(sum, a, b) with a partial sum and a product over sharded rows, itself partial: add(sum, mm(a, b)).
  bool AddsProductOfRows(const std::vector<Operand>& operands) const {
    if (LinearityOf(*node_).mode != Linearity::Mode::kAffine || operands.size() != 3) return false;
    return operands[0].kind == kP && operands[1].kind == kS && operands[2].kind == kS;
  }

  // Some operand is partial: the op must be linear in what is, and its result is partial.
  Verdict JudgePartial(const std::vector<Operand>& operands, KindSet kinds) const {
    if (AddsProductOfRows(operands)) return {kP, ""};
    if (kinds & kS) return {0, "a partial operand meets a sharded one: reduce-scatter it, or all-reduce and vary it"};
    const Node& n = *node_;
    const Linearity linear = LinearityOf(n);
    const std::string_view name = ShortName(n.op);
    uint32_t partial = 0, fixed = 0;  // positions that hold a partial operand, and anything else that counts
    int count = 0;
    const Value* first = nullptr;
    for (size_t i = 0; i < n.args.size() && i < 32; ++i) {
      if (n.args[i].is_number()) fixed |= 1u << i;
    }
    for (const Operand& o : operands) {
      if (o.arg >= 32) continue;
      if (o.kind != kP) {
        fixed |= 1u << o.arg;
        continue;
      }
      partial |= 1u << o.arg;
      ++count;
      if (!first) first = &graph_.value(o.value);
    }
    bool lawful = false;
    switch (linear.mode) {
      case Linearity::Mode::kNone:
        break;
      case Linearity::Mode::kOne:  // a bias would be added on every rank
        lawful = count == 1 && (partial & ~linear.positions) == 0 && !(name == "linear" && (fixed >> 2 & 1));
        break;
      case Linearity::Mode::kAll:
        lawful = (partial & ~linear.positions) == 0 && (fixed & linear.positions) == 0;
        break;
      case Linearity::Mode::kAffine:
        lawful = count == 2 && (partial == 0b011 || partial == 0b101);
        break;
    }
    if (!lawful) {
      return {0, fmt::format("%{} is P, and the op is not linear in its partial operands (a replicated addend passes "
                             "vary and first; else reduce before it)",
                             first->name)};
    }
    const Value& result = graph_.value(n.results.front());
    if (!Final() && (name == "to" || name == "_to_copy") && ByteSize(result.dtype) < ByteSize(first->dtype)) {
      return {0, fmt::format("%{} is P, and a narrower cast rounds every addend", first->name)};
    }
    return {kP, ""};
  }

  // No operand is partial.
  Verdict JudgeLocal(const std::vector<Operand>& operands, KindSet kinds) const {
    if (!Final() && (kinds & (kV | kS))) {
      for (const Operand& o : operands) {
        if (o.kind != kR || !differentiable_.contains(o.value)) continue;
        return {0,
                Describe(o.value) + " and meets values that differ from rank to rank: it passes vary or shard first"};
      }
    }
    KindSet may = kinds & kS ? kS : kinds & kV ? kV : kR;
    if ((kinds & kS) && (MayReduce(node_->op) || one_row_)) may |= kP;
    // A block of what is repeated along the sharded dim is the rank's own value repeated; the backward pass sums over it.
    if ((kinds & (Final() ? kR | kV : kV)) && IsBroadcast(node_->op)) may |= kS;
    return {may, ""};
  }

  const Graph& graph_;
  const Axis axis_;
  const Node* node_ = nullptr;
  std::vector<KindSet> kinds_;  // by value
  std::vector<std::string> violations_;
  // Some rank's block is one row: LibTorch leaves out the sum over it, and any op may stand where it would be.
  bool one_row_ = false;
  std::set<ValueId> apart_;           // storages of which each rank has updated its own block
  std::set<ValueId> reduced_;         // storages that an in-place all-reduce has made replicated
  std::set<ValueId> differentiable_;  // values that depend on a parameter with a gradient
};

}  // namespace

std::vector<std::string> VerifyPlacements(const Graph& graph) {
  std::vector<std::string> violations = PlacementVerifier(graph, Axis::kSp).Run();
  for (std::string& text : PlacementVerifier(graph, Axis::kDp).Run()) violations.push_back(std::move(text));
  return violations;
}

}  // namespace autospc::ir
