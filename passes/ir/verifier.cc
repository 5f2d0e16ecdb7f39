#include "passes/ir/verifier.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "passes/ir/dims.h"
#include "passes/ir/own_ops.h"
#include "passes/ir/printer.h"

namespace autospc::ir {
namespace {

// Words that mean something else where the text form has a symbol.
const std::set<std::string_view> kReserved = {"none",   "true",  "false", "inf",    "nan",    "values",
                                              "floats", "bools", "dtype", "layout", "device", "memory_format"};

bool IsName(std::string_view text, std::string_view extra) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           extra.find(c) != std::string_view::npos;
  });
}

bool IsConstant(const std::vector<Expr>& exprs) {
  return std::all_of(exprs.begin(), exprs.end(), [](const Expr& e) { return e.is_const(); });
}

// Bytes from a value's first element to the end of its last; nullopt if not known yet or beyond 64 bits.
std::optional<int64_t> Extent(const Value& v) {
  if (v.strides.size() != v.sizes.size() || !IsConstant(v.sizes) || !IsConstant(v.strides)) return std::nullopt;
  int64_t last = 0;
  for (size_t i = 0; i < v.sizes.size(); ++i) {
    int64_t step = 0;
    if (v.sizes[i].value() == 0) return 0;
    if (__builtin_mul_overflow(v.sizes[i].value() - 1, v.strides[i].value(), &step)) return std::nullopt;
    if (__builtin_add_overflow(last, step, &last)) return std::nullopt;
  }
  int64_t bytes = 0;
  if (__builtin_mul_overflow(last + 1, ByteSize(v.dtype), &bytes)) return std::nullopt;
  return bytes;
}

class Verifier {
 public:
  explicit Verifier(const Graph& graph) : graph_(graph) {}

  std::vector<std::string> Run() {
    Symbols();
    Inputs();
    for (const NodeId id : graph_.nodes()) OneNode(graph_.node(id));
    for (ValueId v = 0; v < graph_.num_values(); ++v) {
      if (graph_.has_value(v)) OneValue(graph_.value(v));
    }
    Outputs();
    for (const Axis axis : {Axis::kSp, Axis::kDp}) Placements(axis);
    return std::move(violations_);
  }

