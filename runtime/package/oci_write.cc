#include <filesystem>
#include <map>

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

// A blob folder being filled.
class BlobStore {
 public:
  explicit BlobStore(std::string folder) : folder_(std::move(folder)) {}

  // A blob given whole. Small ones are not synced singly: a crash can at worst leave a package whose digests
  // don't fit, which opening it reports.
  Result<Blob> Add(std::string_view type, std::string_view content, bool durable = false) {
    const std::string hex = Sha256Hex(content);
    const std::string path = fmt::format("{}/{}", folder_, hex);
    RETURN_IF_ERROR(durable ? WriteFileAtomically(path, content) : WriteNewFile(path, content));
    return Blob{std::string(type), std::string(oci::kDigestPrefix) + hex, static_cast<int64_t>(content.size())};
  }

  // A safetensors blob, streamed: hashed while it is written.
  Result<Blob> AddTensors(std::string_view type, std::vector<TensorToWrite> tensors) {
    Sha256 sha;
    ASSIGN_OR_RETURN(FileWriter writer, FileWriter::Create(folder_ + "/data"));
    RETURN_IF_ERROR(WriteSafetensors(
        [&](const void* data, int64_t bytes) {
          sha.Update(data, bytes);
          return writer.Write(data, bytes);
        },
        std::move(tensors), {{"format", "pt"}}));
    const int64_t bytes = writer.written();
    const std::string hex = sha.HexDigest();
    RETURN_IF_ERROR(writer.Commit(/*durable=*/true, folder_ + "/" + hex));
    return Blob{std::string(type), std::string(oci::kDigestPrefix) + hex, bytes};
  }

 private:
  std::string folder_;
};

json Descriptor(const Blob& blob) { return {{"mediaType", blob.type}, {"digest", blob.digest}, {"size", blob.bytes}}; }

// A layer's title is the file name that registry tools give it when they unpack it.
json Layer(const Blob& blob, const char* title) {
  json layer = Descriptor(blob);
  layer["annotations"] = {{oci::kTitleKey, title}};
  return layer;
}

json Platform() { return {{"architecture", "amd64"}, {"os", "linux"}}; }

json Config(const program::ProgramT& p) {
  return {{"formatVersion", p.format_version}, {"architecture", "amd64"},  {"os", "linux"},
          {"name", p.name},                    {"worldSize", p.world_size}, {"seqLen", p.seq_len},
          {"batch", p.batch},                  {"strategy", p.strategy},    {"optimizer", p.optimizer},
          {"device", p.device},                {"arenaBytes", p.arena_bytes}, {"compiler", p.compiler}};
}

// Takes the tensors that belong to storages of the given kinds, in the storages' element types (float32 for a
// parameter with a float32 master that comes so); an Error for one
// that no storage has, or that does not fit its own.
class Matcher {
 public:
  explicit Matcher(const program::ProgramT& program)
      : whole_(WholeTensors(program)), masters_(MasterStorages(program)) {
    for (size_t i = 0; i < program.storages.size(); ++i) {
      const auto& storage = *program.storages[i];
      if (storage.kind <= StorageKind::Constant) by_name_[storage.name] = i;
    }
  }

  // The tensor that describes the storage `name`.
  Result<const program::TensorT*> Find(const std::string& name, const std::vector<int64_t>& sizes) const {
    const auto it = by_name_.find(name);
    if (it == by_name_.end())
      return Error{Code::kFailed, "data for a storage that the program does not have", name, ""};
    const program::TensorT* tensor = whole_[it->second];
    if (tensor == nullptr || CheckedNumel(tensor->sizes) != CheckedNumel(sizes))
      return Error{Code::kBadInput, fmt::format("data of sizes {} for a storage of sizes {}", FormatSizes(sizes),
                                                tensor == nullptr ? "unknown" : FormatSizes(tensor->sizes)), name, ""};
    return tensor;
  }

  Result<std::vector<TensorToWrite>> Take(const std::vector<WeightSource>& sources) const {
    std::vector<TensorToWrite> tensors;
    for (const WeightSource& source : sources) {
      ASSIGN_OR_RETURN(const program::TensorT* tensor, Find(source.name, source.sizes));
      const bool wide = source.dtype == program::DType::Float32 && masters_.contains(source.name);
      tensors.push_back(FromSource(source, wide ? source.dtype : tensor->dtype));
    }
    return tensors;
  }

 private:
  std::vector<const program::TensorT*> whole_;
  std::map<std::string, int> masters_;
  std::map<std::string, size_t> by_name_;
};

