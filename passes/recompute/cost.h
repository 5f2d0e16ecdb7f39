// What the choice between saving and recomputing must know of a node's time; the cost model answers (codegen passes it in).
#pragma once

#include <functional>

#include "passes/ir/graph.h"

namespace autospc::recompute {

// Estimated seconds of one run of a node on one rank; 0 for a view. May be empty: then every instruction costs its
// results' bytes, which orders the choices of tests without a machine.
using CostFn = std::function<double(const ir::Graph&, const ir::Node&)>;

}  // namespace autospc::recompute
