// Whether the dims that an op's arguments name exist, and its steps lead on: passes index by them and divide.
#pragma once

#include <string>

#include "passes/ir/graph.h"

namespace autospc::ir {

// For ATen ops that take dims: what is wrong with them, with steps and counts, or with the ranks that they lead to, "" if
// nothing is or the op is not one of those. Symbolic arguments and operands that don't exist are passed over.
std::string WrongDims(const Graph& graph, const Node& node);

}  // namespace autospc::ir
