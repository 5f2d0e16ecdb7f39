#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>

#include <nlohmann/json.hpp>

#include "runtime/base/files.h"
#include "runtime/base/json_text.h"
#include "runtime/base/sha256.h"
#include "runtime/package/dtype.h"
#include "runtime/package/masters.h"
#include "runtime/package/oci.h"
#include "runtime/package/oci_names.h"
#include "runtime/package/validate.h"

namespace autospc {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using program::StorageKind;

constexpr int64_t kMaxIndexBytes = int64_t{1} << 30;    // a descriptor takes half a KiB: two million ranks
constexpr int64_t kMaxManifestBytes = int64_t{1} << 20;
constexpr char kDamaged[] = "the package is damaged; compile it anew or get it anew";

Error BadPackage(const std::string& what, const std::string& where) { return {Code::kBadInput, what, where, kDamaged}; }

std::string BlobPath(const std::string& package, const Blob& blob) {
  return fmt::format("{}/{}/{}", package, oci::kBlobFolder, blob.digest.substr(oci::kDigestPrefix.size()));
}

Result<Blob> ReadDescriptor(const json& object, const std::string& where) {
  Blob blob;
  ASSIGN_OR_RETURN(blob.type, JsonString(object, "mediaType", where));
  ASSIGN_OR_RETURN(blob.digest, JsonString(object, "digest", where));
  ASSIGN_OR_RETURN(blob.bytes, JsonInt(object, "size", where));
  const std::string_view prefix = oci::kDigestPrefix;
  // Hexadecimal digits alone: the digest becomes a file name.
  const bool good = blob.digest.size() == prefix.size() + 64 && blob.digest.starts_with(prefix) &&
                    blob.digest.find_first_not_of("0123456789abcdef", prefix.size()) == std::string::npos;
  if (!good) return BadPackage(fmt::format("'{}' is not a sha256 digest", blob.digest), where);
  if (blob.bytes < 0) return BadPackage(fmt::format("a blob of {} bytes", blob.bytes), where);
  return blob;
}

Status CheckDigest(const Blob& blob, std::string_view content, const std::string& path) {
  if (static_cast<int64_t>(content.size()) != blob.bytes)
    return BadPackage(fmt::format("a blob ({}) has {} bytes, not {}", blob.type, content.size(), blob.bytes), path);
  const std::string hex = Sha256Hex(content);
  if (hex != std::string_view(blob.digest).substr(oci::kDigestPrefix.size()))
    return BadPackage(fmt::format("a blob ({}) does not have its digest: its content has sha256 {}", blob.type, hex), path);
  return Ok();
}

// A small blob, read and checked.
Result<std::string> ReadSmallBlob(const std::string& package, const Blob& blob) {
  const std::string path = BlobPath(package, blob);
  ASSIGN_OR_RETURN(std::string content, ReadFile(path, kMaxManifestBytes));
  RETURN_IF_ERROR(CheckDigest(blob, content, path));
  return content;
}

// kBadInput naming both versions unless `text` is ours.
Status CheckVersion(std::string_view text, const std::string& where) {
  if (text == std::to_string(kFormatVersion)) return Ok();
  return Error{Code::kBadInput, fmt::format("the package has format version {}, this build reads {}", text,
                                            kFormatVersion), where,
               "compile it with this build, or run it with the build that made it"};
}

Status CheckLayout(const std::string& path) {
  std::error_code error;
  const std::string file = fmt::format("{}/{}", path, oci::kLayoutFile);
  if (!fs::exists(path, error))
    return Error{Code::kBadInput, "no such package", path, "give a folder that autospc compile has written"};
  if (!fs::is_directory(path, error) || !fs::exists(file, error))
    return Error{Code::kBadInput, "not a package: no folder with a file oci-layout", path,
                 "give a folder that autospc compile has written"};
  ASSIGN_OR_RETURN(const std::string text, ReadFile(file, kMaxManifestBytes));
  ASSIGN_OR_RETURN(const json layout, ParseJson(text, file));
  ASSIGN_OR_RETURN(const std::string version, JsonString(layout, "imageLayoutVersion", file));
  if (version != oci::kLayoutVersion)
    return Error{Code::kBadInput, fmt::format("the image layout has version {}, this build reads {}", version,
                                              oci::kLayoutVersion), file, ""};
  return Ok();
}

// The rank that an object's annotations name; -1 if they don't.
int RankOf(const json& object) {
  const auto annotations = object.find("annotations");
  if (annotations == object.end() || !annotations->is_object()) return -1;
  const auto rank = annotations->find(oci::kRankKey);
  if (rank == annotations->end() || !rank->is_string()) return -1;
  const std::string& text = rank->get_ref<const std::string&>();
  int value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : -1;
}

// A manifest's config and layers, in order.
Result<std::vector<Blob>> ReadManifest(const json& manifest, const std::string& where) {
  ASSIGN_OR_RETURN(const json* config, JsonObject(manifest, "config", where));
  ASSIGN_OR_RETURN(const json* layers, JsonArray(manifest, "layers", where));
  std::vector<Blob> blobs;
  ASSIGN_OR_RETURN(Blob first, ReadDescriptor(*config, where));
  if (first.type != kConfigType) return BadPackage(fmt::format("the config is of type '{}'", first.type), where);
  blobs.push_back(std::move(first));
  for (const json& layer : *layers) {
    ASSIGN_OR_RETURN(Blob blob, ReadDescriptor(layer, where));
    if (blob.type != kProgramType && blob.type != kWeightsType && blob.type != kConstantsType)
      return BadPackage(fmt::format("a layer of the unknown type '{}'", blob.type), where);
    for (const Blob& other : blobs)
      if (other.type == blob.type) return BadPackage(fmt::format("two layers of type '{}'", blob.type), where);
    blobs.push_back(std::move(blob));
  }
  return blobs;
}

}  // namespace