 private:
  template <typename... Args>
  void Report(fmt::format_string<Args...> format, Args&&... args) {
    violations_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  // "%name", or its number where there is no such value.
  std::string Ref(ValueId v) const {
    return graph_.has_value(v) ? "%" + graph_.value(v).name : fmt::format("value {}", v);
  }
  static std::string Along(Axis axis) { return axis == Axis::kSp ? "" : fmt::format(" along {}", autospc::Name(axis)); }
  std::string Where(const Node& n) const {
    std::string text = n.op;
    if (!n.results.empty()) text += fmt::format(" of {}", Ref(n.results.front()));
    if (!n.source.empty()) text += fmt::format(" ({})", n.source);
    return text;
  }

  void Symbols() {
    for (const auto& [name, range] : graph_.symbols) {
      if (!IsName(name, "") || (name.front() >= '0' && name.front() <= '9') || kReserved.contains(name)) {
        Report("symbol '{}' has a name that a size expression cannot hold", name);
      }
      if (range.max >= 0 && range.max < range.min) {
        Report("symbol '{}' has the empty range [{}, {}]", name, range.min, range.max);
      }
    }
  }

  void Expression(const Expr& e, const std::string& where) {
    if (e.is_const()) return;
    std::set<std::string> symbols;
    e.CollectSymbols(&symbols);
    for (const std::string& s : symbols) {
      if (!graph_.symbols.contains(s)) Report("{} uses symbol '{}', which is not declared", where, s);
    }
    if (!Expr::Parse(e.ToString()).ok()) Report("{} has '{}', which is no size expression", where, e.ToString());
  }

  // A tied weight's names: an alias shares another input's storage, never that of another alias.
  void Alias(const GraphInput& in) {
    const auto target = std::find_if(graph_.inputs.begin(), graph_.inputs.end(), [&](const GraphInput& other) {
      return &other != &in && other.name == in.alias_of && other.kind == in.kind;
    });
    if (target == graph_.inputs.end()) {
      Report("input '{}' is an alias of '{}', which is no other {}", in.name, in.alias_of, Name(in.kind));
    } else if (!target->alias_of.empty()) {
      Report("input '{}' is an alias of '{}', which is itself an alias", in.name, in.alias_of);
    }
  }

  void Inputs() {
    // Parameters, buffers and constants are found by name in one set of weights; user inputs and states have their own.
    std::set<std::pair<InputKind, std::string_view>> names;
    for (const GraphInput& in : graph_.inputs) {
      const bool weight = in.kind != InputKind::kUser && in.kind != InputKind::kState;
      if (!names.emplace(weight ? InputKind::kParameter : in.kind, in.name).second) {
        Report("input '{}' is given twice", in.name);
      }
      if (!in.alias_of.empty()) Alias(in);
      if (in.requires_grad && in.kind != InputKind::kParameter) {
        Report("input '{}' requires a gradient and is a {}, no parameter", in.name, Name(in.kind));
      }
      if (in.seq_dim != -1 && in.kind != InputKind::kUser) {
        Report("input '{}' has a sequence dim and is a {}, no user input", in.name, Name(in.kind));
      }
      if (!graph_.has_value(in.value)) {
        Report("input '{}' has {}, which does not exist", in.name, Ref(in.value));
        continue;
      }
      const Value& v = graph_.value(in.value);
      if (!defined_.insert(in.value).second) Report("{} is the value of two inputs", Ref(in.value));
      if (v.producer != kNoNode) Report("{} is an input and has a producer", Ref(in.value));
      if (in.requires_grad && !IsFloating(v.dtype)) {
        Report("input '{}' requires a gradient and is {}", in.name, ir::Name(v.dtype));
      }
      if (in.batch_dim != -1 && in.kind != InputKind::kUser) {
        Report("input '{}' has a batch dim and is a {}, no user input", in.name, Name(in.kind));
      }
      if (in.batch_dim < -1 || in.batch_dim >= v.rank()) {
        Report("input '{}' has batch dim {} of {}", in.name, in.batch_dim, v.rank());
      }
      if (in.seq_dim < -1 || in.seq_dim >= v.rank()) {
        Report("input '{}' has sequence dim {} of {}", in.name, in.seq_dim, v.rank());
      }
    }
  }

  void OneNode(const Node& n) {
    const std::string where = Where(n);
    if (n.op.empty()) Report("a node has no op");
    for (const Arg& a : n.args) {
      if (a.kind == Arg::Kind::kInt) Expression(a.i, where);
      if (a.kind == Arg::Kind::kIntList) {
        for (const Expr& e : a.ints) Expression(e, where);
      }
    }
    const bool reduces = n.op == "autosp.all_reduce_" || n.op == "autosp.all_reduce_coalesced_";
    for (const ValueId v : n.Operands()) {
      for (const Axis axis : {Axis::kSp, Axis::kDp}) {
        if (!reduces || !Covers(AxisOf(n), axis) || !graph_.has_value(v)) continue;
        reduced_.emplace(axis, graph_.value(v).base == kNoValue ? v : graph_.value(v).base);
      }
      if (!graph_.has_value(v)) {
        Report("{} uses {}, which does not exist", where, Ref(v));
      } else if (!defined_.contains(v)) {
        Report("{} uses {} before its definition", where, Ref(v));
      }
    }
    for (size_t i = 0; i < n.results.size(); ++i) {
      const ValueId id = n.results[i];
      if (!graph_.has_value(id)) {
        Report("{} has the result {}, which does not exist", where, Ref(id));
        continue;
      }
      const Value& v = graph_.value(id);
      if (v.producer != n.id) Report("{} has the result {}, which names another producer", where, Ref(id));
      if (v.result_index != static_cast<int>(i)) {
        Report("{} has {} as result {}, which says that it is result {}", where, Ref(id), i, v.result_index);
      }
      if (!defined_.insert(id).second) Report("{} defines {} a second time", where, Ref(id));
    }
    for (const std::string& wrong : {WrongDims(graph_, n), WrongOwnOp(graph_, n)}) {
      if (!wrong.empty()) Report("{}: {}", where, wrong);
    }
    // Bases come after all results: one result may be a view of another.
    for (const ValueId id : n.results) {
      if (!graph_.has_value(id)) continue;
      const ValueId base = graph_.value(id).base;
      if (graph_.has_value(base) && !defined_.contains(base)) {
        Report("{} is a view of {}, which is defined later", Ref(id), Ref(base));
      }
    }
  }

  void OneValue(const Value& v) {
    const std::string ref = Ref(v.id);
    if (!IsName(v.name, ".")) Report("value '{}' has a name with characters outside [A-Za-z0-9_.]", v.name);
    if (graph_.FindValue(v.name) != v.id) Report("{} has a name that is another value's or not in the index", ref);
    if (!defined_.contains(v.id)) {
      Report("{} belongs to no node and no input", ref);
    }
    if (!v.strides.empty() && v.strides.size() != v.sizes.size()) {
      Report("{} has {} sizes and {} strides", ref, v.sizes.size(), v.strides.size());
    }
    for (const Expr& e : v.sizes) {
      Expression(e, ref);
      if (e.is_const() && e.value() < 0) Report("{} has the size {}", ref, e.value());
    }
    for (const Expr& e : v.strides) {
      Expression(e, ref);
      if (e.is_const() && e.value() < 0) Report("{} has the stride {}", ref, e.value());
    }
    if (!IsCountable(v)) Report("{} has more than {} bytes", ref, kMaxValueBytes);
    if (v.byte_offset < 0) Report("{} has the offset {}", ref, v.byte_offset);
    if (v.base != kNoValue) Base(v);
    if (!v.placement.is_none()) OnePlacement(v, v.placement);
    if (!v.dp_placement.is_none()) OnePlacement(v, v.dp_placement);
  }

  void Base(const Value& v) {
    if (!graph_.has_value(v.base)) {
      Report("{} is a view of {}, which does not exist", Ref(v.id), Ref(v.base));
      return;
    }
    const Value& base = graph_.value(v.base);
    if (v.base == v.id) {
      Report("{} is a view of itself", Ref(v.id));
    } else if (base.base == v.id) {
      Report("{} and {} are views of each other", Ref(v.id), Ref(v.base));
    } else if (base.base != kNoValue) {
      Report("{} is a view of {}, which is itself a view of {}", Ref(v.id), Ref(v.base), Ref(base.base));
    }
    const std::optional<int64_t> extent = Extent(v), room = Extent(base);
    if (extent && room && *extent > 0 && v.byte_offset > base.byte_offset + *room - *extent) {
      Report("{} ends at byte {} of {}, which has {}", Ref(v.id), v.byte_offset + *extent, Ref(v.base),
             base.byte_offset + *room);
    }
  }

  void OnePlacement(const Value& v, const Placement& p) {
    if (!p.is_sharded()) {
      if (p != Placement{p.kind}) Report("{} is {} and has fields of a sharded placement", Ref(v.id), p.ToString());
      return;
    }
    if (p.dim < 0 || p.dim >= v.rank()) {
      Report("{} is sharded on dim {} of {}", Ref(v.id), p.dim, v.rank());
      return;
    }
    if (p.outer < 1 || p.inner < 1 || p.valid < 1 || p.block < 1) {
      Report("{} has {}: an extent below 1", Ref(v.id), p.ToString());
      return;
    }
    const Expr& size = v.sizes[p.dim];
    int64_t local = 0;
    const bool overflow =
        __builtin_mul_overflow(p.outer, p.block, &local) || __builtin_mul_overflow(local, p.inner, &local);
    if (overflow || (size.is_const() && size.value() != local)) {
      Report("{} has {} but is {} long there", Ref(v.id), p.ToString(), size.ToString());
    }
  }

  // What an output's name must be the name of.
  void OutputTarget(const GraphOutput& out) {
    InputKind wanted = InputKind::kParameter;
    if (out.kind == OutputKind::kBufferUpdate) wanted = InputKind::kBuffer;
    if (out.kind == OutputKind::kStateUpdate) wanted = InputKind::kState;
    if (out.kind == OutputKind::kLoss || out.kind == OutputKind::kUser) return;
    const auto target = std::find_if(graph_.inputs.begin(), graph_.inputs.end(),
                                     [&](const GraphInput& in) { return in.kind == wanted && in.name == out.name; });
    if (target == graph_.inputs.end()) {
      Report("output {} '{}' names no {}", Name(out.kind), out.name, Name(wanted));
      return;
    }
    if (!graph_.has_value(target->value)) return;
    const Value& v = graph_.value(out.value);
    const Value& of = graph_.value(target->value);
    // Under ZeRO a gradient may be the rank's block of the flattened whole.
    const Placement& p = v.placement.is_sharded() ? v.placement : v.dp_placement;
    if (out.kind == OutputKind::kGradient && p.is_sharded() && v.rank() == 1 && IsConstant(of.sizes) && p.valid == of.numel()) {
      return;
    }
    if (v.sizes != of.sizes) {
      Report("output {} '{}' has other sizes than the {}: {}", Name(out.kind), out.name, Name(wanted), Ref(v.id));
    }
  }

  void Outputs() {
    std::set<std::pair<OutputKind, std::string_view>> names;
    int losses = 0;
    for (const GraphOutput& out : graph_.outputs) {
      if (!names.emplace(out.kind, out.name).second) Report("output {} '{}' is given twice", Name(out.kind), out.name);
      if (!graph_.has_value(out.value)) {
        Report("output {} '{}' is {}, which does not exist", Name(out.kind), out.name, Ref(out.value));
        continue;
      }
      if (!defined_.contains(out.value)) {
        Report("output {} '{}' is {}, which nothing defines", Name(out.kind), out.name, Ref(out.value));
      }
      const Value& v = graph_.value(out.value);
      if (out.kind == OutputKind::kLoss) {
        if (++losses == 2) Report("more than one output is the loss");
        if (!IsFloating(v.dtype) ||
            std::any_of(v.sizes.begin(), v.sizes.end(), [](const Expr& e) { return e.is_const() && e.value() != 1; })) {
          Report("the loss {} is no floating-point scalar", Ref(v.id));
        }
      }
      OutputTarget(out);
      for (const Axis axis : {Axis::kSp, Axis::kDp}) {
        const Placement& p = v.placement_on(axis);
        const bool must_agree = out.kind != OutputKind::kUser && out.kind != OutputKind::kStateUpdate &&
                                !(out.kind == OutputKind::kGradient && p.is_sharded()) &&
                                !reduced_.contains({axis, v.base == kNoValue ? v.id : v.base});
        if (must_agree && !p.is_none() && !p.is_replicated()) {
          Report("output {} '{}' is {}{}, not replicated: {}", Name(out.kind), out.name, p.ToString(), Along(axis), Ref(v.id));
        }
      }
    }
  }

  // Before partitioning no value has a placement, after it every one. Tracing (which gives results their strides)
  // records values inside composite ops and the whole backward pass: VerifyPlacements infers the kinds of those, and
  // along dp those of values that are born after the partition of the batch.
  void Placements(Axis axis) {
    std::vector<ValueId> without;
    int with = 0;
    bool traced = false;
    for (const ValueId id : defined_) {
      const Value& v = graph_.value(id);
      traced |= v.producer != kNoNode && !v.strides.empty();
      if (v.placement_on(axis).is_none()) {
        without.push_back(id);
      } else {
        ++with;
      }
    }
    if (with == 0) return;
    for (const ValueId v : without) {
      if (graph_.value(v).producer != kNoNode && (traced || axis == Axis::kDp)) continue;
      Report("{} has no placement{}, but {} other values have one", Ref(v), Along(axis), with);
    }
  }

  const Graph& graph_;
  std::vector<std::string> violations_;
  std::set<ValueId> defined_;
  std::set<std::pair<Axis, ValueId>> reduced_;  // storages that an in-place all-reduce makes replicated, whatever their placement
};

}  // namespace

bool IsCountable(const Value& value) {
  int64_t bytes = ByteSize(value.dtype);
  for (const Expr& e : value.sizes) {
    if (e.is_const() && e.value() > 0 && (__builtin_mul_overflow(bytes, e.value(), &bytes) || bytes > kMaxValueBytes)) return false;
  }
  return true;
}

std::vector<std::string> Verify(const Graph& graph) { return Verifier(graph).Run(); }

Status ViolationsToStatus(const std::vector<std::string>& violations, std::string_view after_pass) {
  if (violations.empty()) return Ok();
  constexpr size_t kShown = 8;
  std::string text = fmt::format("the graph is wrong after {}: {}", after_pass, violations.front());
  for (size_t i = 1; i < std::min(kShown, violations.size()); ++i) text += "\n  " + violations[i];
  if (violations.size() > kShown) text += fmt::format("\n  and {} more", violations.size() - kShown);
  return Error{Code::kFailed, std::move(text), "", "this is a bug of the compiler"};
}

Status VerifyOrError(const Graph& graph, std::string_view after_pass) {
  return ViolationsToStatus(Verify(graph), after_pass);
}

}  // namespace autospc::ir
