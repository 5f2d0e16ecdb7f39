#include "runtime/checkpoint/folder.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "runtime/checkpoint/manifest.h"

namespace autospc::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";
constexpr size_t kDigits = 8;  // at least

Error CannotRead(const std::string& path, const std::error_code& error) {
  return {Code::kBadInput, "cannot read folder: " + error.message(), path, "is the path right, and may this user read it?"};
}

bool HasManifest(const fs::path& folder) {
  std::error_code error;
  return fs::is_regular_file(folder / kManifestName, error);
}

}  // namespace

std::string FolderName(int64_t step) { return fmt::format("step-{:08}", step); }

std::optional<int64_t> StepOfFolder(const std::string& name) {
  if (!name.starts_with(kPrefix) || name.size() < kPrefix.size() + kDigits) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || rest != end || step < 0 || FolderName(step) != name) return std::nullopt;
  return step;
}

std::string TemporaryFolder(const std::string& dir, int64_t step) {
  return (fs::path(dir) / fmt::format(".{}.tmp", FolderName(step))).string();
}

Result<std::vector<Listed>> ListCheckpoints(const std::string& dir) {
  std::vector<Listed> found;
  std::error_code error;
  if (!fs::exists(dir, error)) return found;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    const std::optional<int64_t> step = StepOfFolder(it->path().filename().string());
    std::error_code ignored;
    if (step && it->is_directory(ignored)) found.push_back({*step, it->path().string()});
  }
  if (error) return CannotRead(dir, error);
  std::sort(found.begin(), found.end(), [](const Listed& a, const Listed& b) { return a.step > b.step; });
  return found;
}

Result<Candidates> FindCandidates(const std::string& path) {
  Candidates candidates;
  std::error_code error;
  if (!fs::is_directory(path, error))
    return Error{Code::kBadInput, "no such folder", path, "--resume DIR, the folder that --checkpoint wrote to"};
  fs::path normal = fs::path(path).lexically_normal();
  if (!normal.has_filename()) normal = normal.parent_path();
  const std::optional<int64_t> step = StepOfFolder(normal.filename().string());
  if (step || HasManifest(normal)) {
    candidates.chosen = true;
    candidates.checkpoints.push_back({step.value_or(0), normal.string()});
    return candidates;
  }
  ASSIGN_OR_RETURN(candidates.checkpoints, ListCheckpoints(path));
  if (candidates.checkpoints.empty())
    return Error{Code::kBadInput, "the folder holds no checkpoint", path,
                 "a checkpoint is a folder step-00000200 in it; --resume auto starts from the beginning where there is none"};
  return candidates;
}

void RemoveUnfinished(const std::string& dir) {
  std::error_code error;
  std::vector<fs::path> unfinished;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with('.') && name.ends_with(".tmp") && StepOfFolder(name.substr(1, name.size() - 5)))
      unfinished.push_back(it->path());
  }
  for (const fs::path& path : unfinished) fs::remove_all(path, error);
}

Status RemoveOld(const std::string& dir, int64_t step, int64_t keep) {
  ASSIGN_OR_RETURN(const std::vector<Listed> all, ListCheckpoints(dir));
  int64_t kept = 0;
  for (const Listed& checkpoint : all) {
    if (checkpoint.step > step || !HasManifest(checkpoint.path)) continue;
    if (kept++ < keep) continue;
    // It loses its name before its files, so that nobody takes a half of it for a checkpoint.
    const std::string hidden = TemporaryFolder(dir, checkpoint.step);
    std::error_code error;
    fs::rename(checkpoint.path, hidden, error);
    if (!error) fs::remove_all(hidden, error);
    if (error)
      return Error{Code::kFailed, "cannot remove an old checkpoint: " + error.message(), checkpoint.path,
                   "may this user write there?"};
  }
  return Ok();
}

}  // namespace autospc::checkpoint
