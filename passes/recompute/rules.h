// The rules by which others choose what to recompute, for comparison under the same planner.
#pragma once

#include <string>
#include <vector>

#include "passes/ir/graph.h"
#include "passes/recompute/problem.h"

namespace autospc::recompute {

// keep[s] for each storage. "none": all are saved. "full": nothing is, the forward pass runs again from the step's
// inputs. "layers": what one layer makes and another reads is saved, and what no layer makes; the rest of each layer
// runs again (torch.utils.checkpoint around every layer; a layer is what a module path holds up to its first number).
// "autosp": all is recomputed that is no matrix product, convolution, attention or collective (the rule that DeepSpeed's
// AutoSP publishes). An unknown rule is our own bug.
std::vector<bool> KeepBy(const std::string& rule, const ir::Graph& graph, const Problem& problem);

// "model.layers.3" of "model.layers.3.mlp.act_fn"; "" where no component is a number.
std::string LayerOf(const std::string& module);

}  // namespace autospc::recompute
