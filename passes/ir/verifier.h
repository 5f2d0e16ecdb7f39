// Whether a graph is well formed, and whether its placements are lawful. Both report every violation, one line
// each, in the order of the graph, naming the value or node and its source line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "passes/ir/graph.h"
#include "runtime/base/result.h"

namespace autospc::ir {

// Structure: symbols, inputs, definitions before uses, producers, dims, the arguments of our own ops, names, sizes and
// strides, views inside their storage, outputs, and that either all values have a placement or none. Empty: all is well.
std::vector<std::string> Verify(const Graph& graph);

// The most bytes that a value may have, its zero sizes counted as ones: more than any machine holds, and little enough that
// what passes and plans add up over all values stays within 64 bits.
inline constexpr int64_t kMaxValueBytes = int64_t{1} << 50;
// False for constant sizes beyond that; true where a size is not known yet.
bool IsCountable(const Value& value);

// The first violations of Verify as one error (kFailed: a pass of ours broke the graph); ok if there is none.
Status VerifyOrError(const Graph& graph, std::string_view after_pass);
// The same for a list of violations, of Verify or VerifyPlacements.
Status ViolationsToStatus(const std::vector<std::string>& violations, std::string_view after_pass);

// The type system of placements (the rules are in passes/ir/README.md): conversions have the kinds that their
// table says; any other op is replicated (R in, R out) or local (S, V in; S, V, P out); P enters only ops that are
// linear in it; what all ranks must agree on is R in the end. Values without a placement, as tracing records them,
// take every kind that the rules allow, so a backward pass is held to the same rules. Inputs without one are R.
// A graph without any placement has no violation. Expects an empty Verify(graph).
std::vector<std::string> VerifyPlacements(const Graph& graph);

}  // namespace autospc::ir
