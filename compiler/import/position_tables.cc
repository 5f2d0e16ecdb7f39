#include "compiler/import/position_tables.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>

namespace autospc::import {
namespace {

using ir::Arg;
using ir::Graph;
using ir::Node;
using ir::ValueId;

// Integers of which the least and the greatest do occur.
struct Interval {
  int64_t min = 0, max = 0;
};

template <size_t N>
bool In(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Ops that keep the set of a tensor's values (integers stay so through casts to floats and back).
bool KeepsValues(std::string_view op) {
  static constexpr std::array<std::string_view, 22> kOps = {
      "unsqueeze",    "expand",     "view",   "reshape",         "transpose",     "permute", "to",
      "_to_copy",     "contiguous", "clone",  "alias",           "detach",        "squeeze", "flatten",
      "broadcast_to", "type_as",    "repeat", "lift_fresh_copy", "stop_gradient", "t",       "_unsafe_view",
      "expand_as"};
  return In(ir::ShortName(op), kOps);
}

class Checker {
 public:
  explicit Checker(const Graph& graph) : graph_(graph) {}

  Status Run() {
    for (const ir::NodeId id : graph_.nodes()) {
      const Node& node = graph_.node(id);
      const std::string_view op = ir::ShortName(node.op);
      // In the order of the graph, so that no chain of ops is followed down the stack.
      for (const ValueId v : node.results) (void)Range(v);
      if (op == "embedding" && node.args.size() >= 2 && node.args[1].is_value()) {
        RETURN_IF_ERROR(CheckLookup(node, node.args[0], 0, node.args[1].value));
      } else if (op == "index_select" && node.args.size() == 3 && node.args[2].is_value()) {
        RETURN_IF_ERROR(
            CheckLookup(node, node.args[0], static_cast<int>(node.args[1].int_value()), node.args[2].value));
      } else if (node.op == "aten.index.Tensor") {
        for (size_t d = 0; d < node.args[1].values.size(); ++d) {
          if (node.args[1].values[d] != ir::kNoValue)
            RETURN_IF_ERROR(CheckLookup(node, node.args[0], static_cast<int>(d), node.args[1].values[d]));
        }
      } else if (op == "slice" && node.args.size() == 5 && node.args[0].is_value() && KeepsRank(node)) {
        RETURN_IF_ERROR(CheckSlice(node));
      }
    }
    return Ok();
  }

 private:
  // What the file has recorded of a result need not be what the op makes.
  bool KeepsRank(const Node& node) const {
    return node.results.size() == 1 && graph_.value(node.results[0]).rank() == graph_.value(node.args[0].value).rank();
  }

  // The name of the parameter or buffer behind a value; "" if something was computed.
  std::string TableName(ValueId v) const {
    while (const Node* node = graph_.producer(v)) {
      if ((!KeepsValues(node->op) && ir::ShortName(node->op) != "slice") || !node->args[0].is_value()) return "";
      v = node->args[0].value;
    }
    const ir::GraphInput* in = graph_.FindInput(v);
    return in ? in->name : "";
  }

  std::string TableText(ValueId v) const {
    const std::string name = TableName(v);
    return name.empty() ? fmt::format("'{}'", graph_.value(v).name) : fmt::format("table '{}'", name);
  }

  Error TooShort(const Node& node, ValueId table, int dim, int64_t needed) const {
    const int64_t rows = graph_.value(table).sizes[dim].value();
    return {Code::kBadInput, fmt::format("{} has {} rows, and this length needs {}", TableText(table), rows, needed),
            fmt::format("node '{}' ({})", graph_.value(node.results[0]).name, node.source),
            fmt::format("choose a --seq-len that {} rows are enough for", rows)};
  }

  Status CheckLookup(const Node& node, const Arg& table, int dim, ValueId indices) {
    const auto range = Range(indices);
    if (!table.is_value() || !range) return Ok();
    const ir::Value& t = graph_.value(table.value);
    if (dim < 0) dim += t.rank();
    if (dim < 0 || dim >= t.rank() || range->max < t.sizes[dim].value()) return Ok();
    return TooShort(node, table.value, dim, range->max + 1);
  }

  Status CheckSlice(const Node& node) const {
    const ir::Value& x = graph_.value(node.args[0].value);
    int64_t dim = node.args[1].int_value();
    if (dim < 0) dim += x.rank();
    if (dim < 0 || dim >= x.rank()) return Ok();
    const int64_t size = x.sizes[dim].value(), step = node.args[4].int_value();
    const auto clamp = [&](const Arg& a, int64_t otherwise) {
      int64_t v = a.is_none() ? otherwise : a.int_value();
      if (v < 0) v += size;
      return std::clamp<int64_t>(v, 0, size);
    };
    const int64_t start = clamp(node.args[2], 0), end = clamp(node.args[3], size);
    const int64_t length = step > 0 && end > start ? (end - start + step - 1) / step : 0;
    const int64_t recorded = graph_.value(node.results[0]).sizes[dim].value();
    if (recorded <= length) return Ok();
    return TooShort(node, x.id, static_cast<int>(dim), start + (recorded - 1) * step + 1);
  }

  std::optional<Interval> Range(ValueId v) {
    const auto it = known_.find(v);
    if (it != known_.end()) return it->second;
    const Node* node = graph_.producer(v);
    const std::optional<Interval> range = node ? Compute(*node, graph_.value(v)) : std::nullopt;
    known_[v] = range;
    return range;
  }

  static bool Number(const Arg& a, int64_t* out) {
    if (!a.is_number() || a.number() != std::floor(a.number()) || std::abs(a.number()) > 1e15) return false;
    *out = static_cast<int64_t>(a.number());
    return true;
  }

  std::optional<Interval> Compute(const Node& node, const ir::Value& result) {
    const std::string_view op = ir::ShortName(node.op);
    if (result.numel() == 0 || node.args.empty()) return std::nullopt;
    if (op == "arange") {
      int64_t start = 0, step = 1;
      if (node.op != "aten.arange.default" && !Number(node.args[0], &start)) return std::nullopt;
      if (node.op == "aten.arange.start_step" && !Number(node.args[2], &step)) return std::nullopt;
      int64_t last = 0;
      if (__builtin_mul_overflow(step, result.numel() - 1, &last) || __builtin_add_overflow(start, last, &last)) return std::nullopt;
      return Interval{std::min(start, last), std::max(start, last)};
    }
    if (op == "ones" || op == "new_ones" || op == "ones_like") return Interval{1, 1};
    if (op == "zeros" || op == "new_zeros" || op == "zeros_like") return Interval{0, 0};
    if (op == "full" || op == "full_like") {
      int64_t c = 0;
      return Number(node.args[1], &c) ? std::optional(Interval{c, c}) : std::nullopt;
    }
    if (!node.args[0].is_value()) return std::nullopt;
    const ValueId operand = node.args[0].value;
    if (KeepsValues(node.op)) return Range(operand);
    if (op == "slice") return KeepsRank(node) && node.args.size() == 5 ? SliceRange(node, operand) : std::nullopt;
    if (op == "cumsum") {
      const auto x = Range(operand);
      const ir::Value& from = graph_.value(operand);
      const int64_t dim = node.args[1].int_value() + (node.args[1].int_value() < 0 ? from.rank() : 0);
      int64_t last = 0;
      if (!x || x->min != x->max || x->min < 0 || dim < 0 || dim >= from.rank() ||
          __builtin_mul_overflow(x->min, from.sizes[dim].value(), &last))
        return std::nullopt;
      return Interval{x->min, last};
    }
    if (op == "add" || op == "sub" || op == "mul") return Arithmetic(op, node);
    return std::nullopt;
  }

  std::optional<Interval> SliceRange(const Node& node, ValueId operand) {
    const auto x = Range(operand);
    if (!x || x->min == x->max) return x;
    const ir::Value &from = graph_.value(operand), &to = graph_.value(node.results[0]);
    const int64_t dim = node.args[1].int_value() + (node.args[1].int_value() < 0 ? from.rank() : 0);
    if (dim < 0 || dim >= from.rank()) return std::nullopt;
    const int64_t size = from.sizes[dim].value(), length = to.sizes[dim].value();
    if (size == length) return x;
    // The dim that the positions run along, one by one.
    if (static_cast<uint64_t>(size) != static_cast<uint64_t>(x->max) - static_cast<uint64_t>(x->min) + 1 || size != from.numel() || node.args[4].int_value() != 1) return std::nullopt;
    int64_t start = node.args[2].is_none() ? 0 : node.args[2].int_value();
    if (start < 0) start += size;
    start = std::clamp<int64_t>(start, 0, size);
    return Interval{x->min + start, x->min + start + length - 1};
  }

  // With a number, or a tensor of one value.
  std::optional<Interval> Arithmetic(std::string_view op, const Node& node) {
    auto x = Range(node.args[0].value);
    int64_t c = 0, alpha = 1;
    if (node.args[1].is_value()) {
      auto y = Range(node.args[1].value);
      if (x && y && x->min == x->max && op != "sub") std::swap(x, y);
      if (!y || y->min != y->max) return std::nullopt;
      c = y->min;
    } else if (!Number(node.args[1], &c)) {
      return std::nullopt;
    }
    if (!x || (node.args.size() > 2 && !Number(node.args[2], &alpha))) return std::nullopt;
    Interval made;
    bool over = false;
    if (op == "mul") {
      over = __builtin_mul_overflow(x->min, c, &made.min) || __builtin_mul_overflow(x->max, c, &made.max);
      if (c < 0) std::swap(made.min, made.max);
    } else {
      over = __builtin_mul_overflow(c, op == "sub" ? -alpha : alpha, &c) || __builtin_add_overflow(x->min, c, &made.min) ||
             __builtin_add_overflow(x->max, c, &made.max);
    }
    return over ? std::nullopt : std::optional(made);
  }

  const Graph& graph_;
  std::map<ValueId, std::optional<Interval>> known_;
};

}  // namespace

Status CheckPositionTables(const Graph& graph) { return Checker(graph).Run(); }

}  // namespace autospc::import
