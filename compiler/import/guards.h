// The conditions on input sizes under which an export holds, which the file keeps as Python text:
// "L['input_ids'].size()[1] % 64 == 0".
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "passes/ir/graph.h"
#include "runtime/base/result.h"

namespace autospc::import {

// Sizes of the user's inputs, by name.
using InputSizes = std::map<std::string, std::vector<int64_t>>;

// Whether a guard holds; nothing where the text is none of the expressions known here.
std::optional<bool> EvalGuard(std::string_view guard, const InputSizes& sizes);

// `graph` has constant sizes. kBadInput for the first guard that fails. One that only excludes a single size
// ("… != 128": the example's specialisation) becomes a warning: what it excludes still computes the same.
Status CheckGuards(const std::vector<std::string>& guards, const ir::Graph& graph, std::vector<std::string>* warnings);

}  // namespace autospc::import
