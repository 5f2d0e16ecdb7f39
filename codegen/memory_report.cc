#include "codegen/memory_report.h"

#include <algorithm>

#include "passes/memory/storage.h"
#include "runtime/base/alignment.h"

namespace autospc::codegen {
MemoryReport ReportMemory(const program::ProgramT& program, int count) {
  MemoryReport report;
  report.arena_bytes = program.arena_bytes;
  const size_t instructions = program.instructions.size();
  std::vector<int64_t> change(instructions + 1, 0);
  for (size_t i = 0; i < program.storages.size(); ++i) {
    const program::StorageT& s = *program.storages[i];
    if (s.arena_offset < 0) {
      report.by_kind[static_cast<size_t>(s.kind)] += s.bytes;
      report.persistent_bytes += s.bytes;
      continue;
    }
    report.largest.push_back(static_cast<int>(i));
    if (s.first < 0 || s.last < s.first || s.last >= static_cast<int>(instructions)) continue;
    change[s.first] += Aligned(s.bytes);
    change[s.last + 1] -= Aligned(s.bytes);
  }
  int64_t live = 0;
  for (size_t i = 0; i < instructions; ++i) {
    live += change[i];
    if (live <= report.live_bytes) continue;
    report.live_bytes = live;
    report.peak_instruction = static_cast<int>(i);
  }
  for (const int i : report.largest) {  // by index here
    const program::StorageT& s = *program.storages[i];
    if (s.first > report.peak_instruction || report.peak_instruction > s.last) continue;
    report.by_kind[static_cast<size_t>(s.kind)] += Aligned(s.bytes);
    report.at_peak.push_back(i);
  }
  for (std::vector<int>* list : {&report.largest, &report.at_peak}) {
    std::stable_sort(list->begin(), list->end(),
                     [&](int a, int b) { return program.storages[a]->bytes > program.storages[b]->bytes; });
    if (list->size() > static_cast<size_t>(count)) list->resize(count);
  }
  return report;
}

}  // namespace autospc::codegen
