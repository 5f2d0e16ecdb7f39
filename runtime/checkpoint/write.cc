#include "runtime/checkpoint/write.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <set>
#include <thread>

#include <nlohmann/json.hpp>

#include "runtime/base/files.h"
#include "runtime/base/json_text.h"
#include "runtime/base/sha256.h"
#include "runtime/checkpoint/folder.h"
#include "runtime/package/dtype.h"
#include "runtime/package/safetensors.h"
#include "runtime/package/shards.h"

namespace autospc::checkpoint {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kPiece = int64_t{16} << 20;  // bytes written between two looks at `cancelled`
constexpr int64_t kMaxRecordBytes = 1 << 16;
constexpr auto kPoll = std::chrono::milliseconds(20);

std::string ModelName(int rank, int ranks) { return ShardName("model", rank, ranks); }
std::string OptimizerName(int rank, int ranks) { return ShardName("optimizer", rank, ranks); }
std::string RecordName(int rank) { return fmt::format("part-{:05}.json", rank + 1); }

Error Cancelled() { return {Code::kInterrupted, "the checkpoint was given up", "", ""}; }

// A safetensors file written, hashed and synced.
Result<FileEntry> WriteFile(const fs::path& folder, const std::string& name, std::vector<TensorToWrite> tensors,
                            const std::map<std::string, std::string>& metadata, const std::atomic<bool>& cancelled) {
  ASSIGN_OR_RETURN(FileWriter writer, FileWriter::Create((folder / name).string()));
  Sha256 digest;
  const ByteSink sink = [&](const void* data, int64_t bytes) -> Status {
    for (const char* from = static_cast<const char*>(data); bytes > 0;) {
      if (cancelled) return Cancelled();
      const int64_t n = std::min(bytes, kPiece);
      RETURN_IF_ERROR(writer.Write(from, n));
      digest.Update(from, n);
      from += n;
      bytes -= n;
    }
    return Ok();
  };
  RETURN_IF_ERROR(WriteSafetensors(sink, std::move(tensors), metadata));
  const int64_t bytes = writer.written();
  RETURN_IF_ERROR(writer.Commit());
  return FileEntry{name, bytes, digest.HexDigest()};
}

Result<FileEntry> WriteText(const fs::path& folder, const std::string& name, const std::string& text) {
  RETURN_IF_ERROR(WriteFileAtomically((folder / name).string(), text));
  return FileEntry{name, static_cast<int64_t>(text.size()), Sha256Hex(text)};
}

json ToRecord(const std::vector<FileEntry>& files) {
  json record = json::array();
  for (const FileEntry& f : files) record.push_back({{"name", f.name}, {"bytes", f.bytes}, {"sha256", f.sha256}});
  return record;
}

Result<std::vector<FileEntry>> ReadRecord(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxRecordBytes));
  ASSIGN_OR_RETURN(const json record, ParseJson(text, path));
  std::vector<FileEntry> files;
  for (const json& item : record) {
    FileEntry file;
    ASSIGN_OR_RETURN(file.name, JsonString(item, "name", path));
    ASSIGN_OR_RETURN(file.bytes, JsonInt(item, "bytes", path));
    ASSIGN_OR_RETURN(file.sha256, JsonString(item, "sha256", path));
    files.push_back(std::move(file));
  }
  return files;
}

// The tensors' places: all ranks' model files come first, then their optimiser files, so that the files of a tensor in
// blocks follow each other.
Status FillManifest(const Layout& layout, const std::vector<std::vector<FileEntry>>& parts, Manifest* manifest) {
  std::map<std::string, int> index;
  for (const char* group : {"model", "optimizer"}) {
    for (const auto& part : parts) {
      for (const FileEntry& file : part) {
        if (!file.name.starts_with(group)) continue;
        index[file.name] = static_cast<int>(manifest->files.size());
        manifest->files.push_back(file);
      }
    }
  }
  for (const SavedTensor& t : layout.tensors) {
    TensorEntry entry{t.dtype, t.sizes, 0, 1, t.block};
    if (t.block > 0) entry.files = static_cast<int>((t.numel() + t.block - 1) / t.block);
    const int first = t.block > 0 ? 0 : t.writer;
    const auto found = index.find(t.weight ? ModelName(first, layout.ranks) : OptimizerName(first, layout.ranks));
    if (found == index.end())
      return Error{Code::kFailed, fmt::format("no rank has written '{}'", t.name), "", "this is a bug of the runtime"};
    entry.file = found->second;
    manifest->tensors[t.name] = std::move(entry);
  }
  return Ok();
}

