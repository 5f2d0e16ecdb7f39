#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "passes/precision/policy.h"
#include "passes/precision/register.h"

namespace autospc::precision {
namespace {

using ir::Arg;
using ir::DType;
using ir::Graph;
using ir::kNoValue;
using ir::Node;
using ir::NodeId;
using ir::ValueId;

constexpr double kLargestBFloat16 = 3.3895313892515355e38;

// What a float32 value of the export is.
enum class Role : uint8_t {
  kOther,      // not float32
  kTable,      // depends on no parameter and no float input: positions, rotary tables, masks
  kParameter,  // a parameter, or made of parameters alone
  kNarrow,     // an activation: bfloat16 for whoever does not compute in float32
  kWide,       // a float32 result: a statistic, a loss
};

// Which roles the operands of a node have.
struct Roles {
  bool table = false, parameter = false, narrow = false, wide = false;

  void Add(Role role) {
    table |= role == Role::kTable;
    parameter |= role == Role::kParameter;
    narrow |= role == Role::kNarrow;
    wide |= role == Role::kWide;
  }
  bool only_tables() const { return !parameter && !narrow && !wide; }
  bool only_parameters() const { return parameter && !narrow && !wide; }
  Role Strongest() const {
    return narrow ? Role::kNarrow : wide ? Role::kWide : parameter ? Role::kParameter : Role::kTable;
  }
};

class Mixer {
 public:
  explicit Mixer(Graph& graph)
      : graph_(graph), roles_(graph.num_values(), Role::kOther), type_(graph.num_node_ids(), DType::kFloat32) {}

  Result<bool> Run() {
    RETURN_IF_ERROR(Check());
    FindRoles();
    ChooseTypes();
    NarrowParameters();
    const std::vector<NodeId> nodes(graph_.nodes().begin(), graph_.nodes().end());
    for (const NodeId id : nodes) Rewrite(id);
    WidenOutputs();
    return true;
  }

 private:
  Status Check() const {
    for (ValueId v = 0; v < graph_.num_values(); ++v) {
      if (!graph_.has_value(v)) continue;
      const ir::Value& value = graph_.value(v);
      if (value.dtype != DType::kBFloat16 && value.dtype != DType::kFloat16) continue;
      return Error{Code::kBadInput, fmt::format("the export computes in {} itself: {} is", Name(value.dtype), value.name),
                   value.producer == ir::kNoNode ? "" : ir::Where(graph_, graph_.node(value.producer)),
                   "compile it without --dtype: it runs as it was exported"};
    }
    return Ok();
  }

  Role RoleOf(ValueId v) const { return roles_[v]; }

  Roles OperandRoles(const Node& node) const {
    Roles roles;
    for (const ValueId v : node.Operands()) roles.Add(RoleOf(v));
    return roles;
  }

  // An op over a float type that is not float32 runs as it was exported.
  bool IsForeign(const Node& node) const {
    const std::vector<ValueId> operands = node.Operands();
    return std::any_of(operands.begin(), operands.end(), [&](ValueId v) {
      return ir::IsFloating(graph_.value(v).dtype) && RoleOf(v) == Role::kOther;
    });
  }

  Policy PolicyFor(const Node& node) const { return IsForeign(node) ? Policy::kFloat32 : PolicyOf(node.op); }

  void FindRoles() {
    for (const ir::GraphInput& in : graph_.inputs) {
      if (graph_.value(in.value).dtype != DType::kFloat32) continue;
      roles_[in.value] = in.kind == ir::InputKind::kParameter ? Role::kParameter
                         : in.kind == ir::InputKind::kUser    ? Role::kNarrow
                                                              : Role::kTable;
    }
    for (const NodeId id : graph_.nodes()) {
      const Node& node = graph_.node(id);
      const Roles roles = OperandRoles(node);
      Role result = Role::kTable;
      switch (PolicyFor(node)) {
        case Policy::kFloat32:
          result = roles.narrow || roles.wide ? Role::kWide : roles.Strongest();
          break;
        case Policy::kLower:
          result = roles.only_tables() ? Role::kTable : Role::kNarrow;
          break;
        case Policy::kShapeOnly:
          break;
        case Policy::kPrecise:
        case Policy::kPointwise:
        case Policy::kMovement:
          result = roles.Strongest();
          break;
        case Policy::kNorm:
          result = node.args[0].is_value() ? RoleOf(node.args[0].value) : Role::kTable;
          break;
      }
      for (const ValueId r : node.results) {
        if (graph_.value(r).dtype == DType::kFloat32) roles_[r] = result;
      }
    }
  }

