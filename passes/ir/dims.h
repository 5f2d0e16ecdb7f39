// Whether the dims that an op's arguments name exist: passes index by them.
#pragma once

#include <string>

#include "passes/ir/graph.h"

namespace autospc::ir {

// For ATen ops that take dims: what is wrong with them or with the ranks that they lead to, "" if nothing is or the op
// is not one of those. Symbolic arguments and operands that don't exist are passed over.
std::string WrongDims(const Graph& graph, const Node& node);

}  // namespace autospc::ir
