#include "runtime/package/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <tuple>

#include <nlohmann/json.hpp>

#include "runtime/base/json_text.h"
#include "runtime/base/listing.h"
#include "runtime/package/dtype.h"
#include "runtime/package/shards.h"
#include "runtime/package/ties.h"

namespace autospc {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr char kSingle[] = "model.safetensors";
constexpr int64_t kMaxIndexBytes = int64_t{1} << 28;

// The index: tensor name -> file name of its shard.
Result<std::map<std::string, std::string>> ReadIndex(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxIndexBytes));
  ASSIGN_OR_RETURN(const json index, ParseJson(text, path));
  ASSIGN_OR_RETURN(const json* weight_map, JsonObject(index, "weight_map", path));
  std::map<std::string, std::string> shards;
  for (const auto& [name, file] : weight_map->items()) {
    const std::string shard = file.is_string() ? file.get<std::string>() : "";
    if (shard.empty() || fs::path(shard).filename() != shard || shard == "..")
      return Error{Code::kBadInput, fmt::format("the shard of '{}' is not a file name", name), path, ""};
    shards[name] = shard;
  }
  return shards;
}

bool StartsWith(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

// How wanted names become the checkpoint's: a leading `remove` is replaced by `add`.
struct Rename {
  std::string remove, add;
  bool operator<(const Rename& other) const { return std::tie(remove, add) < std::tie(other.remove, other.add); }
  std::string operator()(const std::string& name) const {
    return StartsWith(name, remove) ? add + name.substr(remove.size()) : name;
  }
  std::string ToString() const {
    if (remove.empty() && add.empty()) return "as they are";
    if (add.empty()) return fmt::format("without the prefix '{}'", remove);
    if (remove.empty()) return fmt::format("with the prefix '{}'", add);
    return fmt::format("with '{}' for the prefix '{}'", add, remove);
  }
};

// The names by which a wanted tensor may be found: its own first, then its tie group's in order.
using Candidates = std::vector<std::string>;

std::vector<Candidates> CandidatesOf(const std::vector<WantedTensor>& wanted,
                                     const std::vector<std::pair<std::string, std::string>>& ties) {
  const TieGroups groups(ties);
  std::vector<Candidates> result;
  for (const WantedTensor& tensor : wanted) result.push_back(groups.Names(tensor.name));
  return result;
}

using Tensors = std::map<std::string, WeightSource, std::less<>>;

// The checkpoint's tensor for candidates under a renaming; nullptr: none.
const WeightSource* FindTensor(const Tensors& tensors, const Candidates& names, const Rename& rename) {
  for (const std::string& name : names)
    if (const auto it = tensors.find(rename(name)); it != tensors.end()) return &it->second;
  return nullptr;
}

size_t CountFound(const Tensors& tensors, const std::vector<Candidates>& wanted, const Rename& rename) {
  return static_cast<size_t>(std::count_if(wanted.begin(), wanted.end(), [&](const Candidates& names) {
    return FindTensor(tensors, names, rename) != nullptr;
  }));
}

// Prefixes that end at a dot and that every wanted name has can be taken off; what stands before a wanted
// name in the checkpoint can be put before all.
std::set<Rename> PossibleRenames(const Tensors& tensors, const std::vector<Candidates>& wanted) {
  std::set<Rename> renames;
  std::string common = wanted.front().front();
  for (const Candidates& names : wanted) {
    size_t length = 0;
    while (length < std::min(common.size(), names.front().size()) && common[length] == names.front()[length]) ++length;
    common.resize(length);
  }
  for (size_t dot = common.find('.'); dot != std::string::npos; dot = common.find('.', dot + 1))
    renames.insert({common.substr(0, dot + 1), ""});
  for (const std::string& name : wanted.front()) {
    const std::string suffix = "." + name;
    for (const auto& [held, source] : tensors)
      if (held.size() > suffix.size() && held.ends_with(suffix))
        renames.insert({"", held.substr(0, held.size() - name.size())});
  }
  return renames;
}

Rename ExplicitRename(const std::string& prefix, const std::vector<Candidates>& wanted) {
  if (const size_t equals = prefix.find('='); equals != std::string::npos)
    return {prefix.substr(0, equals), prefix.substr(equals + 1)};
  const std::string dotted = prefix.ends_with('.') ? prefix : prefix + ".";
  const bool all = std::all_of(wanted.begin(), wanted.end(),
                               [&](const Candidates& names) { return StartsWith(names.front(), dotted); });
  return all ? Rename{dotted, ""} : Rename{"", dotted};
}

Result<Rename> ChooseRename(const Tensors& tensors, const std::vector<Candidates>& wanted, const std::string& prefix,
                            const std::string& path) {
  if (wanted.empty()) return Rename{};
  if (!prefix.empty()) return ExplicitRename(prefix, wanted);
  Rename best;
  size_t best_count = CountFound(tensors, wanted, best);
  if (best_count == wanted.size()) return best;
  std::vector<Rename> complete;
  for (const Rename& rename : PossibleRenames(tensors, wanted)) {
    const size_t count = CountFound(tensors, wanted, rename);
    if (count == wanted.size()) complete.push_back(rename);
    if (count > best_count) best = rename, best_count = count;
  }
  if (complete.size() > 1) {
    std::vector<std::string> texts;
    for (const Rename& rename : complete) texts.push_back(rename.ToString());
    return Error{Code::kBadInput, "the parameters' names are found in more than one way:" + Listing(texts), path,
                 "choose one with --weights-prefix"};
  }
  return best;  // the only complete one, or the one that leaves the shortest list of missing names
}

}  // namespace

