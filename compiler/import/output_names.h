// What a user calls the outputs of forward: torch.export names them after the op that made them, the structure that
// forward returns ({"loss": …, "accuracy": …}) is told beside.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace autospc::import {

// A name for each of forward's outputs, in order: the keys of dicts and dataclasses and the places in tuples that lead
// to it, joined by dots ("accuracy", "parts.0"). Empty where the file tells no structure, or one that is not of `count`
// outputs.
std::vector<std::string> OutputNames(const nlohmann::json& graph_module, size_t count);

}  // namespace autospc::import