Status WriteManifests(BlobStore* blobs, const program::ProgramT& program, const Blob& config, const json& layers,
                      const std::string& folder) {
  json index = {{"schemaVersion", 2},
                {"mediaType", oci::kIndexType},
                {"artifactType", oci::kArtifactType},
                {"annotations", {{oci::kFormatKey, std::to_string(kFormatVersion)}, {oci::kTitleKey, program.name}}},
                {"manifests", json::array()}};
  json manifest = {{"schemaVersion", 2},          {"mediaType", oci::kManifestType},
                   {"artifactType", oci::kArtifactType}, {"config", Descriptor(config)},
                   {"layers", layers}};
  for (int rank = 0; rank < program.world_size; ++rank) {
    manifest["annotations"] = {{oci::kRankKey, std::to_string(rank)}};
    ASSIGN_OR_RETURN(const Blob blob, blobs->Add(oci::kManifestType, JsonText(manifest)));
    json descriptor = Descriptor(blob);
    descriptor["artifactType"] = oci::kArtifactType;
    descriptor["platform"] = Platform();
    descriptor["annotations"] = {{oci::kRankKey, std::to_string(rank)},
                                 {oci::kRefNameKey, fmt::format("rank-{}", rank)}};
    index["manifests"].push_back(std::move(descriptor));
  }
  return WriteFileAtomically(fmt::format("{}/{}", folder, oci::kIndexFile), JsonText(index, 1) + "\n");
}

}  // namespace

Status CheckPackagePath(const std::string& path, const WriteOptions& options) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (!fs::exists(status)) {
    fs::path parent = fs::path(path).lexically_normal();
    if (!parent.has_filename()) parent = parent.parent_path();
    parent = parent.has_parent_path() ? parent.parent_path() : fs::path(".");
    if (fs::is_directory(parent, error)) return Ok();
    return Error{Code::kUsage, "the output's parent folder does not exist", parent.string(), "make it first"};
  }
  if (!options.force) return Error{Code::kUsage, "the output exists", path, "give another name, or --force"};
  const bool replaceable = fs::is_directory(status) && (fs::is_empty(path, error) || fs::exists(fs::path(path) / oci::kLayoutFile, error));
  if (replaceable) return Ok();
  return Error{Code::kUsage, "the output exists and is not a package, so --force does not replace it", path,
               "give another name, or remove it yourself"};
}

Status WritePackage(const program::ProgramT& program, const PackageContents& contents, const std::string& path,
                    const WriteOptions& options) {
  RETURN_IF_ERROR(CheckPackagePath(path, options));
  if (program.format_version != kFormatVersion)
    return Error{Code::kFailed, fmt::format("a program of format version {} in a package of {}", program.format_version,
                                            kFormatVersion), path, ""};
  // Our own program must be one that a reader takes.
  if (Status sound = ValidateProgram(program, path); !sound.ok()) {
    sound.error().code = Code::kFailed;
    sound.error().hint = "this is a fault of the compiler; please report it";
    return sound;
  }
  const Matcher matcher(program);
  ASSIGN_OR_RETURN(std::vector<TensorToWrite> weights, matcher.Take(contents.weights));
  ASSIGN_OR_RETURN(std::vector<TensorToWrite> constants, matcher.Take(contents.constants));
  for (const TensorToWrite& made : contents.made_constants) {
    RETURN_IF_ERROR(matcher.Find(made.name, made.sizes));
    constants.push_back(made);
  }

  ASSIGN_OR_RETURN(TempDirBeside folder, TempDirBeside::Create(path));
  const std::string blob_folder = fmt::format("{}/{}", folder.path(), oci::kBlobFolder);
  std::error_code error;
  if (!fs::create_directories(blob_folder, error))
    return Error{Code::kFailed, "cannot make a folder: " + error.message(), blob_folder, ""};
  BlobStore blobs(blob_folder);

  flatbuffers::FlatBufferBuilder builder(1 << 20);
  program::FinishProgramBuffer(builder, program::Program::Pack(builder, &program));
  ASSIGN_OR_RETURN(const Blob program_blob,
                   blobs.Add(kProgramType, {reinterpret_cast<const char*>(builder.GetBufferPointer()), builder.GetSize()},
                             /*durable=*/true));
  json layers = {Layer(program_blob, "program.aspp")};
  if (!weights.empty()) {
    ASSIGN_OR_RETURN(const Blob blob, blobs.AddTensors(kWeightsType, std::move(weights)));
    layers.push_back(Layer(blob, "weights.safetensors"));
  }
  if (!constants.empty()) {
    ASSIGN_OR_RETURN(const Blob blob, blobs.AddTensors(kConstantsType, std::move(constants)));
    layers.push_back(Layer(blob, "constants.safetensors"));
  }
  ASSIGN_OR_RETURN(const Blob config, blobs.Add(kConfigType, JsonText(Config(program))));
  RETURN_IF_ERROR(WriteNewFile(fmt::format("{}/{}", folder.path(), oci::kLayoutFile),
                               JsonText({{"imageLayoutVersion", oci::kLayoutVersion}})));
  RETURN_IF_ERROR(WriteManifests(&blobs, program, config, layers, folder.path()));
  return folder.Commit(options.force);
}

}  // namespace autospc
