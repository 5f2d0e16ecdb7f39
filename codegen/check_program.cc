#include "codegen/check_program.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "runtime/base/alignment.h"
#include "runtime/package/kernels.h"
#include "runtime/package/micro_batches.h"

namespace autospc::codegen {
namespace {

using program::StorageKind;

class Checker {
 public:
  explicit Checker(const program::ProgramT& program) : p_(program) {}

  std::vector<std::string> Run() {
    for (size_t i = 0; i < p_.storages.size(); ++i) Storage(i);
    for (size_t i = 0; i < p_.tensors.size(); ++i) Tensor(i);
    if (!violations_.empty()) return std::move(violations_);  // indices below may mean nothing
    for (size_t i = 0; i < p_.instructions.size(); ++i) Instruction(static_cast<int>(i));
    for (const auto& out : p_.outputs) Output(*out);
    for (const auto& in : p_.inputs) Persistent(in->tensor, "input " + in->name);
    for (const auto& scalar : p_.scalars) Persistent(scalar->tensor, "scalar " + scalar->name);
    if (violations_.empty()) Overlaps();
    if (const Status parts = CheckMicroBatches(p_); !parts.ok()) violations_.push_back(parts.error().what);
    return std::move(violations_);
  }

 private:
  template <typename... Args>
  void Report(fmt::format_string<Args...> format, Args&&... args) {
    violations_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }

  bool InArena(const program::StorageT& s) const { return s.kind >= StorageKind::Gradient; }

  void Storage(size_t i) {
    const program::StorageT& s = *p_.storages[i];
    if (s.bytes < 0) Report("storage {} ({}) has {} bytes", i, s.name, s.bytes);
    if (!InArena(s)) {
      if (s.arena_offset != -1) Report("storage {} ({}) is persistent and lies in the arena", i, s.name);
      return;
    }
    if (s.arena_offset < 0 || s.arena_offset % kAlignment != 0) Report("storage {} ({}) lies at {}, no multiple of {}", i, s.name, s.arena_offset, kAlignment);
    if (s.arena_offset + s.bytes > p_.arena_bytes) {
      Report("storage {} ({}) ends at {} of an arena of {} bytes", i, s.name, s.arena_offset + s.bytes, p_.arena_bytes);
    }
    if (s.first < 0 || s.first > s.last || s.last >= static_cast<int>(p_.instructions.size())) {
      Report("storage {} ({}) lives from {} to {} of {} instructions", i, s.name, s.first, s.last, p_.instructions.size());
    }
  }

  void Tensor(size_t i) {
    const program::TensorT& t = *p_.tensors[i];
    if (t.storage < 0 || t.storage >= static_cast<int>(p_.storages.size())) {
      Report("tensor {} ({}) names storage {} of {}", i, t.name, t.storage, p_.storages.size());
      return;
    }
    if (t.sizes.size() != t.strides.size()) {
      Report("tensor {} ({}) has {} sizes and {} strides", i, t.name, t.sizes.size(), t.strides.size());
      return;
    }
    int64_t last = 0;
    bool empty = false;
    for (size_t d = 0; d < t.sizes.size(); ++d) {
      empty = empty || t.sizes[d] == 0;
      if (t.sizes[d] < 0 || t.strides[d] < 0) Report("tensor {} ({}) has a negative size or stride", i, t.name);
      last += (t.sizes[d] - 1) * t.strides[d];
    }
    const int64_t end = t.byte_offset + (empty ? 0 : (last + 1) * ElementBytes(t.dtype));
    if (t.byte_offset < 0 || end > p_.storages[t.storage]->bytes) {
      Report("tensor {} ({}) ends at byte {} of a storage of {}", i, t.name, end, p_.storages[t.storage]->bytes);
    }
  }

