// safetensors files (huggingface/safetensors): 8 bytes header length, a JSON header
// {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {…}}, the tensors' bytes.
// A file is untrusted: every number is checked against the file's size before anything is read or allocated.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/files.h"
#include "runtime/base/result.h"
#include "runtime/package/weights.h"

namespace autospc {

struct SafetensorsEntry {
  std::string name;
  program::DType dtype = program::DType::Float32;
  std::vector<int64_t> sizes;
  int64_t offset = 0;  // of the first byte, from the start of the file
  int64_t bytes = 0;
};

// An open file, mapped: entries' data can be read until it is destroyed.
class SafetensorsFile {
 public:
  // kBadInput: no safetensors file, cut off, or a header that contradicts itself or the file's size.
  // `skip_unknown_types` leaves out entries of element types we don't have (float8 in a checkpoint).
  static Result<SafetensorsFile> Open(const std::string& path, bool skip_unknown_types = false);
  static Result<SafetensorsFile> Open(MappedFile file, bool skip_unknown_types = false);

  const std::string& path() const { return file_.path(); }
  const MappedFile& file() const { return file_; }
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }  // by offset, then name
  const SafetensorsEntry* Find(std::string_view name) const;                 // nullptr: no such entry
  const std::byte* data(const SafetensorsEntry& entry) const { return file_.data() + entry.offset; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  WeightSource Source(const SafetensorsEntry& entry) const;

 private:
  MappedFile file_;
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, size_t, std::less<>> by_name_;
  std::map<std::string, std::string> metadata_;
};

// Where bytes of a file being written go; may be called many times.
using ByteSink = std::function<Status(const void* data, int64_t bytes)>;

// A tensor to write: contiguous, row-major. Either `data` points to its bytes, or `produce` passes all of
// them to the sink, in pieces, when its turn comes.
struct TensorToWrite {
  std::string name;
  program::DType dtype = program::DType::Float32;
  std::vector<int64_t> sizes;
  const void* data = nullptr;
  std::function<Status(const ByteSink&)> produce;
};

// The tensor at `source`, read when it is written, as elements of `dtype` (default: its own). Contiguous data
// of that type goes straight from the mapped file.
TensorToWrite FromSource(const WeightSource& source, std::optional<program::DType> dtype = std::nullopt);

// The bytes of a file holding `tensors`, passed to `sink` in order. The same tensors in any order give the same
// file: those of a multiple of 64 bytes come first, then wider elements first, then by name. The header is
// padded with spaces to a multiple of 64 bytes, so in a mapped file the former are 64-byte aligned and all are
// aligned to their element. kFailed: a name twice, or a tensor that produces another number of bytes than its
// sizes say (our own bug); else the sink's error.
Status WriteSafetensors(const ByteSink& sink, std::vector<TensorToWrite> tensors,
                        const std::map<std::string, std::string>& metadata = {});
// The same into a file, written under a temporary name, synced and renamed.
Status WriteSafetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                        const std::map<std::string, std::string>& metadata = {});

}  // namespace autospc
