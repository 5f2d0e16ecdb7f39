#include "compiler/import/output_names.h"

#include <nlohmann/json.hpp>

namespace autospc::import {
namespace {

using nlohmann::json;

constexpr int kDeepest = 32;  // structures nest little; a file may be anything

bool Walk(const json& spec, const std::string& path, int depth, size_t most, std::vector<std::string>* names) {
  if (depth > kDeepest || names->size() > most || !spec.is_object()) return false;
  const auto children = spec.find("children_spec");
  if (children == spec.end() || !children->is_array()) return false;
  const auto type = spec.find("type");
  if (type == spec.end() || type->is_null()) {  // a leaf
    names->push_back(path);
    return true;
  }
  // The context of a dict or dataclass is its keys, as JSON within the JSON; a tuple has none.
  json keys;
  if (const auto context = spec.find("context"); context != spec.end() && context->is_string()) {
    keys = json::parse(context->get_ref<const std::string&>(), nullptr, /*allow_exceptions=*/false);
  }
  const bool named = keys.is_array() && keys.size() == children->size();
  for (size_t i = 0; i < children->size(); ++i) {
    const std::string name = named && keys[i].is_string() ? keys[i].get<std::string>() : std::to_string(i);
    if (!Walk((*children)[i], path.empty() ? name : path + "." + name, depth + 1, most, names)) return false;
  }
  return true;
}

}  // namespace

std::vector<std::string> OutputNames(const json& graph_module, size_t count) {
  const json::json_pointer place("/module_call_graph/0/signature/out_spec");
  if (!graph_module.contains(place) || !graph_module.at(place).is_string()) return {};
  const json spec = json::parse(graph_module.at(place).get_ref<const std::string&>(), nullptr, /*allow_exceptions=*/false);
  std::vector<std::string> names;
  if (!spec.is_array() || spec.size() != 2 || !Walk(spec[1], "", 0, count, &names) || names.size() != count) return {};
  return names;
}

}  // namespace autospc::import