  void Touch(int64_t tensor, int at, const std::string& by) {
    if (tensor < 0 || tensor >= static_cast<int64_t>(p_.tensors.size())) {
      Report("{} names tensor {} of {}", by, tensor, p_.tensors.size());
      return;
    }
    const program::StorageT& s = *p_.storages[p_.tensors[tensor]->storage];
    if (InArena(s) && (at < s.first || at > s.last)) {
      Report("{} touches {} at instruction {}, which lives from {} to {}", by, s.name, at, s.first, s.last);
    }
  }

  void Instruction(int i) {
    const program::InstructionT& n = *p_.instructions[i];
    const std::string by = fmt::format("instruction {} ({})", i, n.op);
    for (const auto& arg : n.args) {
      if (arg->kind == program::ArgKind::Tensor) Touch(arg->tensor, i, by);
      if (arg->kind != program::ArgKind::TensorList) continue;
      for (int64_t t : arg->ints) {
        if (t != -1) Touch(t, i, by);
      }
    }
    for (int t : n.outputs) {
      Touch(t, i, by);
      if (t < 0 || t >= static_cast<int>(p_.tensors.size())) continue;
      const program::StorageT& s = *p_.storages[p_.tensors[t]->storage];
      if (!InArena(s)) Report("{} writes its result over the {} {}", by, program::EnumNameStorageKind(s.kind), s.name);
    }
    if (n.workspace != -1) {
      if (n.workspace < 0 || n.workspace >= static_cast<int>(p_.storages.size())) {
        Report("{} names workspace {} of {} storages", by, n.workspace, p_.storages.size());
      } else if (const auto& s = *p_.storages[n.workspace]; s.first > i || s.last < i || !InArena(s)) {
        Report("{} has a workspace that lives from {} to {}", by, s.first, s.last);
      }
    }
    if (n.source < -1 || n.source >= static_cast<int>(p_.sources.size())) Report("{} names source {} of {}", by, n.source, p_.sources.size());
  }

  void Output(const program::OutputT& out) {
    const std::string by = "output " + out.name;
    if (out.after < -1 || out.after >= static_cast<int>(p_.instructions.size())) {
      Report("{} is final after instruction {} of {}", by, out.after, p_.instructions.size());
      return;
    }
    Touch(out.tensor, out.after, by);
  }

  void Persistent(int tensor, const std::string& what) {
    if (tensor < 0 || tensor >= static_cast<int>(p_.tensors.size())) {
      Report("{} names tensor {} of {}", what, tensor, p_.tensors.size());
    } else if (InArena(*p_.storages[p_.tensors[tensor]->storage])) {
      Report("{} lies in the arena", what);
    }
  }

  // Storages by start; those alive, by offset. A new one is held against its neighbours.
  void Overlaps() {
    std::vector<int> order;
    for (size_t i = 0; i < p_.storages.size(); ++i) {
      if (InArena(*p_.storages[i]) && p_.storages[i]->bytes > 0) order.push_back(static_cast<int>(i));
    }
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return p_.storages[a]->first < p_.storages[b]->first; });
    std::multimap<int, int> by_last;
    std::map<int64_t, int> alive;
    for (int i : order) {
      const program::StorageT& s = *p_.storages[i];
      while (!by_last.empty() && by_last.begin()->first < s.first) {
        alive.erase(p_.storages[by_last.begin()->second]->arena_offset);
        by_last.erase(by_last.begin());
      }
      const auto above = alive.lower_bound(s.arena_offset);
      const bool hits_above = above != alive.end() && above->first < s.arena_offset + s.bytes;
      const bool hits_below = above != alive.begin() && std::prev(above)->first + p_.storages[std::prev(above)->second]->bytes > s.arena_offset;
      if (hits_above || hits_below) {
        const auto& other = *p_.storages[(hits_above ? above : std::prev(above))->second];
        Report("{} and {} overlap at instruction {}", other.name, s.name, s.first);
        continue;
      }
      alive.emplace(s.arena_offset, i);
      by_last.emplace(s.last, i);
    }
  }

  const program::ProgramT& p_;
  std::vector<std::string> violations_;
};

}  // namespace

std::vector<std::string> CheckProgram(const program::ProgramT& program) { return Checker(program).Run(); }

}  // namespace autospc::codegen
