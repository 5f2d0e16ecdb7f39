#include "passes/ir/dims.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

namespace autospc::ir {
namespace {

constexpr int kAny = 99;  // the result's rank is not the operand's and a constant

struct DimRow {
  std::string_view op;                 // without namespace and overload
  std::array<int, 2> dims = {-1, -1};  // positions of the arguments that are dims, one or a list
  int more = 0;                        // the results' rank beyond the operand's, or kAny
  int least = 0;                       // rank of an operand
  int positive = -1;                   // position of an argument that is a step or a count, at least 1
};
constexpr DimRow kDimRows[] = {{"transpose", {1, 2}},
                               {"swapaxes", {1, 2}},
                               {"swapdims", {1, 2}},
                               {"permute", {1, -1}},
                               {"flip", {1, -1}},
                               {"slice", {1, -1}, 0, 1, 4},
                               {"narrow", {1, -1}, 0, 1},
                               {"split", {2, -1}, 0, 1, 1},
                               {"split_with_sizes", {2, -1}, 0, 1},
                               {"chunk", {2, -1}, 0, 1, 1},
                               {"tensor_split", {2, -1}, 0, 1},
                               {"select", {1, -1}, -1, 1},
                               {"unbind", {1, -1}, -1, 1},
                               {"repeat_interleave", {2, -1}, kAny},
                               {"cumsum", {1, -1}},
                               {"diff", {2, -1}},
                               {"gather", {1, -1}, kAny},
                               {"index_select", {1, -1}},
                               {"slice_scatter", {2, -1}, 0, 1, 5},
                               {"select_scatter", {2, -1}, 0, 1},
                               {"softmax", {1, -1}},
                               {"log_softmax", {1, -1}},
                               {"_softmax", {1, -1}},
                               {"_log_softmax", {1, -1}}};

}  // namespace

std::string WrongDims(const Graph& graph, const Node& node) {
  if (!node.op.starts_with("aten.") || node.args.empty()) return "";
  const std::string_view name = ShortName(node.op);
  const bool joins = name == "cat" || name == "concat" || name == "stack";
  const auto row =
      std::find_if(std::begin(kDimRows), std::end(kDimRows), [&](const DimRow& r) { return r.op == name; });
  if (!joins && row == std::end(kDimRows)) return "";
  const auto rank_of = [&](ValueId v) { return graph.has_value(v) ? graph.value(v).rank() : -1; };
  const int result = node.results.empty() ? -1 : rank_of(node.results[0]);
  if (result < 0) return "";
  int rank = result;
  std::array<int, 2> positions = {1, -1};
  if (!joins) {
    if (!node.args[0].is_value()) return "";
    rank = rank_of(node.args[0].value);
    if (rank < 0) return "";
    if (rank < row->least) return fmt::format("its operand has {} dims", rank);
    for (const ValueId r : node.results) {
      if (row->more != kAny && rank_of(r) >= 0 && rank_of(r) != rank + row->more)
        return fmt::format("of {} dims it makes {}", rank, rank_of(r));
    }
    positions = row->dims;
    const auto at = static_cast<size_t>(row->positive);
    const bool given = row->positive >= 0 && at < node.args.size() && node.args[at].kind == Arg::Kind::kInt && node.args[at].i.is_const();
    if (given && node.args[at].i.value() < 1) return fmt::format("argument {} is {}, not at least 1", at + 1, node.args[at].i.value());
  }
  for (const int at : positions) {
    if (at < 0 || at >= static_cast<int>(node.args.size())) continue;
    const Arg& arg = node.args[at];
    std::vector<Expr> dims = arg.kind == Arg::Kind::kIntList ? arg.ints : std::vector<Expr>();
    if (arg.kind == Arg::Kind::kInt) dims.push_back(arg.i);
    std::vector<bool> seen(std::max(rank, 1), false);
    for (const Expr& dim : dims) {
      if (!dim.is_const()) return "";
      const int64_t limit = std::max(rank, 1);  // a scalar's only dim is 0
      if (dim.value() < -limit || dim.value() >= limit) return fmt::format("it names dim {} of {}", dim.value(), rank);
      const int wrapped = WrapDim(dim.value(), rank);
      if (seen[wrapped]) return fmt::format("it names dim {} twice", wrapped);
      seen[wrapped] = true;
    }
    if (name == "permute" && dims.size() != static_cast<size_t>(rank))
      return fmt::format("it orders {} dims of {}", dims.size(), rank);
  }
  return "";
}

}  // namespace autospc::ir
