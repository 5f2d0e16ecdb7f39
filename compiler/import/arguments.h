// A node's arguments: from the file's tagged unions to ir::Arg, in the order of the op's schema.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "compiler/import/op_schema.h"
#include "compiler/import/scope.h"
#include "passes/ir/graph.h"

namespace autospc::import {

struct ReadArgs {
  std::vector<ir::Arg> args;
  std::vector<std::pair<int, Sym>> pending;  // numbers that depend on sizes, by argument
};

// `inputs` is the node's "inputs" array. Defaults are filled in; devices become "cpu". kBadInput: a name that the
// schema does not have, a missing argument, a dangling name. kUnsupported: a kind of argument without a form here.
Result<ReadArgs> ReadArguments(const nlohmann::json& inputs, const OpSchema& schema, const Scope& scope);

// Whether an argument can stand where the schema has `p`. A number may stand for a tensor.
bool Accepts(const Parameter& p, const ir::Arg& a);

// The file's floats: numbers, or "Infinity", "-Infinity", "NaN".
Result<double> ReadFloat(const nlohmann::json& v);

}  // namespace autospc::import