Status Package::ReadIndex() {
  const std::string path = fmt::format("{}/{}", path_, oci::kIndexFile);
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxIndexBytes));
  digest_ = Sha256Hex(text);
  ASSIGN_OR_RETURN(const json index, ParseJson(text, path));
  ASSIGN_OR_RETURN(const std::string type, JsonString(index, "mediaType", path));
  if (type != oci::kIndexType) return BadPackage(fmt::format("the index is of type '{}'", type), path);
  ASSIGN_OR_RETURN(const json* annotations, JsonObject(index, "annotations", path));
  ASSIGN_OR_RETURN(const std::string version, JsonString(*annotations, oci::kFormatKey, path));
  RETURN_IF_ERROR(CheckVersion(version, path));
  ASSIGN_OR_RETURN(const json* manifests, JsonArray(index, "manifests", path));
  if (manifests->empty()) return BadPackage("the index names no manifest", path);
  int rank = 0;
  for (const json& item : *manifests) {
    ASSIGN_OR_RETURN(const Blob descriptor, ReadDescriptor(item, path));
    if (descriptor.type != oci::kManifestType) return BadPackage(fmt::format("a manifest of type '{}'", descriptor.type), path);
    if (RankOf(item) != rank) return BadPackage(fmt::format("manifest {} is not that of rank {}", rank, rank), path);
    ASSIGN_OR_RETURN(const std::string content, ReadSmallBlob(path_, descriptor));
    const std::string where = BlobPath(path_, descriptor);
    ASSIGN_OR_RETURN(const json manifest, ParseJson(content, where));
    ASSIGN_OR_RETURN(std::vector<Blob> blobs, ReadManifest(manifest, where));
    if (RankOf(manifest) != rank) return BadPackage(fmt::format("the manifest is not that of rank {}", rank), where);
    if (rank == 0) blobs_ = std::move(blobs);
    else if (blobs != blobs_) return BadPackage(fmt::format("rank {} has other blobs than rank 0", rank), where);
    manifest_bytes_ = descriptor.bytes;
    ++rank;
  }
  manifests_ = rank;
  const Blob& config = blobs_.front();
  const std::string where = BlobPath(path_, config);
  ASSIGN_OR_RETURN(const std::string content, ReadSmallBlob(path_, config));
  ASSIGN_OR_RETURN(const json parsed, ParseJson(content, where));
  ASSIGN_OR_RETURN(const int64_t config_version, JsonInt(parsed, "formatVersion", where));
  RETURN_IF_ERROR(CheckVersion(std::to_string(config_version), where));
  ASSIGN_OR_RETURN(const int64_t world_size, JsonInt(parsed, "worldSize", where));
  if (world_size != rank) return BadPackage(fmt::format("{} manifests for {} ranks", rank, world_size), path);
  return Ok();
}

