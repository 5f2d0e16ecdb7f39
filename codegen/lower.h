// From a finished graph to the executable program: memory planned, instructions made, all of it checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "codegen/kernel_traits.h"
#include "passes/framework/pass.h"
#include "passes/memory/storage.h"
#include "runtime/package/program_generated.h"

namespace autospc::codegen {

struct LowerOptions {
  Mesh mesh;
  int64_t seq_len = 0;           // global lengths, for the record
  int64_t batch = 0;
  std::string device = "cpu";    // or "cuda"
  std::string compiler;          // "autospc 0.1.0"
  std::string options = "{}";    // JSON of what shaped the program
  HasOutFn has_out;              // empty: no op has one
  std::optional<memory::MemoryPlan> plan;  // of this very graph with KernelTraits; none: it is planned here
};

// The program of `graph`, which is differentiated, bound and has local shapes. Strategy, optimiser and notes
// are the context's. Views and aliases become no instruction. Time linear in the graph but for the placement
// of buffers. kFailed if the graph is not in that form or the result breaks a rule of CheckProgram (bugs of
// ours); kBadInput for a predicate that does not parse.
Result<program::ProgramT> Lower(const ir::Graph& graph, const PassContext& context, const LowerOptions& options);

}  // namespace autospc::codegen
