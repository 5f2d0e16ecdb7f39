// Reading a checkpoint. Its files are untrusted: everything is checked against the manifest, and that against the
// files' sizes, before anything is read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/package/safetensors.h"

namespace autospc::checkpoint {

class Reader {
 public:
  // kBadInput: no manifest, a file that is missing or of another size, a tensor that is not where the manifest says.
  // Contents are not verified yet.
  static Result<Reader> Open(const std::string& path);

  const std::string& path() const { return path_; }
  const Manifest& manifest() const { return manifest_; }
  const TensorEntry* Find(std::string_view name) const;  // nullptr: it has none of that name

  // Whether the file has its sha256. kBadInput names it.
  Status Verify(size_t file) const;

  // Elements [begin, end) of the flattened tensor `name`, converted to `dtype` as ConvertTo does. They exist.
  Status Read(std::string_view name, int64_t begin, int64_t end, program::DType dtype, void* out) const;

 private:
  Status CheckTensor(const std::string& name, const TensorEntry& entry) const;

  std::string path_;
  Manifest manifest_;
  std::vector<SafetensorsFile> files_;  // of manifest_.files; those that are no safetensors files are empty
};

}  // namespace autospc::checkpoint
