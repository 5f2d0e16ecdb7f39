#include <nlohmann/json.hpp>

#include "runtime/base/json_text.h"
#include "runtime/data/batch_source.h"

namespace autospc::data {

std::string ToJson(const DataPosition& position) {
  return JsonText(nlohmann::json{{"epoch", position.epoch}, {"sample", position.sample}, {"seed", position.seed}});
}

Result<DataPosition> ParseDataPosition(std::string_view text) {
  constexpr char kWhere[] = "the data position";
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, kWhere));
  if (!json.is_object() || json.size() != 3 || !json.contains("seed") || !json["seed"].is_number_unsigned()) {
    return Error{Code::kBadInput, "not an object of epoch, sample and seed", kWhere, ""};
  }
  DataPosition position;
  ASSIGN_OR_RETURN(position.epoch, JsonInt(json, "epoch", kWhere));
  ASSIGN_OR_RETURN(position.sample, JsonInt(json, "sample", kWhere));
  position.seed = json["seed"].get<uint64_t>();
  if (position.epoch < 0 || position.sample < 0) {
    return Error{Code::kBadInput, "epoch and sample are not negative", kWhere, ""};
  }
  return position;
}

}  // namespace autospc::data
