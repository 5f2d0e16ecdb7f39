#include "passes/step/decay.h"

#include <algorithm>
#include <regex>
#include <vector>

namespace autospc::step {
namespace {

constexpr size_t kNamed = 5;  // parameters that an error names

Error MatchesNothing(const ir::Graph& graph, const std::string& pattern) {
  std::string names;
  size_t parameters = 0;
  for (const ir::GraphInput& in : graph.inputs) {
    if (in.kind != ir::InputKind::kParameter || ++parameters > kNamed) continue;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", in.name);
  }
  if (parameters > kNamed) names += fmt::format(", and {} more", parameters - kNamed);
  return Error{Code::kBadInput, fmt::format("--no-decay '{}' matches no parameter", pattern), "",
               "the model's parameters: " + names};
}

}  // namespace

Result<std::set<std::string>> Undecayed(const ir::Graph& graph, const PassContext& context) {
  std::set<std::string> undecayed;
  if (!context.no_decay.empty() && context.optimizer == "none") {
    return Error{Code::kUsage, "--no-decay without an optimizer", "", "give --optimizer adamw or sgd"};
  }
  for (const std::string& pattern : context.no_decay) {
    std::regex regex;
    try {
      regex.assign(pattern, std::regex::ECMAScript);
    } catch (const std::regex_error& e) {
      return Error{Code::kUsage, fmt::format("--no-decay '{}' is no regular expression: {}", pattern, e.what()), "",
                   "for example bias, 'norm|ln_', '\\.bias$'"};
    }
    bool found = false;
    for (const ir::GraphInput& in : graph.inputs) {
      if (in.kind != ir::InputKind::kParameter || !std::regex_search(in.name, regex)) continue;
      undecayed.insert(in.alias_of.empty() ? in.name : in.alias_of);
      found = true;
    }
    if (!found) return MatchesNothing(graph, pattern);
  }
  return undecayed;
}

}  // namespace autospc::step
