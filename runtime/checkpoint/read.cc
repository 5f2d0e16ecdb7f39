#include "runtime/checkpoint/read.h"

#include <algorithm>
#include <filesystem>

#include "runtime/base/files.h"
#include "runtime/base/sha256.h"
#include "runtime/package/dtype.h"

namespace autospc::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxManifestBytes = int64_t{1} << 30;

}  // namespace

Result<Reader> Reader::Open(const std::string& path) {
  Reader reader;
  reader.path_ = path;
  const fs::path folder(path);
  const std::string manifest = (folder / kManifestName).string();
  std::error_code error;
  if (!fs::exists(manifest, error)) return Damaged("the checkpoint has no manifest.json: it is incomplete", path);
  ASSIGN_OR_RETURN(const std::string text, ReadFile(manifest, kMaxManifestBytes));
  ASSIGN_OR_RETURN(reader.manifest_, ParseManifest(text, manifest));
  for (const FileEntry& entry : reader.manifest_.files) {
    const std::string file = (folder / entry.name).string();
    if (!fs::exists(file, error)) return Damaged(fmt::format("the checkpoint lacks its file {}", entry.name), path);
    ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(file));
    if (mapped.size() != entry.bytes)
      return Damaged(fmt::format("the file has {} bytes, the manifest says {}", mapped.size(), entry.bytes), file);
    if (!entry.name.ends_with(".safetensors")) {
      reader.files_.emplace_back();
      continue;
    }
    Result<SafetensorsFile> tensors = SafetensorsFile::Open(std::move(mapped));
    if (!tensors.ok()) return Damaged(tensors.error().what, tensors.error().where);
    reader.files_.push_back(std::move(tensors).value());
  }
  for (const auto& [name, entry] : reader.manifest_.tensors) RETURN_IF_ERROR(reader.CheckTensor(name, entry));
  return reader;
}

Status Reader::CheckTensor(const std::string& name, const TensorEntry& entry) const {
  for (int i = 0; i < entry.files; ++i) {
    const SafetensorsFile& file = files_[entry.file + i];
    const SafetensorsEntry* stored = file.Find(name);
    const int64_t n = entry.block == 0 ? entry.numel() : std::min(entry.block, entry.numel() - i * entry.block);
    if (stored == nullptr || stored->dtype != entry.dtype || stored->bytes != n * ByteSize(entry.dtype)) {
      return Damaged(fmt::format("'{}' is not in the file as the manifest says", name),
                 (fs::path(path_) / manifest_.files[entry.file + i].name).string());
    }
  }
  return Ok();
}

const TensorEntry* Reader::Find(std::string_view name) const {
  const auto it = manifest_.tensors.find(name);
  return it == manifest_.tensors.end() ? nullptr : &it->second;
}

Status Reader::Verify(size_t index) const {
  const FileEntry& entry = manifest_.files[index];
  const std::string path = (fs::path(path_) / entry.name).string();
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  Sha256 digest;
  digest.Update(file.data(), file.size());
  if (digest.HexDigest() == entry.sha256) return Ok();
  return Damaged("the file has changed since it was written: its sha256 is another", path);
}

Status Reader::Read(std::string_view name, int64_t begin, int64_t end, program::DType dtype, void* out) const {
  const TensorEntry* entry = Find(name);
  if (entry == nullptr || begin < 0 || end > entry->numel())
    return Error{Code::kFailed, fmt::format("elements {} to {} of '{}' are not there", begin, end, name), path_, ""};
  const int64_t block = entry->block > 0 ? entry->block : std::max<int64_t>(entry->numel(), 1);
  char* to = static_cast<char*>(out);
  for (int64_t at = begin; at < end;) {
    const int64_t piece = at / block, stop = std::min(end, (piece + 1) * block);
    const SafetensorsFile& file = files_[entry->file + piece];
    const std::byte* from = file.data(*file.Find(name)) + (at - piece * block) * ByteSize(entry->dtype);
    RETURN_IF_ERROR(ConvertTo(dtype, to, entry->dtype, from, stop - at));
    to += (stop - at) * ByteSize(dtype);
    at = stop;
  }
  return Ok();
}

}  // namespace autospc::checkpoint
