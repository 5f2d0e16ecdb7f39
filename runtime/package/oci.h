// A package: an OCI image layout (opencontainers/image-spec v1.1) that holds what P ranks run.
//
//   oci-layout
//   index.json                    one manifest descriptor a rank
//   blobs/sha256/HEX              P manifests (small), and shared by all of them:
//     application/vnd.autospc.config.v1+json               what the package is, for people and registries
//     application/vnd.autospc.program.v1                   the program, FlatBuffers (program.fbs)
//     application/vnd.autospc.weights.v1.safetensors       parameters and buffers, where the export has data
//     application/vnd.autospc.constants.v1.safetensors     constants
//
// Any registry tool ships it (`oras cp --from-oci-layout`). Equal input gives equal bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/package/program_generated.h"
#include "runtime/package/safetensors.h"

namespace autospc {

// Program::format_version of what this build writes and reads. Raised when program.fbs changes its meaning.
inline constexpr int kFormatVersion = 1;

inline constexpr std::string_view kConfigType = "application/vnd.autospc.config.v1+json";
inline constexpr std::string_view kProgramType = "application/vnd.autospc.program.v1";
inline constexpr std::string_view kWeightsType = "application/vnd.autospc.weights.v1.safetensors";
inline constexpr std::string_view kConstantsType = "application/vnd.autospc.constants.v1.safetensors";

struct PackageContents {
  // Names are those of the program's storages. Weights: kinds Parameter and Buffer; converted to the storage's
  // element type. May be empty: then the run needs --weights or --init. Constants: every Constant storage.
  std::vector<WeightSource> weights;
  std::vector<WeightSource> constants;
  std::vector<TensorToWrite> made_constants;  // constants that the compiler made, in memory
};

struct WriteOptions {
  bool force = false;  // an existing package is replaced, in one step where the file system can
};

// Writes program.world_size manifests and their blobs into a temporary folder beside `path` and renames it.
// Sets nothing in `program`: its format_version must be kFormatVersion. kUsage: `path` exists (without force), or is
// something else than a package or an empty folder. kBadInput: a source can't be read, or does not fit its storage.
// kFailed: the disk. Whatever the error, `path` is untouched and nothing is left behind.
Status WritePackage(const program::ProgramT& program, const PackageContents& contents, const std::string& path,
                    const WriteOptions& options = {});

// Whether WritePackage would refuse `path`: to be asked before the work of compiling. Same errors.
Status CheckPackagePath(const std::string& path, const WriteOptions& options = {});

struct Blob {
  std::string type;    // media type
  std::string digest;  // "sha256:…"
  int64_t bytes = 0;
  bool operator==(const Blob&) const = default;
};

struct OpenOptions {
  bool verify_data = true;  // false: weights and constants are verified later, by VerifyData (or by another rank)
};

struct StoredTensor {
  program::DType dtype = program::DType::Float32;
  std::vector<int64_t> sizes;
  const std::byte* data = nullptr;  // contiguous; valid as long as the package
  int64_t bytes = 0;
};

class Package {
 public:
  // Everything that was read has its digest; the program is sound: every index in range, every tensor within its
  // storage, every storage within the arena, so that running it touches no memory but its own. kBadInput: no
  // package, another format version (both are named), a blob that does not have its digest (it is named), or
  // a program that is not sound.
  static Result<Package> Open(const std::string& path, const OpenOptions& options = {});

  const std::string& path() const { return path_; }
  // sha256 of index.json, in hex: names the package and all that is in it. Ranks compare it.
  const std::string& digest() const { return digest_; }
  int ranks() const { return program_->world_size; }
  const program::ProgramT& program() const { return *program_; }
  const std::vector<Blob>& blobs() const { return blobs_; }  // config, program, weights, constants: those present
  int64_t manifest_bytes() const { return manifest_bytes_; }  // of one rank
  bool has_weights() const { return weights_ != nullptr; }

  // The stored bytes of a persistent storage; data == nullptr: there are none.
  StoredTensor Find(std::string_view storage_name) const;
  // Parameters and buffers that have no bytes here: to come from --weights or --init.
  std::vector<std::string> MissingWeights() const;
  Status VerifyData() const;

 private:
  Status ReadIndex();
  Status ReadProgram(const Blob& blob);
  Status ReadData(bool verify);

  std::string path_, digest_;
  std::vector<Blob> blobs_;
  int64_t manifest_bytes_ = 0;
  int manifests_ = 0;
  std::unique_ptr<program::ProgramT> program_;
  std::unique_ptr<SafetensorsFile> weights_, constants_;
};

}  // namespace autospc
