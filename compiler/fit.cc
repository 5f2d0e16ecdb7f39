#include "compiler/fit.h"

#include "codegen/memory_report.h"
#include "compiler/text_table.h"
#include "runtime/base/bytes.h"

namespace autospc {
namespace {

constexpr int kBuffers = 10;

// "weights 14.96 GiB, optimizer 89.76 GiB" of the kinds outside the arena.
std::string Persistent(const codegen::MemoryReport& memory) {
  std::string text;
  for (size_t kind = 0; kind <= static_cast<size_t>(program::StorageKind::Optimizer); ++kind) {
    if (memory.by_kind[kind] == 0) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", codegen::kKindNames[kind], FormatBytes(memory.by_kind[kind]));
  }
  return text.empty() ? "nothing" : text;
}

std::string AtPeak(const program::ProgramT& program, const codegen::MemoryReport& memory) {
  if (memory.peak_instruction < 0) return "";
  const program::InstructionT& peak = *program.instructions[memory.peak_instruction];
  std::string text = fmt::format("\n  alive at the arena's peak, instruction {} of {}, {}{}:", memory.peak_instruction + 1,
                                 program.instructions.size(), peak.op,
                                 peak.source < 0 ? "" : fmt::format(" ({})", program.sources[peak.source]));
  int64_t listed = 0;
  for (const int i : memory.at_peak) {
    const program::StorageT& s = *program.storages[i];
    text += fmt::format("\n    {:>12}  {:<14}{:<32}  {}", FormatBytes(s.bytes), codegen::kKindNames[static_cast<size_t>(s.kind)],
                        Clip(s.name, 32), s.source);
    listed += s.bytes;
  }
  if (memory.live_bytes - listed >= 64 * kBuffers) {  // more than what rounding adds
    text += fmt::format("\n    {:>12}  in smaller ones", FormatBytes(memory.live_bytes - listed));
  }
  return text;
}

}  // namespace

Error DoesNotFit(const program::ProgramT& smallest, int64_t budget, const std::string& where) {
  const codegen::MemoryReport memory = codegen::ReportMemory(smallest, kBuffers);
  const int64_t needed = memory.total_bytes(), over = needed - budget;
  std::string what =
      fmt::format("a rank needs {} at the least: {} ({} bytes) more than the budget of {}\n  always there: {}\n  the arena: {}",
                  FormatBytes(needed), FormatBytes(over), over, FormatBytes(budget), Persistent(memory), FormatBytes(memory.arena_bytes));
  if (memory.persistent_bytes > budget) {
    what += fmt::format("\n  what is always there exceeds the budget by {} alone", FormatBytes(memory.persistent_bytes - budget));
  }
  return Error{Code::kDoesNotFit, what + AtPeak(smallest, memory), where,
               "raise --memory-budget, use more ranks or a shorter sequence, or shard the optimizer with --zero 2"};
}

}  // namespace autospc
