#include "compiler/import/data_contract.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <string_view>

namespace autospc::import {
namespace {

using ir::Graph;
using ir::Node;
using ir::ValueId;

template <size_t N>
bool In(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool Contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// Ops whose result holds the first operand's values, perhaps fewer, moved or with others between.
bool MovesValues(std::string_view op) {
  static constexpr std::array<std::string_view, 31> kOps = {
      "unsqueeze",    "expand",     "view",        "reshape",         "transpose",     "permute",     "to",     "_to_copy",
      "contiguous",   "clone",      "alias",       "detach",          "squeeze",       "flatten",     "t",      "_unsafe_view",
      "broadcast_to", "type_as",    "unflatten",   "lift_fresh_copy", "stop_gradient", "expand_as",   "slice",  "constant_pad_nd",
      "pad",          "roll",       "masked_fill", "where",           "clamp",         "clamp_min",   "narrow"};
  return In(op, kOps);
}

bool IsInteger(ir::DType dtype) {
  return dtype == ir::DType::kInt64 || dtype == ir::DType::kInt32 || dtype == ir::DType::kInt16 ||
         dtype == ir::DType::kInt8 || dtype == ir::DType::kUInt8;
}

// By how many positions an op moves the sequence to the left.
int64_t ShiftOf(const Graph& graph, const Node& node) {
  const std::string_view op = ir::ShortName(node.op);
  const auto number = [&](size_t i) { return node.args.size() > i && node.args[i].is_number() ? node.args[i].int_value() : 0; };
  if (op == "slice") {
    const ir::Value& x = graph.value(node.args[0].value);
    const int dim = ir::WrapDim(number(1), x.rank());
    const int64_t start = number(2), size = x.sizes[dim].value();
    return std::clamp<int64_t>(start < 0 ? start + size : start, 0, size);
  }
  if (op == "narrow") return number(2);
  if (op == "constant_pad_nd" || op == "pad") {
    const std::vector<int64_t> pads = node.args[1].int_values();
    return pads.empty() ? 0 : -pads[0];
  }
  if (op == "roll") {
    const std::vector<int64_t> by = node.args[1].int_values();
    return by.size() == 1 ? -by[0] : 0;
  }
  return 0;
}

// What the name of an input says of it. Masks that do not say 1 where a token stands (torch's key_padding_mask, additive
// ones of floats, global_attention_mask) are nobody's to guess.
InputRole RoleByName(std::string name, ir::DType dtype) {
  const bool integer = IsInteger(dtype);
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  if ((integer || dtype == ir::DType::kBool) &&
      (name == "attention_mask" || name == "decoder_attention_mask" || name == "mask" || name == "loss_mask")) {
    return InputRole::kMask;
  }
  if (!integer) return InputRole::kOther;
  if (Contains(name, "position") || name == "pos" || name == "pos_ids") return InputRole::kPositions;
  if (Contains(name, "token_type") || Contains(name, "segment")) return InputRole::kTokenTypes;
  return InputRole::kOther;
}

// Where an integer input goes.
struct Uses {
  bool looked_up = false, target = false;
  int64_t rows = 0, classes = 0;           // the fewest; 0: none
  LabelShift shift = LabelShift::kUnknown;  // of the first loss that takes it
  std::optional<int64_t> ignore_index;
};

class Follower {
 public:
  explicit Follower(const Graph& graph) : graph_(graph), users_(graph.AllUsers()) {}

  Uses Follow(ValueId input) const {
    Uses uses;
    std::map<ValueId, int64_t> seen = {{input, 0}};  // the shift with which a value was first met
    std::vector<ValueId> open = {input};
    while (!open.empty()) {
      const ValueId v = open.back();
      open.pop_back();
      const auto it = users_.find(v);
      if (it == users_.end()) continue;
      for (const ir::NodeId id : it->second) Use(graph_.node(id), v, seen.at(v), &uses, [&](ValueId next, int64_t shift) {
        if (seen.emplace(next, shift).second) open.push_back(next);
      });
    }
    return uses;
  }

 private:
  static bool Is(const Node& node, size_t arg, ValueId v) {
    return node.args.size() > arg && node.args[arg].is_value() && node.args[arg].value == v;
  }

  template <typename Push>
  void Use(const Node& node, ValueId v, int64_t shift, Uses* uses, const Push& push) const {
    static constexpr std::array<std::string_view, 6> kLosses = {"cross_entropy_loss", "nll_loss_nd",  "nll_loss",
                                                                "nll_loss2d",         "nll_loss_forward", "nll_loss2d_forward"};
    const std::string_view op = ir::ShortName(node.op);
    if (op == "embedding" && Is(node, 1, v)) return LookUp(node.args[0].value, 0, uses);
    if (op == "index_select" && Is(node, 2, v)) return LookUp(node.args[0].value, node.args[1].int_value(), uses);
    if (node.op == "aten.index.Tensor" && !node.args[1].values.empty() && node.args[1].values[0] == v) {
      return LookUp(node.args[0].value, 0, uses);
    }
    if (In(op, kLosses) && Is(node, 1, v)) {
      const ir::Value& logits = graph_.value(node.args[0].value);
      return Target(logits.sizes[logits.rank() > 1 ? 1 : 0].value(), shift, node.args[4].int_value(), uses);
    }
    if (op == "gather" && Is(node, 2, v)) {
      const ir::Value& from = graph_.value(node.args[0].value);
      return Target(from.sizes[ir::WrapDim(node.args[1].int_value(), from.rank())].value(), shift, std::nullopt, uses);
    }
    const bool moved = MovesValues(op) && (Is(node, 0, v) || (op == "where" && (Is(node, 1, v) || Is(node, 2, v))));
    if (moved && node.results.size() == 1) push(node.results[0], shift + ShiftOf(graph_, node));
  }

  // A row of a parameter, perhaps cast; an arange that is indexed is no embedding.
  void LookUp(ValueId table, int64_t dim, Uses* uses) const {
    for (const Node* cast = graph_.producer(table); cast && ir::ShortName(cast->op) == "to"; cast = graph_.producer(table)) {
      table = cast->args[0].value;
    }
    const ir::GraphInput* in = graph_.FindInput(table);
    if (in == nullptr || in->kind != ir::InputKind::kParameter) return;
    const ir::Value& t = graph_.value(table);
    const int64_t rows = t.sizes[ir::WrapDim(dim, t.rank())].value();
    uses->rows = uses->looked_up ? std::min(uses->rows, rows) : rows;
    uses->looked_up = true;
  }

  static void Target(int64_t classes, int64_t shift, std::optional<int64_t> ignore, Uses* uses) {
    if (uses->target) {
      uses->classes = std::min(uses->classes, classes);
      return;
    }
    uses->target = true;
    uses->classes = classes;
    uses->shift = shift > 0 ? LabelShift::kByModel : LabelShift::kByData;
    uses->ignore_index = ignore;
  }

  const Graph& graph_;
  const std::map<ValueId, std::vector<ir::NodeId>> users_;
};


}  // namespace

DataContract FindDataContract(const Graph& graph) {
  DataContract contract;
  const Follower follower(graph);
  for (const ir::GraphInput& in : graph.inputs) {
    if (in.kind != ir::InputKind::kUser) continue;
    const ir::DType dtype = graph.value(in.value).dtype;
    InputContract input{in.name, RoleByName(in.name, dtype), 0};
    const Uses uses = IsInteger(dtype) ? follower.Follow(in.value) : Uses{};
    if (uses.looked_up) {
      if (input.role == InputRole::kOther) input.role = InputRole::kTokens;
      input.limit = uses.rows;
    }
    if (uses.target && !uses.looked_up && input.role == InputRole::kOther) {
      input.role = InputRole::kLabels;
      input.limit = uses.classes;
      contract.shift = uses.shift;
      contract.ignore_index = uses.ignore_index;
    }
    contract.inputs.push_back(std::move(input));
  }
  return contract;
}

}  // namespace autospc::import
