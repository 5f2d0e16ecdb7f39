#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "passes/ir/placement_rules.h"
#include "passes/ir/verifier.h"

namespace autospc::ir {
namespace {

class PlacementVerifier {
 public:
  explicit PlacementVerifier(const Graph& graph) : graph_(graph) {}

  std::vector<std::string> Run() {
    bool placed = false;
    for (ValueId v = 0; v < graph_.num_values(); ++v) {
      placed |= graph_.has_value(v) && !graph_.value(v).placement.is_none();
    }
    if (!placed) return {};
    for (const GraphInput& in : graph_.inputs) {
      const Value& v = graph_.value(in.value);
      if (!v.placement.is_replicated()) Report(v.name, "is an input and not replicated", v.placement);
      if (in.requires_grad) differentiable_.insert(in.value);
    }
    for (const NodeId id : graph_.nodes()) {
      node_ = &graph_.node(id);
      OneNode();
    }
    node_ = nullptr;
    for (const GraphOutput& out : graph_.outputs) {
      const Value& v = graph_.value(out.value);
      if (out.kind == OutputKind::kUser || out.kind == OutputKind::kStateUpdate || Kind(out.value) == kR) continue;
      Report(v.name, "is an output on which all ranks must agree", v.placement);
    }
    return std::move(violations_);
  }

 private:
  void Say(std::string what) {
    std::string text = node_ ? node_->op : "graph";
    if (node_ && !node_->results.empty()) text += " of %" + graph_.value(node_->results.front()).name;
    if (node_ && !node_->source.empty()) text += fmt::format(" ({})", node_->source);
    violations_.push_back(text + ": " + what);
  }
  void Report(std::string_view value, std::string_view what, const Placement& p) {
    Say(fmt::format("%{} {}: {}", value, what, p.ToString()));
  }

  // The kind that a value has now: an in-place all-reduce makes everything in its storage replicated.
  KindSet Kind(ValueId v) const {
    const Value& value = graph_.value(v);
    if (reduced_.contains(value.base == kNoValue ? v : value.base)) return kR;
    return Bit(value.placement.kind);
  }
  std::string Describe(ValueId v) const { return fmt::format("%{} is {}", graph_.value(v).name, KindSetText(Kind(v))); }

  void OneNode() {
    const Node& n = *node_;
    const std::vector<ValueId> operands = n.Operands();
    if (!StopsGradient(n.op) && std::any_of(operands.begin(), operands.end(), [&](ValueId v) { return differentiable_.contains(v); })) {
      for (const ValueId v : n.results) {
        if (IsFloating(graph_.value(v).dtype)) differentiable_.insert(v);
      }
    }
    if (n.op == "autosp.all_reduce_") return ReduceInPlace(operands);
    if (const Conversion* c = FindConversion(n)) return Convert(*c, operands);
    if (IsFill(n.op)) return Fill();
    if (IsEffectful(n.op)) return Update(operands);
    KindSet kinds = 0;
    for (const ValueId v : operands) kinds |= Kind(v);
    if (kinds & kP) {
      Partial(kinds);
    } else {
      Local(operands, kinds);
    }
  }

  void ReduceInPlace(const std::vector<ValueId>& operands) {
    for (const ValueId v : operands) {
      if (Kind(v) != kP) Say(Describe(v) + ", not P: it is reduced twice or needs no reduction");
      const ValueId base = graph_.value(v).base;
      reduced_.insert(base == kNoValue ? v : base);
    }
  }

  // Ops that write: updates of parameters and states, the same on all ranks.
  void Update(const std::vector<ValueId>& operands) {
    for (const ValueId v : operands) {
      if (Kind(v) != kR) Say(Describe(v) + ", but an update that is the same on all ranks needs R");
    }
  }

  void Fill() {
    const KindSet may = IsZeroFill(*node_) ? kR | kV | kS | kP : kR | kV | kS;
    for (const ValueId v : node_->results) {
      if (!(Kind(v) & may)) Say(Describe(v) + ", but the same value on each rank is no addend");
    }
  }

  // R and V differ by their cotangents alone, so a node that nothing will differentiate may take one for the other.
  bool Final() const { return node_->phase != Phase::kForward; }

  void Convert(const Conversion& c, const std::vector<ValueId>& operands) {
    const Node& n = *node_;
    if (operands.empty() || n.results.size() != 1) return Say("a conversion has one operand and one result");
    const ValueId x = operands.front(), y = n.results.front();
    KindSet from = c.from;
    if (Final() && (from & (kR | kV))) from |= kR | kV;
    if (!(Kind(x) & from)) return Say(fmt::format("{}, not {}", Describe(x), KindSetText(c.from)));
    if (!(Kind(y) & c.to)) return Say(fmt::format("the result {}, not {}", Describe(y), KindSetText(c.to)));
    const Placement &px = graph_.value(x).placement, &py = graph_.value(y).placement;
    if (n.op == "autosp.stop_gradient" && px != py) {
      Say(fmt::format("the result is {}, the operand {}", py.ToString(), px.ToString()));
    } else if (n.op == "autosp.shard" || n.op == "autosp.reduce_scatter") {
      Rows("the result", py, 1, 2, py.block);
    } else if (n.op == "autosp.all_gather") {
      Rows("the operand", px, 1, 2, px.valid);
    } else if (n.op == "autosp.all_to_all") {
      Rows("the operand", px, 1, 2, px.valid);
      Rows("the result", py, 3, 4, py.block);
    } else if (n.op == "autosp.mask") {
      Rows("the operand", px, 1, 2, px.valid);
    } else if (n.op == "autosp.pad_last") {
      Rows("the result", py, 1, 2, py.valid);
      if (px.block != py.block || px.dim != py.dim) Say("the result lies otherwise than the operand");
    }
  }

