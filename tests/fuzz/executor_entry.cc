#include <cstdlib>
#include <map>
#include <memory>

#include "runtime/exec/executor.h"
#include "runtime/package/dtype.h"
#include "runtime/package/validate.h"
#include "tests/fuzz/check.h"
#include "tests/fuzz/entries.h"

namespace autospc::fuzz {
namespace {

constexpr int64_t kMostBytes = 1 << 22, kMostElements = 1 << 16;
constexpr size_t kMostInstructions = 64;

struct Free {
  void operator()(void* data) const { std::free(data); }
};

// Within what one input may take of the fuzzer's time and memory.
bool IsSmall(const program::ProgramT& p) {
  int64_t bytes = p.arena_bytes;
  for (const auto& s : p.storages) {
    if (s->bytes > kMostBytes) return false;
    bytes += s->arena_offset < 0 ? s->bytes : 0;
  }
  for (const auto& t : p.tensors) {
    if (CheckedNumel(t->sizes).value_or(kMostElements + 1) > kMostElements) return false;
  }
  return bytes <= kMostBytes && p.instructions.size() <= kMostInstructions;
}

}  // namespace

void Executor(std::string_view bytes) {
  auto unpacked = UnpackProgram(bytes, "program");
  if (!unpacked.ok() || !ValidateProgram(**unpacked, "program").ok() || (*unpacked)->world_size != 1) return;
  if (!IsSmall(**unpacked)) return;
  const std::shared_ptr<const program::ProgramT> program = std::move(*unpacked);
  // Persistent storages lie in blocks of the heap, whose ends the sanitizer guards.
  std::map<int, std::unique_ptr<void, Free>> blocks;
  exec::ExecutorOptions options;
  for (size_t i = 0; i < program->storages.size(); ++i) {
    const program::StorageT& s = *program->storages[i];
    if (s.arena_offset >= 0 || s.bytes == 0) continue;
    auto& block = blocks[static_cast<int>(i)];
    block.reset(std::calloc(static_cast<size_t>(s.bytes), 1));
    options.external[static_cast<int>(i)] = block.get();
  }
  const auto executor = exec::Executor::Create(program, options);
  if (!executor.ok()) {
    return CheckError(executor.error(), {Code::kBadInput, Code::kUnsupported, Code::kDoesNotFit, Code::kFailed});
  }
  for (const auto& scalar : program->scalars) (*executor)->SetScalar(scalar->name, 1);
  for (int step = 0; step < 2; ++step) {
    const Status ran = (*executor)->Step(nullptr);
    if (!ran.ok()) return CheckError(ran.error(), {Code::kBadInput, Code::kUnsupported, Code::kFailed});
  }
}

}  // namespace autospc::fuzz