Status Checkpoint::AddFile(const std::string& path) {
  ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path, /*skip_unknown_types=*/true));
  for (const SafetensorsEntry& entry : file.entries())
    if (!tensors_.emplace(entry.name, file.Source(entry)).second)
      return Error{Code::kBadInput, fmt::format("tensor '{}' is in two files of the checkpoint", entry.name), path, ""};
  return Ok();
}

Result<Checkpoint> Checkpoint::Open(const std::string& path) {
  Checkpoint checkpoint;
  checkpoint.path_ = path;
  std::error_code error;
  if (!fs::exists(path, error)) return Error{Code::kBadInput, "no such file or folder", path, "--weights FILE or DIR"};
  if (!fs::is_directory(path, error)) {
    RETURN_IF_ERROR(checkpoint.AddFile(path));
    return checkpoint;
  }
  const std::string single = (fs::path(path) / kSingle).string(), index = (fs::path(path) / kShardIndex).string();
  if (fs::exists(single, error)) {
    RETURN_IF_ERROR(checkpoint.AddFile(single));
    return checkpoint;
  }
  if (!fs::exists(index, error))
    return Error{Code::kBadInput, fmt::format("the folder holds neither {} nor {}", kSingle, kShardIndex), path,
                 "give a safetensors file, or a folder as Hugging Face's save_pretrained writes it"};
  ASSIGN_OR_RETURN(const auto shards, ReadIndex(index));
  std::set<std::string> files;
  for (const auto& [name, file] : shards) files.insert(file);
  for (const std::string& file : files) RETURN_IF_ERROR(checkpoint.AddFile((fs::path(path) / file).string()));
  std::vector<std::string> absent;
  for (const auto& [name, file] : shards) {
    const auto it = checkpoint.tensors_.find(name);
    if (it == checkpoint.tensors_.end() || fs::path(it->second.file).filename() != file)
      absent.push_back(fmt::format("{} in {}", name, file));
  }
  if (!absent.empty())
    return Error{Code::kBadInput, "the index names tensors that its shards don't hold:" + Listing(absent), index,
                 "get the checkpoint anew"};
  return checkpoint;
}

Result<std::vector<WeightSource>> Checkpoint::Resolve(const std::vector<WantedTensor>& wanted,
                                                      const ResolveOptions& options) const {
  const std::vector<Candidates> candidates = CandidatesOf(wanted, options.ties);
  ASSIGN_OR_RETURN(const Rename rename, ChooseRename(tensors_, candidates, options.prefix, path_));
  std::vector<WeightSource> sources;
  std::vector<std::string> missing, misshapen, extra;
  std::set<std::string> used;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const WeightSource* found = FindTensor(tensors_, candidates[i], rename);
    if (found == nullptr) {
      missing.push_back(fmt::format("{} {} {}", wanted[i].name, Name(wanted[i].dtype), FormatSizes(wanted[i].sizes)));
      continue;
    }
    const bool convertible = found->dtype == wanted[i].dtype || (IsFloat(found->dtype) && IsFloat(wanted[i].dtype));
    if (found->sizes != wanted[i].sizes || !convertible)
      misshapen.push_back(fmt::format("{}: {} {} is wanted, the checkpoint holds {} {}", wanted[i].name,
                                      Name(wanted[i].dtype), FormatSizes(wanted[i].sizes), Name(found->dtype),
                                      FormatSizes(found->sizes)));
    for (const std::string& name : candidates[i]) used.insert(rename(name));  // a tie's other names are not extra
    sources.push_back(*found);
    sources.back().name = wanted[i].name;
  }
  for (const auto& [name, source] : tensors_)
    if (!used.contains(name)) extra.push_back(name);
  if (missing.empty() && misshapen.empty() && (extra.empty() || !options.strict)) return sources;

  std::string what = fmt::format("the checkpoint does not fit the model (names taken {})", rename.ToString());
  if (!missing.empty()) what += fmt::format("\n  {} of {} missing:", missing.size(), wanted.size()) + Listing(missing);
  if (!misshapen.empty()) what += fmt::format("\n  {} of other shape or type:", misshapen.size()) + Listing(misshapen);
  if (!extra.empty()) what += fmt::format("\n  {} that nobody wants:", extra.size()) + Listing(extra);
  return Error{Code::kBadInput, what, path_,
               "is it this model's checkpoint? If only the names' beginnings differ, give --weights-prefix"};
}

Result<std::vector<std::vector<std::string>>> Checkpoint::NamesOf(const std::vector<WantedTensor>& wanted,
                                                                  const ResolveOptions& options) const {
  const std::vector<Candidates> candidates = CandidatesOf(wanted, options.ties);
  ASSIGN_OR_RETURN(const Rename rename, ChooseRename(tensors_, candidates, options.prefix, path_));
  std::vector<std::vector<std::string>> names(wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    for (const std::string& name : candidates[i]) {
      if (tensors_.contains(rename(name))) names[i].push_back(rename(name));
    }
  }
  return names;
}

}  // namespace autospc
