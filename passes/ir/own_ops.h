// Whether a node of our own ops ("autosp.…") has the arguments that its schema says: passes index them by position.
#pragma once

#include <string>

#include "passes/ir/graph.h"

namespace autospc::ir {

// What is wrong with the node's arguments and results by runtime/base/autosp_ops.h: their number, what each of them is,
// the dims that they name, and for attention the shapes of its operands. "" where nothing is or the op is not ours.
// Symbolic sizes and operands that don't exist are passed over.
std::string WrongOwnOp(const Graph& graph, const Node& node);

}  // namespace autospc::ir
