#include "runtime/package/golden.h"

#include <algorithm>
#include <map>
#include <set>

#include "runtime/base/listing.h"
#include "runtime/package/dtype.h"
#include "runtime/package/golden_match.h"
#include "runtime/package/micro_batches.h"
#include "runtime/package/ties.h"

namespace autospc {
namespace {

constexpr std::string_view kInput = "in.", kGradient = "grad.";
constexpr char kHint[] = "is it this model's golden file, of this batch and length?";

std::string Described(program::DType dtype, const std::vector<int64_t>& sizes) {
  return fmt::format("{} {}", Name(dtype), FormatSizes(sizes));
}

// Collects what does not fit, to say it all at once.
class Complaints {
 public:
  template <typename... Args>
  void Add(fmt::format_string<Args...> format, Args&&... args) {
    lines_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  Status Done(const std::string& path) const {
    if (lines_.empty()) return Ok();
    return Error{Code::kBadInput, "the golden file does not fit the program:" + Listing(lines_), path, kHint};
  }

 private:
  std::vector<std::string> lines_;
};

void CheckInputs(const GoldenFile& golden, const program::ProgramT& program, Complaints* complaints) {
  const int64_t count = MicroBatchesOf(program).count;
  bool split = count == 1;  // some input holds all micro-batches
  std::map<std::string, const program::TensorT*> wanted;
  for (const auto& input : program.inputs) wanted[input->name] = program.tensors[input->tensor].get();
  for (const GoldenTensor& input : golden.inputs()) {
    const auto it = wanted.find(input.name);
    if (it == wanted.end()) {
      complaints->Add("input '{}': the program has no such input", input.name);
      continue;
    }
    split = split || it->second->sizes != input.sizes;
    if (it->second->dtype != input.dtype || MicroBatchOf(input, it->second->sizes, 0, count) == nullptr)
      complaints->Add("input '{}': the program takes {}{}, the file holds {}", input.name,
                      count > 1 ? fmt::format("{} micro-batches of ", count) : "",
                      Described(it->second->dtype, it->second->sizes), Described(input.dtype, input.sizes));
    wanted.erase(it);
  }
  if (!split) complaints->Add("the program's step is {} micro-batches, the file holds the inputs of one", count);
  for (const auto& [name, tensor] : wanted) complaints->Add("input '{}' is missing", name);
}

// Pairs each of the file's gradients with the index of its computed one, -1 for a parameter that has none.
std::vector<int> Match(const GoldenFile& golden, const std::vector<ComputedGradient>& gradients,
                       const program::ProgramT& program, Complaints* complaints) {
  const TieGroups ties(program.aliases);
  std::map<std::string, int> by_group;  // the computed gradients, by their group's first name
  for (size_t i = 0; i < gradients.size(); ++i) by_group[ties.First(gradients[i].name)] = static_cast<int>(i);
  std::set<std::string> parameters;  // of the program, by the same
  for (const auto& storage : program.storages)
    if (storage->kind == program::StorageKind::Parameter) parameters.insert(ties.First(storage->name));

  std::vector<int> matched;
  std::set<std::string> seen;
  for (const GoldenTensor& reference : golden.gradients()) {
    const std::string group = ties.First(reference.name);
    const auto it = by_group.find(group);
    matched.push_back(it == by_group.end() ? -1 : it->second);
    if (!seen.insert(group).second) complaints->Add("gradient '{}' is there under two tied names", reference.name);
    if (it == by_group.end() && !parameters.contains(group))
      complaints->Add("gradient '{}': the program has no such parameter", reference.name);
    if (it != by_group.end() && gradients[it->second].sizes != reference.sizes)
      complaints->Add("gradient '{}': the program's has sizes {}, the file's {}", reference.name,
                      FormatSizes(gradients[it->second].sizes), FormatSizes(reference.sizes));
  }
  for (const ComputedGradient& gradient : gradients)
    if (!seen.contains(ties.First(gradient.name))) complaints->Add("gradient '{}' is missing", gradient.name);
  return matched;
}

}  // namespace

Result<GoldenFile> GoldenFile::Open(const std::string& path) {
  GoldenFile golden;
  ASSIGN_OR_RETURN(golden.file_, SafetensorsFile::Open(path));
  bool has_loss = false;
  for (const SafetensorsEntry& entry : golden.file_.entries()) {
    const std::byte* data = golden.file_.data(entry);
    const std::string where = fmt::format("'{}' in {}", entry.name, path);
    if (entry.name.starts_with(kInput)) {
      golden.inputs_.push_back({entry.name.substr(kInput.size()), entry.dtype, entry.sizes, data});
    } else if (entry.name.starts_with(kGradient)) {
      if (!IsFloat(entry.dtype))
        return Error{Code::kBadInput, fmt::format("a gradient of type {}", Name(entry.dtype)), where, kHint};
      golden.gradients_.push_back({entry.name.substr(kGradient.size()), entry.dtype, entry.sizes, data});
    } else if (entry.name == "loss" && IsFloat(entry.dtype) && CheckedNumel(entry.sizes) == 1) {
      golden.loss_ = LoadAsDouble(entry.dtype, data);
      has_loss = true;
    } else {
      return Error{Code::kBadInput, "not a golden file: it holds a tensor that is neither in.*, grad.* nor a scalar loss",
                   where, "models/export.py and --write-golden make golden files"};
    }
  }
  if (!has_loss)
    return Error{Code::kBadInput, "not a golden file: it holds no loss", path,
                 "models/export.py and --write-golden make golden files"};
  const auto by_name = [](const GoldenTensor& a, const GoldenTensor& b) { return a.name < b.name; };
  std::sort(golden.inputs_.begin(), golden.inputs_.end(), by_name);
  std::sort(golden.gradients_.begin(), golden.gradients_.end(), by_name);
  if (const auto it = golden.file_.metadata().find("tied"); it != golden.file_.metadata().end()) {
    std::string_view rest = it->second;
    while (!rest.empty()) {
      const size_t comma = std::min(rest.find(','), rest.size());
      if (comma > 0) golden.tied_.emplace_back(rest.substr(0, comma));
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
  }
  return golden;
}

const std::byte* MicroBatchOf(const GoldenTensor& input, const std::vector<int64_t>& sizes, int64_t index, int64_t count) {
  if (input.sizes == sizes) return input.data;
  if (sizes.empty() || input.sizes.size() != sizes.size() || input.sizes[0] != count * sizes[0] ||
      !std::equal(sizes.begin() + 1, sizes.end(), input.sizes.begin() + 1))
    return nullptr;
  return input.data + index * CheckedNumel(sizes).value_or(0) * ByteSize(input.dtype);
}

Status CheckGolden(const GoldenFile& golden, const program::ProgramT& program) {
  Complaints complaints;
  CheckInputs(golden, program, &complaints);
  std::vector<ComputedGradient> gradients;
  for (const auto& output : program.outputs) {
    if (output->kind != program::OutputKind::Gradient) continue;
    const program::TensorT& tensor = *program.tensors[output->tensor];
    const std::vector<int64_t>& sizes = tensor.block_of > 0 ? output->sizes : tensor.sizes;
    gradients.push_back({output->name, tensor.dtype, sizes, {}, nullptr});
  }
  Match(golden, gradients, program, &complaints);
  return complaints.Done(golden.path());
}

Result<std::vector<int>> MatchGradients(const GoldenFile& golden, const std::vector<ComputedGradient>& gradients,
                                        const program::ProgramT& program) {
  Complaints complaints;
  std::vector<int> matched = Match(golden, gradients, program, &complaints);
  RETURN_IF_ERROR(complaints.Done(golden.path()));
  return matched;
}

}  // namespace autospc
