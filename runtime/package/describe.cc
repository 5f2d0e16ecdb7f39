#include "runtime/package/describe.h"

#include <fmt/format.h>

namespace autospc {

std::string DescribeInstruction(const program::ProgramT& program, int64_t index) {
  const auto count = static_cast<int64_t>(program.instructions.size());
  if (index < 0 || index >= count) return fmt::format("instruction {}", index);
  const program::InstructionT& instruction = *program.instructions[static_cast<size_t>(index)];
  std::string text = fmt::format("instruction {} of {} ({})", index, count, instruction.op);
  if (instruction.source >= 0 && instruction.source < static_cast<int>(program.sources.size()))
    text += ", from " + program.sources[static_cast<size_t>(instruction.source)];
  return text;
}

}  // namespace autospc
