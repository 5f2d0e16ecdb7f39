#include "runtime/checkpoint/layout.h"

#include <algorithm>
#include <set>

#include "runtime/package/dtype.h"
#include "runtime/package/export_facts.h"

namespace autospc::checkpoint {
namespace {

using program::StorageKind;

// An optimiser's state has its parameter's sizes, also where a rank holds a block of it: "NAME.exp_avg" those of NAME.
std::vector<int64_t> WholeSizes(const program::TensorT& t, const std::string& name,
                                const std::map<std::string, std::vector<int64_t>>& parameters) {
  if (t.block_of == 0) return t.sizes;
  const auto parameter = parameters.find(name.substr(0, name.rfind('.')));
  const bool fits = parameter != parameters.end() && CheckedNumel(parameter->second) == t.block_of;
  return fits ? parameter->second : std::vector<int64_t>{t.block_of};
}

}  // namespace

int64_t SavedTensor::numel() const { return CheckedNumel(sizes).value_or(0); }

Layout MakeLayout(const program::ProgramT& program, const std::map<int, bool>& written) {
  std::vector<int> first(program.storages.size(), -1);  // the storage's own tensor is the first made for it
  for (size_t t = program.tensors.size(); t-- > 0;) first[program.tensors[t]->storage] = static_cast<int>(t);
  std::set<int> scalars;  // "lr" and "step" are written before each step
  for (const auto& scalar : program.scalars) scalars.insert(program.tensors[scalar->tensor]->storage);
  std::map<std::string, std::vector<int64_t>> parameters;
  for (size_t i = 0; i < program.storages.size(); ++i) {
    const program::StorageT& s = *program.storages[i];
    if (s.kind == StorageKind::Parameter && first[i] >= 0) parameters[s.name] = program.tensors[first[i]]->sizes;
  }
  const ExportFacts facts = ReadExportFacts(program);
  Layout layout;
  layout.ranks = std::max(1, program.world_size);
  for (size_t i = 0; i < program.storages.size(); ++i) {
    const program::StorageT& s = *program.storages[i];
    const int index = static_cast<int>(i);
    const bool buffer = s.kind == StorageKind::Buffer;
    const bool in_state_dict = s.kind != StorageKind::Optimizer && !(buffer && facts.non_persistent.contains(s.name));
    const bool kept = s.kind == StorageKind::Parameter || s.kind == StorageKind::Optimizer ||
                      (buffer && (in_state_dict || written.count(index) != 0));
    if (s.arena_offset >= 0 || !kept || first[i] < 0 || scalars.count(index) != 0) continue;
    const program::TensorT& t = *program.tensors[first[i]];
    SavedTensor saved;
    saved.storage = index;
    saved.tensor = first[i];
    saved.name = s.name;
    saved.dtype = t.dtype;
    saved.sizes = WholeSizes(t, s.name, parameters);
    saved.weight = in_state_dict;
    saved.block = t.block_of > 0 ? CheckedNumel(t.sizes).value_or(0) : 0;
    layout.tensors.push_back(std::move(saved));
  }
  // The largest first, each to the rank that has least.
  std::vector<SavedTensor*> whole;
  for (SavedTensor& t : layout.tensors) {
    if (t.block == 0) whole.push_back(&t);
  }
  const auto bytes = [](const SavedTensor& t) { return t.numel() * ByteSize(t.dtype); };
  std::stable_sort(whole.begin(), whole.end(), [&](const auto* a, const auto* b) { return bytes(*a) > bytes(*b); });
  std::set<std::pair<int64_t, int>> load;
  for (int r = 0; r < layout.ranks; ++r) load.emplace(0, r);
  for (SavedTensor* t : whole) {
    const auto [taken, rank] = *load.begin();
    load.erase(load.begin());
    t->writer = rank;
    load.emplace(taken + bytes(*t), rank);
  }
  return layout;
}

std::vector<Slice> Layout::SlicesOf(int rank) const {
  std::vector<Slice> slices;
  int64_t offset = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const SavedTensor& t = tensors[i];
    if (t.block == 0 && t.writer != rank) continue;
    const int64_t n = t.numel();
    Slice slice{static_cast<int>(i), 0, n, offset, 0};
    if (t.block > 0) {
      slice.begin = std::min(n, rank * t.block);
      slice.end = std::min(n, slice.begin + t.block);
      if (slice.begin == slice.end) continue;
    }
    slice.bytes = (slice.end - slice.begin) * ByteSize(t.dtype);
    offset += (slice.bytes + 63) / 64 * 64;
    slices.push_back(slice);
  }
  return slices;
}

int64_t SnapshotBytes(const std::vector<Slice>& slices) {
  return slices.empty() ? 0 : slices.back().offset + (slices.back().bytes + 63) / 64 * 64;
}

}  // namespace autospc::checkpoint
