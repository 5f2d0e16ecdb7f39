#include "runtime/train/report.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/dist/communicator.h"
#include "runtime/train/memory_probe.h"

namespace autospc::train {
namespace {

// One rank's memory, gathered by all of them.
struct MemoryReport {
  int64_t planned = 0;  // bytes of the arena
  int64_t growth = 0;   // VmHWM above the resident state after loading; on a GPU what LibTorch's allocator gave out
  int64_t outside = 0;  // tensor bytes outside the arena in the last step
};

// By op: seconds a step on average; of each instruction in the step in which it took least, wall and processor time.
void PrintTimes(const exec::Executor& executor, bool json) {
  struct Sum {
    double mean = 0, fastest = 0, busy = 0;
    int count = 0;
  };
  std::map<std::string, Sum> by_op;
  const double steps = static_cast<double>(std::max<int64_t>(executor.steps(), 1));
  for (size_t i = 0; i < executor.times().size(); ++i) {
    Sum& sum = by_op[executor.program().instructions[i]->op];
    sum.mean += executor.times()[i] / steps;
    sum.fastest += executor.fastest()[i];
    sum.busy += executor.busy()[i];
    ++sum.count;
  }
  std::vector<std::pair<std::string, Sum>> rows(by_op.begin(), by_op.end());
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.second.mean > b.second.mean; });
  if (!json) fmt::print("seconds a step, at best, of the processor, calls, op\n");
  for (const auto& [op, sum] : rows) {
    if (json) {
      fmt::print("{{\"op\": \"{}\", \"count\": {}, \"seconds\": {:.6g}, \"fastest\": {:.6g}, \"busy\": {:.6g}}}\n", op,
                 sum.count, sum.mean, sum.fastest, sum.busy);
    } else {
      fmt::print("{:10.4f} {:10.4f} {:10.4f} {:6} x {}\n", sum.mean, sum.fastest, sum.busy, sum.count, op);
    }
  }
  std::fflush(stdout);
}

Status ReportMemory(Rank* rank) {
  exec::Executor& executor = rank->executor();
  ASSIGN_OR_RETURN(const ProcessMemory memory, ReadProcessMemory());
  const int64_t arena = executor.program().arena_bytes, beside = executor.OutsideBytes();
  // A GPU's arena is taken when it is loaded, so that a step grows by what lies outside.
  const int64_t growth = executor.device().is_cpu() ? memory.peak_resident - rank->loaded_resident() : arena + beside;
  const MemoryReport mine{arena, growth, beside};
  std::vector<MemoryReport> all(rank->communicator().size());
  RETURN_IF_ERROR(rank->communicator().AllGather(&mine, all.data(), sizeof(MemoryReport)));
  if (!rank->first()) return Ok();
  for (size_t r = 0; r < all.size(); ++r) {
    if (rank->options().json) {
      fmt::print(
          "{{\"rank\": {}, \"planned_arena_bytes\": {}, \"measured_growth_bytes\": {}, \"bytes_outside_arena\": {}}}\n",
          r, all[r].planned, all[r].growth, all[r].outside);
    } else {
      fmt::print("memory of rank {}: arena planned {}, growth measured {}, tensor bytes outside the arena {}\n", r,
                 FormatBytes(all[r].planned), FormatBytes(all[r].growth), all[r].outside);
    }
  }
  std::fflush(stdout);
  std::map<std::string, int64_t> outside;
  for (size_t i = 0; i < executor.outside_by_instruction().size(); ++i) {
    if (const int64_t bytes = executor.outside_by_instruction()[i])
      outside[executor.program().instructions[i]->op] += bytes;
  }
  for (const auto& [op, bytes] : outside)
    Log(LogLevel::kInfo, fmt::format("outside the arena, all steps together: {} by {}", FormatBytes(bytes), op));
  return Ok();
}

}  // namespace

Status ReportRun(Rank* rank) {
  if (rank->options().time_ops && rank->first()) PrintTimes(rank->executor(), rank->options().json);
  return rank->options().measure_memory ? ReportMemory(rank) : Ok();
}

}  // namespace autospc::train
