// Factor rules: how each op maps the dims of its operands and results to factors, so that a dim sharded in
// an operand is known to be sharded in the result. (Source: openxla/shardy's OpShardingRule.)
//
// To add an op: one line in the table of rules.cc, a function there if none of the families fits.
#pragma once

#include <optional>
#include <vector>

#include "passes/ir/graph.h"

namespace autospc::partition {

// How partial results over a sharded factor that no result has are combined.
enum class Combiner : uint8_t {
  kNone,  // no way is known: gather first
  kSum,   // the operands that have the factor are multiplied and summed over it: mask one, results add up
  kMean,  // mean over the factor: sum, over the true count
};

struct FactorRule {
  static constexpr int kWhole = -1;  // the op needs (or makes) this dim whole
  // By operand, in the order of Node::Operands(), and by result: the factor of each dim. A broadcast dim of
  // size 1 has no factor (kWhole).
  std::vector<std::vector<int>> operands;
  std::vector<std::vector<int>> results;
  Combiner combiner = Combiner::kNone;  // of the factors in operands and in no result

  bool InResults(int factor) const;
};

// nullopt: no rule; the op is gathered, computed whole and sliced.
std::optional<FactorRule> RuleOf(const ir::Graph& graph, const ir::Node& node);

// Ops that only give their one operand's elements, in row-major order, new sizes (view, flatten, unsqueeze).
bool IsReshape(const ir::Node& node);
// Where a dim sharded in a value of `from` sizes lies after a reshape to `to` sizes; nullopt if the reshape
// splits the sharded factor. It is its own inverse with the sizes exchanged.
std::optional<ir::Placement> MapReshape(const ir::Placement& p, const std::vector<int64_t>& from,
                                        const std::vector<int64_t>& to);

// Ops with one operand that may be partial (an addend on each rank): linear in operand `index`.
// The other operands must be varying. nullopt: the op is not linear in any.
std::optional<int> LinearOperand(const ir::Node& node);

// Ops that make a tensor from sizes alone (full, zeros, ones); the index of the sizes argument.
std::optional<int> SizesArgument(const ir::Node& node);

// Ops that draw random numbers by themselves: two ranks would draw different ones.
bool IsRandom(const ir::Node& node);

}  // namespace autospc::partition