  // From the last node to the first: what a node computes in, given what its readers want.
  void ChooseTypes() {
    const std::map<ValueId, std::vector<NodeId>> users = graph_.AllUsers();
    std::set<ValueId> kept;
    for (const ir::GraphOutput& out : graph_.outputs) {
      if (out.kind == ir::OutputKind::kUser) kept.insert(out.value);
    }
    for (auto it = graph_.nodes().rbegin(); it != graph_.nodes().rend(); ++it) {
      const Node& node = graph_.node(*it);
      bool read = false, all_wide = true, all_narrow = true;
      for (const ValueId r : node.results) {
        all_wide = all_wide && !kept.contains(r);
        const auto found = users.find(r);
        if (found == users.end()) continue;
        for (const NodeId user : found->second) {
          read = true;
          (Wanted(graph_.node(user), r) == DType::kFloat32 ? all_narrow : all_wide) = false;
        }
      }
      type_[node.id] = TypeOf(node, read && all_wide, read && all_narrow);
    }
    users_ = users;
  }

  DType TypeOf(const Node& node, bool all_wide, bool all_narrow) const {
    const Roles roles = OperandRoles(node);
    switch (PolicyFor(node)) {
      case Policy::kLower:
        return roles.only_tables() ? DType::kFloat32 : DType::kBFloat16;
      case Policy::kPointwise: {
        if (!roles.narrow || roles.wide || all_wide || HasLargeNumber(node)) return DType::kFloat32;
        return roles.table && !MayRoundTable(node.op) ? DType::kFloat32 : DType::kBFloat16;
      }
      case Policy::kMovement:
        if (roles.only_parameters()) return all_narrow ? DType::kBFloat16 : DType::kFloat32;
        if (!roles.narrow || roles.wide || roles.table || all_wide || HasLargeNumber(node)) return DType::kFloat32;
        return DType::kBFloat16;
      case Policy::kNorm:
        return RoleOf(node.args[0].value) == Role::kNarrow ? DType::kBFloat16 : DType::kFloat32;
      case Policy::kFloat32:
      case Policy::kPrecise:
      case Policy::kShapeOnly:
        break;
    }
    return DType::kFloat32;
  }

  static bool HasLargeNumber(const Node& node) {
    return std::any_of(node.args.begin(), node.args.end(), [](const Arg& a) {
      return a.kind == Arg::Kind::kFloat && std::isfinite(a.f) && std::abs(a.f) > kLargestBFloat16;
    });
  }

  // The type in which a node reads its operand `v`.
  DType Wanted(const Node& user, ValueId v) const {
    if (PolicyFor(user) == Policy::kNorm && user.args[0].value != v) return DType::kFloat32;
    return type_[user.id];
  }

  // Parameters that are read in bfloat16 alone. Names of one storage stay of one type.
  void NarrowParameters() {
    const auto all_narrow = [&](ValueId v) {
      const auto found = users_.find(v);
      if (found == users_.end()) return true;
      return std::all_of(found->second.begin(), found->second.end(),
                         [&](NodeId user) { return Wanted(graph_.node(user), v) == DType::kBFloat16; });
    };
    std::set<std::string> wide, read;
    const auto owner = [](const ir::GraphInput& in) { return in.alias_of.empty() ? in.name : in.alias_of; };
    for (const ir::GraphInput& in : graph_.inputs) {
      if (RoleOf(in.value) != Role::kParameter) continue;
      if (!all_narrow(in.value)) wide.insert(owner(in));
      if (users_.contains(in.value)) read.insert(owner(in));
    }
    for (const ir::GraphInput& in : graph_.inputs) {
      if (RoleOf(in.value) != Role::kParameter || wide.contains(owner(in)) || !read.contains(owner(in))) continue;
      graph_.value(in.value).dtype = DType::kBFloat16;
    }
  }

