// Reads the text form that passes/ir/printer.h describes.
#pragma once

#include <string_view>

#include "passes/ir/graph.h"
#include "runtime/base/result.h"

namespace autospc::ir {

// The graph that `text` says. kBadInput with "FILE:LINE:COLUMN" (columns in bytes, from 1) and what was expected
// there. A parsed graph is well formed as to names and definitions; Verify says whether the rest is right.
Result<Graph> Parse(std::string_view text, std::string_view file_name = "<text>");

}  // namespace autospc::ir
