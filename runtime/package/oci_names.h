// Names and keys of the layout, shared by its writer and its reader.
#pragma once

#include <string>
#include <string_view>

namespace autospc::oci {

inline constexpr char kLayoutFile[] = "oci-layout";
inline constexpr char kIndexFile[] = "index.json";
inline constexpr char kBlobFolder[] = "blobs/sha256";
inline constexpr char kLayoutVersion[] = "1.0.0";
inline constexpr char kIndexType[] = "application/vnd.oci.image.index.v1+json";
inline constexpr char kManifestType[] = "application/vnd.oci.image.manifest.v1+json";
inline constexpr char kArtifactType[] = "application/vnd.autospc.package.v1";
inline constexpr char kFormatKey[] = "vnd.autospc.format-version";
inline constexpr char kRankKey[] = "vnd.autospc.rank";
inline constexpr char kTitleKey[] = "org.opencontainers.image.title";
inline constexpr char kRefNameKey[] = "org.opencontainers.image.ref.name";
inline constexpr std::string_view kDigestPrefix = "sha256:";

}  // namespace autospc::oci
