#include "compiler/import/check_calls.h"

#include <algorithm>

#include "compiler/import/arguments.h"
#include "compiler/import/op_schema.h"

namespace autospc::import {
namespace {

std::string WrongCall(const ir::Node& node) {
  const OpSchema* schema = FindOp(node.op);
  if (schema == nullptr) return "LibTorch has no such op";
  if (node.args.size() > schema->parameters.size()) {
    return fmt::format("{} arguments of {}", node.args.size(), schema->parameters.size());
  }
  for (size_t i = 0; i < schema->parameters.size(); ++i) {
    const Parameter& p = schema->parameters[i];
    if (i >= node.args.size()) return fmt::format("no argument \"{}\"", p.name);
    if (!Accepts(p, node.args[i])) return fmt::format("argument \"{}\" is of another kind", p.name);
  }
  // A node in place may leave its result, which is its operand, out.
  const bool in_place = ir::IsEffectful(node.op) && node.results.empty();
  if (schema->results >= 0 && !in_place && node.results.size() != static_cast<size_t>(schema->results)) {
    return fmt::format("{} results of {}", node.results.size(), schema->results);
  }
  return "";
}

}  // namespace

std::vector<std::string> WrongCalls(const ir::Graph& graph) {
  std::vector<std::string> violations;
  for (const ir::NodeId id : graph.nodes()) {
    const ir::Node& node = graph.node(id);
    if (node.op.starts_with("autosp.")) continue;
    const std::string wrong = WrongCall(node);
    if (wrong.empty()) continue;
    const std::string of = node.results.empty() ? "" : " of %" + graph.value(node.results[0]).name;
    violations.push_back(
        fmt::format("{}{}{}: {}", node.op, of, node.source.empty() ? "" : " (" + node.source + ")", wrong));
  }
  return violations;
}

}  // namespace autospc::import
