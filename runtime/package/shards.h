// How Hugging Face lays a model out in several files: their names, and the index that says which tensor is in which.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace autospc {

inline constexpr char kShardIndex[] = "model.safetensors.index.json";

// "model.safetensors" of one file, "model-00002-of-00004.safetensors" of several; `shard` from 0 on.
std::string ShardName(const std::string& group, int64_t shard, int64_t shards);
// The content of kShardIndex. `shard_of`: the file's name by tensor; `total_bytes`: of all tensors.
std::string ShardIndex(const std::map<std::string, std::string>& shard_of, int64_t total_bytes);

}  // namespace autospc