  void Rewrite(NodeId id) {
    const Policy policy = PolicyFor(graph_.node(id));
    if (policy == Policy::kShapeOnly) return FixType(graph_.node(id));
    DType type = type_[id];
    // A copy of what is bfloat16 already is one too; who reads it in float32 widens the copy.
    if (policy == Policy::kMovement && AllAre(graph_.node(id), DType::kBFloat16)) type = DType::kBFloat16;
    const size_t count = graph_.node(id).args.size();
    for (size_t i = 0; i < count; ++i) {
      const DType wanted = policy == Policy::kNorm && i > 0 ? DType::kFloat32 : type;
      const auto cast = [&](ValueId v) { return v != kNoValue && WasFloat32(v) ? Cast(v, wanted, id) : v; };
      Arg arg = graph_.node(id).args[i];  // a copy: casts make the vector of nodes grow
      if (arg.kind == Arg::Kind::kValue) arg.value = cast(arg.value);
      for (ValueId& v : arg.values) v = cast(v);
      graph_.node(id).args[i] = std::move(arg);
    }
    const Node& node = graph_.node(id);
    for (size_t i = 0; i < node.results.size(); ++i) {
      const bool statistic = i > 0 && (policy == Policy::kNorm || node.op == "autosp.attention");
      if (WasFloat32(node.results[i]) && !statistic) graph_.value(node.results[i]).dtype = type;
    }
  }

  bool WasFloat32(ValueId v) const { return static_cast<size_t>(v) < roles_.size() && roles_[v] != Role::kOther; }

  bool AllAre(const Node& node, DType type) const {
    bool any = false;
    for (const ValueId v : node.Operands()) {
      if (!WasFloat32(v)) continue;
      any = true;
      if (graph_.value(v).dtype != type) return false;
    }
    return any;
  }

  // zeros_like and the like of what may be bfloat16 now: float32 as exported.
  void FixType(Node& node) {
    const std::string_view name = ir::ShortName(node.op);
    const size_t at = name == "new_full" ? 3 : name == "full_like" || name.starts_with("new_") ? 2 : 1;
    if (node.args.size() <= at || !node.args[at].is_none()) return;
    if (graph_.value(node.results[0]).dtype == DType::kFloat32) node.args[at] = Arg::Type(DType::kFloat32);
  }

  // `v` as `type`, made once, before its first reader of that type.
  ValueId Cast(ValueId v, DType type, NodeId before) {
    if (graph_.value(v).dtype == type) return v;
    ValueId& made = casts_[{v, type}];
    if (made != 0) return made - 1;
    const std::vector<ir::Expr> sizes = graph_.value(v).sizes;
    const Node like = before == ir::kNoNode ? Node{} : graph_.node(before);
    const ValueId cast = graph_.Emit("aten.to.dtype",
                                     {Arg::Value(v), Arg::Type(type), Arg::Bool(false), Arg::Bool(false), Arg::None()},
                                     type, sizes, before, &like);
    made = cast + 1;
    return cast;
  }

  // A loss and a buffer's new value are what they were exported as; other outputs are as they are computed.
  void WidenOutputs() {
    for (ir::GraphOutput& out : graph_.outputs) {
      if (out.kind == ir::OutputKind::kUser || out.value == kNoValue || !WasFloat32(out.value)) continue;
      out.value = Cast(out.value, DType::kFloat32, ir::kNoNode);
    }
  }

  Graph& graph_;
  std::vector<Role> roles_;   // by value of the export
  std::vector<DType> type_;   // by node of the export: what it computes in
  std::map<ValueId, std::vector<NodeId>> users_;
  std::map<std::pair<ValueId, DType>, ValueId> casts_;  // plus one; 0: not made yet
};

}  // namespace

Result<bool> MixPrecision(Graph& graph, PassContext& context) {
  if (context.dtype.empty()) return false;
  return Mixer(graph).Run();
}

}  // namespace autospc::precision
