#include "runtime/package/save_weights.h"

#include <filesystem>
#include <optional>

#include "runtime/base/files.h"
#include "runtime/package/dtype.h"
#include "runtime/package/shards.h"

namespace autospc {
namespace {

namespace fs = std::filesystem;

int64_t BytesOf(const TensorToWrite& tensor) { return CheckedNumel(tensor.sizes).value_or(0) * ByteSize(tensor.dtype); }

std::vector<std::vector<TensorToWrite>> Shards(std::vector<TensorToWrite> tensors, int64_t max_bytes) {
  std::vector<std::vector<TensorToWrite>> shards(1);
  int64_t bytes = 0;
  for (TensorToWrite& tensor : tensors) {
    const int64_t more = BytesOf(tensor);
    if (!shards.back().empty() && bytes + more > max_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += more;
    shards.back().push_back(std::move(tensor));
  }
  return shards;
}

Status WriteIndex(const fs::path& folder, const std::vector<std::vector<TensorToWrite>>& shards) {
  std::map<std::string, std::string> shard_of;
  int64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    for (const TensorToWrite& tensor : shards[i]) {
      shard_of[tensor.name] = ShardName("model", static_cast<int64_t>(i), static_cast<int64_t>(shards.size()));
      total += BytesOf(tensor);
    }
  }
  return WriteFileAtomically((folder / kShardIndex).string(), ShardIndex(shard_of, total));
}

}  // namespace

Status CheckSavePath(const std::string& path) {
  std::error_code error;
  fs::path normal = fs::path(path).lexically_normal();
  if (!normal.has_filename()) normal = normal.parent_path();
  const fs::path parent = normal.has_parent_path() ? normal.parent_path() : fs::path(".");
  if (!fs::is_directory(parent, error))
    return Error{Code::kUsage, "the output's parent folder does not exist", parent.string(), "make it first"};
  if (!fs::exists(fs::symlink_status(normal, error)) || (fs::is_directory(normal, error) && fs::is_empty(normal, error)))
    return Ok();
  return Error{Code::kUsage, "the output exists", path, "give the name of a new folder"};
}

Status SaveWeights(const std::string& path, std::vector<TensorToWrite> tensors, const SaveWeightsOptions& options) {
  const auto shards = Shards(std::move(tensors), options.max_shard_bytes);
  if (!options.write) {
    for (const auto& shard : shards) {
      RETURN_IF_ERROR(WriteSafetensors([](const void*, int64_t) -> Status { return Ok(); }, shard));
    }
    return Ok();
  }
  RETURN_IF_ERROR(CheckSavePath(path));
  ASSIGN_OR_RETURN(TempDirBeside folder, TempDirBeside::Create(path));
  // "format": transformers reads no file without it.
  std::map<std::string, std::string> metadata = options.ties;
  metadata["format"] = "pt";
  for (size_t i = 0; i < shards.size(); ++i) {
    RETURN_IF_ERROR(WriteSafetensors((fs::path(folder.path()) / ShardName("model", static_cast<int64_t>(i), static_cast<int64_t>(shards.size()))).string(), shards[i], metadata));
  }
  if (shards.size() > 1) RETURN_IF_ERROR(WriteIndex(folder.path(), shards));
  for (const std::string& file : options.copies) {
    std::error_code error;
    fs::copy_file(file, fs::path(folder.path()) / fs::path(file).filename(), error);
    if (error) return Error{Code::kFailed, "cannot copy: " + error.message(), file, "is there space?"};
  }
  return folder.Commit(/*replace=*/true);  // an empty folder may be there
}

}  // namespace autospc