Status Package::ReadProgram(const Blob& blob) {
  const std::string path = BlobPath(path_, blob);
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  RETURN_IF_ERROR(CheckDigest(blob, file.text(), path));
  ASSIGN_OR_RETURN(program_, UnpackProgram(file.text(), path));
  RETURN_IF_ERROR(CheckVersion(std::to_string(program_->format_version), path));
  return ValidateProgram(*program_, path);
}

// Opens the data blobs and holds their entries to the storages they belong to.
Status Package::ReadData(bool verify) {
  for (const Blob& blob : blobs_) {
    if (blob.type != kWeightsType && blob.type != kConstantsType) continue;
    const std::string path = BlobPath(path_, blob);
    ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
    if (verify) RETURN_IF_ERROR(CheckDigest(blob, file.text(), path));
    if (file.size() != blob.bytes)
      return BadPackage(fmt::format("a blob ({}) has {} bytes, not {}", blob.type, file.size(), blob.bytes), path);
    ASSIGN_OR_RETURN(SafetensorsFile tensors, SafetensorsFile::Open(std::move(file)));
    (blob.type == kWeightsType ? weights_ : constants_) = std::make_unique<SafetensorsFile>(std::move(tensors));
  }
  const std::vector<const program::TensorT*> whole = WholeTensors(*program_);
  const std::map<std::string, int> masters = MasterStorages(*program_);
  for (size_t i = 0; i < program_->storages.size(); ++i) {
    const program::StorageT& storage = *program_->storages[i];
    if (storage.kind > StorageKind::Constant) continue;
    const StoredTensor stored = Find(storage.name);
    const std::string where = fmt::format("'{}' in {}", storage.name, path_);
    if (stored.data == nullptr && storage.kind == StorageKind::Constant && storage.bytes > 0)
      return BadPackage("the package holds no data for a constant", where);
    if (stored.data == nullptr) continue;
    const bool wide = stored.dtype == program::DType::Float32 && whole[i] != nullptr && masters.contains(storage.name) &&
                      stored.bytes / ByteSize(stored.dtype) == storage.bytes / ByteSize(whole[i]->dtype);
    if (wide) continue;
    if (stored.bytes != storage.bytes || (whole[i] != nullptr && whole[i]->dtype != stored.dtype))
      return BadPackage(fmt::format("{} {} is stored for a storage of {} bytes", Name(stored.dtype), FormatSizes(stored.sizes),
                             storage.bytes), where);
  }
  return Ok();
}

Result<Package> Package::Open(const std::string& path, const OpenOptions& options) {
  Package package;
  package.path_ = path;
  RETURN_IF_ERROR(CheckLayout(path));
  RETURN_IF_ERROR(package.ReadIndex());
  const auto program = std::find_if(package.blobs_.begin(), package.blobs_.end(),
                                    [](const Blob& blob) { return blob.type == kProgramType; });
  if (program == package.blobs_.end()) return BadPackage("the package holds no program", path);
  RETURN_IF_ERROR(package.ReadProgram(*program));
  const int world_size = package.program_->world_size;
  if (world_size != package.manifests_)
    return BadPackage(fmt::format("{} manifests for a program of {} ranks", package.manifests_, world_size), path);
  RETURN_IF_ERROR(package.ReadData(options.verify_data));
  return package;
}

StoredTensor Package::Find(std::string_view storage_name) const {
  for (const SafetensorsFile* file : {weights_.get(), constants_.get()}) {
    if (file == nullptr) continue;
    if (const SafetensorsEntry* entry = file->Find(storage_name))
      return {entry->dtype, entry->sizes, file->data(*entry), entry->bytes};
  }
  return {};
}

std::vector<std::string> Package::MissingWeights() const {
  std::vector<std::string> names;
  for (const auto& storage : program_->storages)
    if (storage->kind <= StorageKind::Buffer && storage->bytes > 0 && Find(storage->name).data == nullptr)
      names.push_back(storage->name);
  return names;
}

Status Package::VerifyData() const {
  for (const Blob& blob : blobs_) {
    if (blob.type != kWeightsType && blob.type != kConstantsType) continue;
    const SafetensorsFile& file = blob.type == kWeightsType ? *weights_ : *constants_;
    RETURN_IF_ERROR(CheckDigest(blob, file.file().text(), file.path()));
  }
  return Ok();
}

}  // namespace autospc
