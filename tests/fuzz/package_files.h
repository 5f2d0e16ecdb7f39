// A package as one text of bytes, for fuzzing: five parts, each after its length as 4 bytes, little endian:
//   oci-layout, index.json, a manifest, the config, the program, weights, constants (as many as there are)
// In index and manifest "$manifest", "$config", "$program", "$weights", "$constants" stand for the digests of the parts,
// and "size" of the same object becomes theirs, so that a changed part still has its digest and reaches its reader.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace autospc::fuzz {

inline constexpr std::array<const char*, 7> kPackageParts = {"layout", "index", "manifest", "config", "program", "weights", "constants"};
using PackageParts = std::array<std::string, kPackageParts.size()>;

PackageParts SplitPackage(std::string_view bytes);
std::string JoinPackage(const PackageParts& parts);
// The same of a package on disk; its first rank's manifest stands for all.
Result<PackageParts> ReadPackageParts(const std::string& path);
// The folder `path` must not exist.
void WritePackageParts(const PackageParts& parts, const std::string& path);

}  // namespace autospc::fuzz
