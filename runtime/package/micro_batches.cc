#include "runtime/package/micro_batches.h"

#include <string_view>
#include <vector>

namespace autospc {
namespace {

constexpr std::string_view kEachMicroBatch = "autosp.each_micro_batch_", kMicroBatchesEnd = "autosp.micro_batches_end_";

Error Unsound(std::string what) {
  return Error{Code::kBadInput, "the program is not sound: " + std::move(what), "",
               "the package is damaged or was not made by autospc; compile it anew"};
}

}  // namespace

MicroBatches MicroBatchesOf(const program::ProgramT& program) {
  MicroBatches found;
  const auto size = static_cast<int64_t>(program.instructions.size());
  found.end = size;
  for (int64_t i = 0; i < size; ++i) {
    const program::InstructionT& instruction = *program.instructions[i];
    if (instruction.op == kEachMicroBatch) {
      found.begin = i + 1;
      found.count = instruction.args[0]->i;
    } else if (instruction.op == kMicroBatchesEnd) {
      found.end = i;
    }
  }
  return found;
}

Status CheckMicroBatches(const program::ProgramT& program) {
  std::vector<int64_t> begins, ends;
  for (size_t i = 0; i < program.instructions.size(); ++i) {
    const program::InstructionT& instruction = *program.instructions[i];
    if (instruction.op == kMicroBatchesEnd) ends.push_back(static_cast<int64_t>(i));
    if (instruction.op != kEachMicroBatch) continue;
    begins.push_back(static_cast<int64_t>(i));
    const bool number = instruction.args.size() == 1 && instruction.args[0]->kind == program::ArgKind::Int;
    if (!number || instruction.args[0]->i < 1 || instruction.args[0]->i > kMaxMicroBatches)
      return Unsound(fmt::format("instruction {} gives no count of micro-batches", i));
  }
  if (begins.empty() && ends.empty()) return Ok();
  if (begins.size() != 1 || ends.size() != 1 || begins[0] > ends[0])
    return Unsound("its micro-batches do not begin once and end once");
  for (const auto& s : program.storages) {
    if (s->arena_offset < 0 || s->bytes == 0) continue;
    const bool enters = s->first < begins[0] && s->last > begins[0], leaves = s->first < ends[0] && s->last > ends[0];
    if (enters && !leaves) return Unsound(fmt::format("the second micro-batch would find nothing in '{}'", s->name));
    if (leaves && !enters) return Unsound(fmt::format("'{}' is of the last micro-batch, and the rest of the step reads it", s->name));
  }
  return Ok();
}

}  // namespace autospc
