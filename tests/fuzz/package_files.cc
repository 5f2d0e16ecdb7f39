#include "tests/fuzz/package_files.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "runtime/base/files.h"
#include "runtime/base/sha256.h"
#include "tests/package/temp_folder.h"

namespace autospc::fuzz {
namespace {

using nlohmann::json;

enum Part : size_t { kLayout, kIndex, kManifest, kConfig, kProgram, kWeights, kConstants };

// Every "digest": "$part" in a document becomes the part's digest, and "size" beside it its size.
void Resolve(json* at, const PackageParts& parts) {
  if (!at->is_structured()) return;
  for (json& item : *at) Resolve(&item, parts);
  if (!at->is_object() || !at->contains("digest") || !(*at)["digest"].is_string()) return;
  const std::string digest = (*at)["digest"].get<std::string>();
  for (size_t i = 0; i < parts.size(); ++i) {
    if (digest != std::string("$") + kPackageParts[i]) continue;
    (*at)["digest"] = "sha256:" + Sha256Hex(parts[i]);
    if (at->contains("size") && (*at)["size"] == 0) (*at)["size"] = parts[i].size();
  }
}

std::string Resolved(const std::string& text, const PackageParts& parts) {
  json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return text;
  Resolve(&document, parts);
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

// The way back: digests become the names of the parts.
void Name(json* at, const std::string& digest, const char* part) {
  if (!at->is_structured()) return;
  for (json& item : *at) Name(&item, digest, part);
  if (at->is_object() && at->contains("digest") && (*at)["digest"] == digest) {
    (*at)["digest"] = std::string("$") + part;
    (*at)["size"] = 0;
  }
}

}  // namespace

PackageParts SplitPackage(std::string_view bytes) {
  PackageParts parts;
  for (std::string& part : parts) {
    if (bytes.size() < 4) break;
    size_t length = 0;
    for (int i = 3; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(bytes[static_cast<size_t>(i)]);
    bytes.remove_prefix(4);
    part = bytes.substr(0, length);
    bytes.remove_prefix(part.size());
  }
  return parts;
}

std::string JoinPackage(const PackageParts& parts) {
  std::string bytes;
  for (const std::string& part : parts) {
    for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<char>(part.size() >> (8 * i)));
    bytes += part;
  }
  return bytes;
}

Result<PackageParts> ReadPackageParts(const std::string& path) {
  constexpr int64_t kMost = 1 << 24;
  PackageParts parts;
  ASSIGN_OR_RETURN(parts[kLayout], ReadFile(path + "/oci-layout", kMost));
  ASSIGN_OR_RETURN(parts[kIndex], ReadFile(path + "/index.json", kMost));
  json index = json::parse(parts[kIndex]);
  while (index["manifests"].size() > 1) index["manifests"].erase(1);
  const auto blob = [&](const std::string& digest) { return ReadFile(path + "/blobs/sha256/" + digest.substr(7), kMost); };
  const std::string manifest_digest = index["manifests"][0]["digest"];
  ASSIGN_OR_RETURN(parts[kManifest], blob(manifest_digest));
  json manifest = json::parse(parts[kManifest]);
  Name(&index, manifest_digest, kPackageParts[kManifest]);
  const auto take = [&](const json& descriptor, Part part) -> Status {
    const std::string digest = descriptor["digest"];
    ASSIGN_OR_RETURN(parts[part], blob(digest));
    Name(&manifest, digest, kPackageParts[part]);
    return Ok();
  };
  RETURN_IF_ERROR(take(json(manifest["config"]), kConfig));
  const json layers = manifest["layers"];
  for (const json& layer : layers) {
    const std::string type = layer["mediaType"];
    const Part part = type.find("weights") != type.npos ? kWeights : type.find("constants") != type.npos ? kConstants : kProgram;
    RETURN_IF_ERROR(take(layer, part));
  }
  parts[kIndex] = index.dump();
  parts[kManifest] = manifest.dump();
  return parts;
}

void WritePackageParts(const PackageParts& given, const std::string& path) {
  PackageParts parts = given;
  parts[kManifest] = Resolved(parts[kManifest], parts);
  parts[kIndex] = Resolved(parts[kIndex], parts);
  std::filesystem::create_directories(path + "/blobs/sha256");
  Spill(path + "/oci-layout", parts[kLayout]);
  Spill(path + "/index.json", parts[kIndex]);
  for (size_t i = kManifest; i < parts.size(); ++i) Spill(path + "/blobs/sha256/" + Sha256Hex(parts[i]), parts[i]);
}

}  // namespace autospc::fuzz