  // The op's arguments must say what the placement says: the dim, and `rows` (its block or its valid length).
  void Rows(std::string_view what, const Placement& p, size_t dim_arg, size_t rows_arg, int64_t rows) {
    const std::vector<Arg>& args = node_->args;
    const auto is_int = [&](size_t i) { return i < args.size() && args[i].kind == Arg::Kind::kInt && args[i].i.is_const(); };
    if (!is_int(dim_arg) || !is_int(rows_arg)) return Say("its dim and length are no numbers");
    if (p.outer != 1) {
      Say(fmt::format("{} is {}: a dim with an outer factor must be unflattened first", what, p.ToString()));
    } else if (args[dim_arg].int_value() != p.dim || args[rows_arg].int_value() != rows * p.inner) {
      Say(fmt::format("{} is {}, its arguments say dim {} and {} rows", what, p.ToString(),
                      args[dim_arg].int_value(), args[rows_arg].int_value()));
    }
  }

  // Some operand is partial: the op must be linear in what is, and its result is partial.
  void Partial(KindSet kinds) {
    const Node& n = *node_;
    if (kinds & kS) Say("a partial operand meets a sharded one: reduce-scatter it, or all-reduce and vary it");
    const Linearity linear = LinearityOf(n);
    uint32_t partial = 0, tensor = 0, number = 0;
    int partial_values = 0;  // also counts inside a list: einsum of two partial operands is not linear
    std::string first;
    for (size_t i = 0; i < n.args.size(); ++i) {
      const Arg& a = n.args[i];
      if (a.is_number()) number |= 1u << i;
      std::vector<ValueId> values = a.kind == Arg::Kind::kValueList ? a.values : std::vector<ValueId>();
      if (a.is_value()) values.push_back(a.value);
      for (const ValueId v : values) {
        if (v == kNoValue) continue;
        tensor |= 1u << i;
        if (Kind(v) != kP) {
          if (linear.mode == Linearity::Mode::kAll && (linear.positions >> i & 1)) number |= 1u << i;
          continue;
        }
        partial |= 1u << i;
        ++partial_values;
        if (first.empty()) first = graph_.value(v).name;
      }
    }
    const uint32_t wanted = linear.positions;
    bool lawful = false;
    switch (linear.mode) {
      case Linearity::Mode::kNone: break;
      case Linearity::Mode::kOne: {
        const bool bias = ShortName(n.op) == "linear" && (tensor >> 2 & 1);  // a bias would be added on every rank
        lawful = partial_values == 1 && (partial & ~wanted) == 0 && !bias;
        break;
      }
      case Linearity::Mode::kAll: lawful = (partial & ~wanted) == 0 && (number & wanted) == 0; break;
      case Linearity::Mode::kAffine: lawful = partial_values == 2 && (partial == 0b011 || partial == 0b101); break;
    }
    if (!lawful) {
      Say(fmt::format("%{} is P, and the op is not linear in its partial operands (a replicated addend passes vary "
                      "and first; else reduce before it)", first));
    }
    for (const ValueId v : n.results) {
      const DType to = graph_.value(v).dtype;
      if (IsFloating(to) && Kind(v) != kP) Say(fmt::format("{}, but an operand is P", Describe(v)));
      const std::string_view name = ShortName(n.op);
      if (!Final() && (name == "to" || name == "_to_copy") && graph_.FindValue(first) != kNoValue &&
          ByteSize(to) < ByteSize(graph_.value(graph_.FindValue(first)).dtype)) {
        Say(fmt::format("%{} is P, and a narrower cast rounds every addend", first));
      }
    }
  }

  // No operand is partial.
  void Local(const std::vector<ValueId>& operands, KindSet kinds) {
    const Node& n = *node_;
    if (!Final() && (kinds & (kV | kS))) {
      for (const ValueId v : operands) {
        if (Kind(v) == kR && differentiable_.contains(v)) {
          Say(fmt::format("{} and meets values that differ from rank to rank: it passes vary or shard first", Describe(v)));
        }
      }
    }
    OneFactor(operands);
    KindSet may = kinds & kS ? kS : kinds & kV ? kV : kR;
    if ((kinds & kS) && MayReduce(n.op)) may |= kP;
    if (Final() && (kinds & (kR | kV)) && IsBroadcast(n.op)) may |= kS;
    if (operands.empty()) may = kR | kV | kS;
    for (const ValueId v : n.results) {
      if (!(Kind(v) & may)) {
        Say(fmt::format("the result {}, but of operands that are {} it is {}", Describe(v), KindSetText(kinds), KindSetText(may)));
      }
    }
  }

  // All sharded operands of an op lie on the same factor.
  void OneFactor(const std::vector<ValueId>& operands) {
    const Value* first = nullptr;
    for (const ValueId id : operands) {
      const Value& v = graph_.value(id);
      if (Kind(id) != kS) continue;
      if (!first) {
        first = &v;
      } else if (v.placement.valid != first->placement.valid || v.placement.block != first->placement.block) {
        return Say(fmt::format("%{} and %{} are sharded differently: {} and {}", first->name, v.name,
                               first->placement.ToString(), v.placement.ToString()));
      }
    }
  }

  const Graph& graph_;
  const Node* node_ = nullptr;
  std::vector<std::string> violations_;
  std::set<ValueId> reduced_;         // storages that an in-place all-reduce has made replicated
  std::set<ValueId> differentiable_;  // values that depend on a parameter with a gradient
};

}  // namespace

std::vector<std::string> VerifyPlacements(const Graph& graph) { return PlacementVerifier(graph).Run(); }

}  // namespace autospc::ir
