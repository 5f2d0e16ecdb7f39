#include "runtime/package/shards.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "runtime/base/json_text.h"

namespace autospc {

std::string ShardName(const std::string& group, int64_t shard, int64_t shards) {
  return shards == 1 ? fmt::format("{}.safetensors", group) : fmt::format("{}-{:05}-of-{:05}.safetensors", group, shard + 1, shards);
}

std::string ShardIndex(const std::map<std::string, std::string>& shard_of, int64_t total_bytes) {
  const nlohmann::json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", shard_of}};
  return JsonText(index, 2) + "\n";
}

}  // namespace autospc
