#include "runtime/package/tied_embeddings.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/base/files.h"
#include "runtime/package/dtype.h"

namespace autospc {
namespace {

namespace fs = std::filesystem;
constexpr int64_t kMaxConfigBytes = int64_t{16} << 20;

bool ConfigTies(const std::string& weights) {
  std::error_code error;
  const fs::path folder = fs::is_directory(weights, error) ? fs::path(weights) : fs::path(weights).parent_path();
  const auto text = ReadFile((folder / "config.json").string(), kMaxConfigBytes);
  if (!text.ok()) return false;  // not a Hugging Face checkpoint
  const auto config = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  return config.is_object() && config.value("tie_word_embeddings", nlohmann::json()) == true;
}

std::optional<WeightSource> Find(const Checkpoint& checkpoint, const WantedTensor& tensor, const std::string& prefix) {
  ResolveOptions options;
  options.prefix = prefix;
  const auto found = checkpoint.Resolve({tensor}, options);
  return found.ok() ? std::optional(found->front()) : std::nullopt;
}

Result<bool> SameBytes(const WeightSource& a, const WeightSource& b) {
  if (a.dtype != b.dtype || a.sizes != b.sizes) return false;
  int64_t numel = 1;
  for (const int64_t size : a.sizes) numel *= size;
  std::vector<char> one(static_cast<size_t>(numel * ByteSize(a.dtype))), other(one.size());
  RETURN_IF_ERROR(ReadWeight(a, a.dtype, one.data()));
  RETURN_IF_ERROR(ReadWeight(b, b.dtype, other.data()));
  return one == other;
}

}  // namespace

Result<std::vector<TieCandidate>> TiedByCheckpoint(const Checkpoint& checkpoint,
                                                   const std::vector<TieCandidate>& candidates,
                                                   const std::string& prefix) {
  std::vector<TieCandidate> tied;
  if (candidates.empty() || !ConfigTies(checkpoint.path())) return tied;
  for (const TieCandidate& c : candidates) {
    const std::optional<WeightSource> embedding = Find(checkpoint, c.embedding, prefix);
    if (!embedding) continue;
    if (const std::optional<WeightSource> head = Find(checkpoint, c.head, prefix)) {
      ASSIGN_OR_RETURN(const bool same, SameBytes(*head, *embedding));
      if (!same) continue;
    }
    tied.push_back(c);
  }
  return tied;
}

}  // namespace autospc