// Hugging Face's index, where there are several model files.
Status WriteIndex(const fs::path& folder, const Layout& layout, Manifest* manifest) {
  if (layout.ranks == 1) return Ok();
  std::map<std::string, std::string> shard_of;
  int64_t total = 0;
  for (const SavedTensor& t : layout.tensors) {
    if (!t.weight) continue;
    shard_of[t.name] = ModelName(t.writer, layout.ranks);
    total += t.numel() * ByteSize(t.dtype);
  }
  if (shard_of.empty()) return Ok();
  ASSIGN_OR_RETURN(FileEntry entry, WriteText(folder, kShardIndex, ShardIndex(shard_of, total)));
  manifest->files.push_back(std::move(entry));
  return Ok();
}

}  // namespace

Status BeginCheckpoint(const std::string& dir, int64_t step) {
  std::error_code error;
  fs::create_directories(dir, error);
  if (!error) RemoveUnfinished(dir);
  if (!error) fs::create_directory(TemporaryFolder(dir, step), error);
  if (!error) return Ok();
  return Error{Code::kFailed, "cannot make a folder: " + error.message(), dir, "is there space, and may this user write there?"};
}

Status WritePart(const std::string& dir, int64_t step, const Layout& layout, int rank, const std::byte* snapshot,
                 const std::atomic<bool>& cancelled) {
  const fs::path folder = TemporaryFolder(dir, step);
  std::vector<TensorToWrite> model, optimizer;
  for (const Slice& slice : layout.SlicesOf(rank)) {
    const SavedTensor& t = layout.tensors[slice.saved];
    TensorToWrite tensor{t.name, t.dtype, t.sizes, snapshot + slice.offset, nullptr};
    if (t.block > 0) tensor.sizes = {slice.end - slice.begin};
    (t.weight ? model : optimizer).push_back(std::move(tensor));
  }
  std::vector<FileEntry> files;
  if (!model.empty()) {
    // "format": transformers reads no file without it.
    ASSIGN_OR_RETURN(FileEntry file,
                     WriteFile(folder, ModelName(rank, layout.ranks), std::move(model), {{"format", "pt"}}, cancelled));
    files.push_back(std::move(file));
  }
  if (!optimizer.empty()) {
    ASSIGN_OR_RETURN(FileEntry file, WriteFile(folder, OptimizerName(rank, layout.ranks), std::move(optimizer), {}, cancelled));
    files.push_back(std::move(file));
  }
  ASSIGN_OR_RETURN(const FileEntry record, WriteText(folder, RecordName(rank), JsonText(ToRecord(files))));
  (void)record;
  return Ok();
}

Result<std::string> FinishCheckpoint(const std::string& dir, const Layout& layout, Manifest manifest, int64_t keep,
                                     const std::atomic<bool>& cancelled) {
  const fs::path folder = TemporaryFolder(dir, manifest.step);
  std::vector<std::vector<FileEntry>> parts(layout.ranks);
  std::error_code error;
  for (int r = 0; r < layout.ranks; ++r) {
    const std::string record = (folder / RecordName(r)).string();
    while (!fs::exists(record, error)) {
      if (cancelled) return Cancelled();
      std::this_thread::sleep_for(kPoll);
    }
    ASSIGN_OR_RETURN(parts[r], ReadRecord(record));
  }
  RETURN_IF_ERROR(FillManifest(layout, parts, &manifest));
  RETURN_IF_ERROR(WriteIndex(folder, layout, &manifest));
  for (int r = 0; r < layout.ranks; ++r) fs::remove(folder / RecordName(r), error);
  ASSIGN_OR_RETURN(const FileEntry written, WriteText(folder, kManifestName, ToJson(manifest)));
  (void)written;
  if (cancelled) return Cancelled();
  const std::string path = (fs::path(dir) / FolderName(manifest.step)).string();
  RETURN_IF_ERROR(MoveFolder(folder.string(), path, /*replace=*/true));
  if (keep > 0) RETURN_IF_ERROR(RemoveOld(dir, manifest.step, keep));
  return path;
}

}  // namespace autospc::checkpoint
