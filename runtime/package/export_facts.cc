#include "runtime/package/export_facts.h"

#include <nlohmann/json.hpp>

namespace autospc {

using nlohmann::json;

ExportFacts ReadExportFacts(const program::ProgramT& program) {
  ExportFacts facts;
  const json options = json::parse(program.options, nullptr, /*allow_exceptions=*/false);
  if (!options.is_object()) return facts;
  const json narrowed = options.value("dtype", json());
  facts.narrowed = narrowed == "bf16";
  for (const json& name : options.value("non_persistent_buffers", json::array())) {
    if (name.is_string()) facts.non_persistent.insert(name.get<std::string>());
  }
  for (const json& pair : options.value("checkpoint_names", json::array())) {
    if (pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string())
      facts.checkpoint_names.emplace_back(pair[0].get<std::string>(), pair[1].get<std::string>());
  }
  return facts;
}

}  // namespace autospc
