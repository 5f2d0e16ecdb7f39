#include "runtime/checkpoint/manifest.h"

#include <filesystem>

#include <nlohmann/json.hpp>

#include "runtime/base/json_text.h"
#include "runtime/base/sha256.h"
#include "runtime/package/dtype.h"

namespace autospc::checkpoint {
namespace {

using nlohmann::json;

constexpr char kFormat[] = "autosp-checkpoint";
constexpr int kVersion = 1;

Result<int64_t> Natural(const json& object, const char* key, const std::string& where) {
  ASSIGN_OR_RETURN(const int64_t value, JsonInt(object, key, where));
  if (value < 0) return Damaged(fmt::format("\"{}\" is {}", key, value), where);
  return value;
}

Result<FileEntry> ParseFile(const json& item, const std::string& where) {
  FileEntry file;
  ASSIGN_OR_RETURN(file.name, JsonString(item, "name", where));
  ASSIGN_OR_RETURN(file.bytes, Natural(item, "bytes", where));
  ASSIGN_OR_RETURN(file.sha256, JsonString(item, "sha256", where));
  if (file.name.empty() || file.name == ".." || std::filesystem::path(file.name).filename() != file.name)
    return Damaged(fmt::format("'{}' is not a file name", file.name), where);
  return file;
}

Result<TensorEntry> ParseTensor(const std::string& name, const json& item, size_t files, const std::string& where) {
  const std::string at = fmt::format("'{}' in {}", name, where);
  TensorEntry tensor;
  ASSIGN_OR_RETURN(const std::string type, JsonString(item, "dtype", at));
  const auto dtype = FromSafetensorsName(type);
  if (!dtype) return Damaged(fmt::format("element type '{}'", type), at);
  tensor.dtype = *dtype;
  ASSIGN_OR_RETURN(const json* sizes, JsonArray(item, "sizes", at));
  for (const json& size : *sizes) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() > INT64_MAX) return Damaged("a size that is no natural number", at);
    tensor.sizes.push_back(size.get<int64_t>());
  }
  int64_t file = 0, count = 1;
  ASSIGN_OR_RETURN(file, Natural(item, "file", at));
  if (item.contains("block")) {
    ASSIGN_OR_RETURN(count, Natural(item, "files", at));
    ASSIGN_OR_RETURN(tensor.block, Natural(item, "block", at));
  }
  const auto numel = CheckedNumel(tensor.sizes);
  int64_t bytes = 0;
  if (!numel || __builtin_mul_overflow(*numel, ByteSize(tensor.dtype), &bytes))
    return Damaged(fmt::format("sizes {}", FormatSizes(tensor.sizes)), at);
  const auto listed = static_cast<int64_t>(files);
  if (count < 1 || file >= listed || count > listed - file) return Damaged("a file that the manifest does not list", at);
  const bool blocks_cover = tensor.block > 0 && (*numel + tensor.block - 1) / tensor.block == count;
  if (item.contains("block") ? !blocks_cover : count != 1)
    return Damaged(fmt::format("{} blocks of {} elements are not {}", count, tensor.block, *numel), at);
  tensor.file = static_cast<int>(file);
  tensor.files = static_cast<int>(count);
  return tensor;
}

}  // namespace

Error Damaged(std::string what, const std::string& where) {
  return {Code::kBadInput, std::move(what), where, "take an older checkpoint: --resume with the folder above looks for one"};
}

int64_t TensorEntry::numel() const { return CheckedNumel(sizes).value_or(0); }

std::string ToJson(const Manifest& manifest) {
  json root;
  root["format"] = kFormat;
  root["version"] = kVersion;
  root["step"] = manifest.step;
  root["seed"] = manifest.seed;
  if (!manifest.data.empty()) root["data"] = json::parse(manifest.data, nullptr, /*allow_exceptions=*/false);
  root["model"] = manifest.model;
  root["package"] = manifest.package;
  root["optimizer"] = manifest.optimizer;
  root["ranks"] = manifest.ranks;
  root["written_by"] = "autosp-run " AUTOSPC_VERSION;
  root["files"] = json::array();
  for (const FileEntry& file : manifest.files)
    root["files"].push_back({{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  root["tensors"] = json::object();
  for (const auto& [name, tensor] : manifest.tensors) {
    json& item = root["tensors"][name];
    item = {{"dtype", SafetensorsName(tensor.dtype)}, {"sizes", tensor.sizes}, {"file", tensor.file}};
    if (tensor.block == 0) continue;
    item["files"] = tensor.files;
    item["block"] = tensor.block;
  }
  root["digest"] = Sha256Hex(JsonText(root));
  return JsonText(root, 1) + "\n";
}

Result<Manifest> ParseManifest(std::string_view text, const std::string& where) {
  Result<json> parsed = ParseJson(text, where);
  if (!parsed.ok()) return Damaged(parsed.error().what, where);
  json root = std::move(parsed).value();
  if (!root.is_object() || root.value("format", json()) != kFormat) return Damaged("not a checkpoint's manifest", where);
  ASSIGN_OR_RETURN(const int64_t version, JsonInt(root, "version", where));
  if (version != kVersion) {
    return Error{Code::kBadInput, fmt::format("a checkpoint of version {}, this build reads {}", version, kVersion), where,
                 "resume with the build that wrote it, or start from its parameters: --weights with this folder"};
  }
  ASSIGN_OR_RETURN(const std::string digest, JsonString(root, "digest", where));
  root.erase("digest");
  if (Sha256Hex(JsonText(root)) != digest) return Damaged("the manifest has changed since it was written", where);
  Manifest manifest;
  ASSIGN_OR_RETURN(manifest.step, Natural(root, "step", where));
  const json seed = root.value("seed", json());
  if (!seed.is_number_unsigned()) return Damaged("\"seed\" is no natural number", where);
  manifest.seed = seed.get<uint64_t>();
  if (root.contains("data")) manifest.data = JsonText(root["data"]);
  ASSIGN_OR_RETURN(manifest.model, JsonString(root, "model", where));
  ASSIGN_OR_RETURN(manifest.package, JsonString(root, "package", where));
  ASSIGN_OR_RETURN(manifest.optimizer, JsonString(root, "optimizer", where));
  ASSIGN_OR_RETURN(const int64_t ranks, Natural(root, "ranks", where));
  manifest.ranks = static_cast<int>(ranks);
  ASSIGN_OR_RETURN(const json* files, JsonArray(root, "files", where));
  for (const json& item : *files) {
    ASSIGN_OR_RETURN(FileEntry file, ParseFile(item, where));
    manifest.files.push_back(std::move(file));
  }
  ASSIGN_OR_RETURN(const json* tensors, JsonObject(root, "tensors", where));
  for (const auto& [name, item] : tensors->items()) {
    ASSIGN_OR_RETURN(manifest.tensors[name], ParseTensor(name, item, manifest.files.size(), where));
  }
  return manifest;
}

}  // namespace autospc::checkpoint
