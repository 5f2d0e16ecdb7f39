// manifest.json of a checkpoint folder: which step it is, and where each tensor's elements lie.
//
//   {"format": "autosp-checkpoint", "version": 1, "step": 200, "seed": 7, "data": {"epoch": 0, …},
//    "model": "gpt", "package": "6f0c…", "optimizer": "adamw", "ranks": 4, "written_by": "autosp-run 0.1.0",
//    "files": [{"name": "model-00001-of-00004.safetensors", "bytes": 4096, "sha256": "…"}, …],
//    "tensors": {"wte.weight": {"dtype": "F32", "sizes": [320, 64], "file": 0},
//                "wte.weight.exp_avg": {"dtype": "F32", "sizes": [320, 64], "file": 4, "files": 4, "block": 5120}, …},
//    "digest": "…"}
//
// "digest" is the sha256 of the rest as JsonText gives it. A tensor with a block lies in `files` files, one after the
// other from `file` on: the i-th holds elements [i * block, (i + 1) * block) of the flattened whole, as one dim, the last
// what is left. Tensors have the names of the program's storages, in the files too.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/package/program_generated.h"

namespace autospc::checkpoint {

inline constexpr char kManifestName[] = "manifest.json";

struct FileEntry {
  std::string name;  // in the folder
  int64_t bytes = 0;
  std::string sha256;
};

struct TensorEntry {
  program::DType dtype = program::DType::Float32;
  std::vector<int64_t> sizes;  // of the whole
  int file = 0;                // index into Manifest::files
  int files = 1;
  int64_t block = 0;  // elements in each of the files; 0: one file holds all
  int64_t numel() const;
};

struct Manifest {
  int64_t step = 0;       // steps taken
  uint64_t seed = 0;      // of dropout
  std::string data = {};  // where in the data the next step's batch begins, a JSON object; "": not known
  // For people: nothing depends on them.
  std::string model, package, optimizer;
  int ranks = 1;
  std::vector<FileEntry> files;
  std::map<std::string, TensorEntry, std::less<>> tensors;
};

// The error of a checkpoint that can't be read: what is wrong, in which file.
Error Damaged(std::string what, const std::string& where);

std::string ToJson(const Manifest& manifest);
// kBadInput: not a manifest, of a version that this build does not read, changed since it was written (the digest), or
// with a number that makes no sense (sizes, a file that it does not list).
Result<Manifest> ParseManifest(std::string_view text, const std::string& where);

}  // namespace autospc::checkpoint
