// Which parameters the optimiser's weight decay leaves alone.
#pragma once

#include <set>
#include <string>

#include "passes/framework/pass.h"

namespace autospc::step {

// The parameters of which a pattern of context.no_decay matches a name (of a tied one any of its names), by the name of
// their storage. A pattern is a regular expression (ECMAScript), found anywhere in the name, so that "bias" and "norm"
// are patterns already. kUsage: a pattern that is none, or patterns without an optimiser; kBadInput: one that matches no
// parameter.
Result<std::set<std::string>> Undecayed(const ir::Graph& graph, const PassContext& context);

}  // namespace autospc::step
