// Compiles a global graph for a mesh of ranks and runs one step of it, each rank a thread of this process.
#pragma once

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/norm.h>

#include "codegen/lower.h"
#include "codegen/register_passes.h"
#include "compiler/autodiff/trace.h"
#include "passes/canonical/register.h"
#include "passes/framework/manager.h"
#include "passes/step/register.h"
#include "runtime/dist/in_process.h"
#include "runtime/exec/executor.h"
#include "runtime/outvariant/out_variant.h"
#include "tests/exec/late_stream.h"

namespace autospc::testing {

inline double Norm(const at::Tensor& t) { return t.to(at::kDouble).norm().item<double>(); }

struct CompiledGraph {
  program::ProgramT program;
  std::vector<Note> notes;
};

struct CompileHooks {
  ConstantReader constants;                    // of buffers and constants; empty: nothing can be read
  std::function<void(ir::Graph&)> partitioned;  // sees, and may change, the graph between partition and trace
  std::function<void(ir::Graph&)> joint;        // ... and the differentiated one before the step's passes
  bool verify_placements = true;               // of the joint graph
  std::string device = "cpu";                  // whose kernels run the program, or "cuda"
  PassContext context;                         // optimiser, ZeRO, …; ranks, strategy and constants are set from here
};

// As compiler/driver.cc does from the canonical passes on. AUTOSPC_PRINT_AFTER=PASS|all shows the graph in between.
inline Result<CompiledGraph> CompileGraph(ir::Graph graph, const Mesh& mesh, const std::string& strategy,
                                          const CompileHooks& hooks = {}) {
  PassRegistry registry;
  RegisterAllPasses(registry);
  PassManagerOptions options;
  if (const char* after = std::getenv("AUTOSPC_PRINT_AFTER")) options.print_after = {after};
  PassManager manager(registry, options);
  PassContext context = hooks.context;
  context.ranks = mesh.ranks();
  context.dp = mesh.dp;
  context.strategy = strategy;
  context.constants = hooks.constants;
  std::vector<std::string> passes = CanonicalPipeline();
  if (context.micro_batches > 1) passes.push_back("total-losses");
  passes.push_back("partition");
  RETURN_IF_ERROR(manager.Run(graph, context, passes));
  if (hooks.partitioned) hooks.partitioned(graph);
  ASSIGN_OR_RETURN(ir::Graph joint, autodiff::Trace(graph));
  if (hooks.joint) hooks.joint(joint);
  options.verify_placements = hooks.verify_placements;
  PassManager step(registry, options);
  RETURN_IF_ERROR(step.Observe(joint, "differentiate"));
  RETURN_IF_ERROR(step.Run(joint, context, StepPipeline(context)));
  codegen::LowerOptions lower;
  lower.mesh = mesh;
  lower.has_out = [](const std::string& op) { return OutVariant(op).has_value(); };
  lower.device = hooks.device;
  CompiledGraph result;
  ASSIGN_OR_RETURN(result.program, codegen::Lower(joint, context, lower));
  result.notes = context.notes;
  return result;
}

using Tensors = std::map<std::string, at::Tensor>;

struct RankResult {
  double loss = 0;
  Tensors gradients;
};

inline Status Fill(const exec::Executor& executor, program::StorageKind kind, const Tensors& tensors) {
  for (const auto& [name, t] : tensors) {
    const int storage = executor.FindStorage(kind, name);
    if (storage < 0) continue;  // nobody reads it
    const at::Tensor data = t.detach().contiguous();
    const auto bytes = static_cast<int64_t>(data.nbytes());
    const auto at = [&](c10::Device device, void* where) { return exec::TensorAt(device, where, {bytes}, {1}, at::kByte); };
    at(executor.device(), executor.storage(storage)).copy_(at(at::kCPU, data.data_ptr()));
  }
  return Ok();
}

// On the communicator's device; its collectives, given a side stream, there.
inline Status RunRank(const std::shared_ptr<const program::ProgramT>& program, Communicator* communicator,
                      const Tensors& parameters, const std::vector<Tensors>& batches, RankResult* result,
                      std::shared_ptr<exec::SideStream> side = nullptr) {
  exec::ExecutorOptions options;
  options.side_stream = std::move(side);
  options.rank = communicator->rank();
  options.communicator = communicator;
  options.device = communicator->device();
  ASSIGN_OR_RETURN(const auto executor, exec::Executor::Create(program, options));
  for (const auto kind : {program::StorageKind::Parameter, program::StorageKind::Buffer, program::StorageKind::Constant}) {
    RETURN_IF_ERROR(Fill(*executor, kind, parameters));
  }
  for (const Tensors& inputs : batches) {
    RETURN_IF_ERROR(Fill(*executor, program::StorageKind::Input, inputs));
    RETURN_IF_ERROR(executor->Step([&](const program::OutputT& output, const at::Tensor& value) -> Status {
      if (output.kind == program::OutputKind::Loss) result->loss = value.item<double>();
      if (output.kind == program::OutputKind::Gradient) result->gradients[output.name] = value.cpu().clone();
      return Ok();
    }));
  }
  return Ok();
}

// One step, on the host or on `device`; of a program with micro-batches a batch for each. Given `late`, each rank's
// collectives are as late as they may be, and it becomes the most that were pending at a time.
inline Result<std::vector<RankResult>> RunRanks(const program::ProgramT& program, const Tensors& parameters,
                                                const std::vector<Tensors>& batches, std::optional<c10::Device> device = {},
                                                size_t* late = nullptr) {
  const auto shared = std::make_shared<const program::ProgramT>(program);
  const auto communicators = MakeInProcessCommunicators(program.world_size, device);
  std::vector<RankResult> results(communicators.size());
  std::vector<std::optional<Error>> errors(communicators.size());
  std::vector<std::shared_ptr<exec::LateStream>> sides(communicators.size());
  if (late != nullptr) {
    for (auto& side : sides) side = std::make_shared<exec::LateStream>();
  }
  std::vector<std::thread> threads;
  for (size_t r = 0; r < communicators.size(); ++r) {
    threads.emplace_back([&, r] {
      at::set_num_threads(1);
      const Status status = RunRank(shared, communicators[r].get(), parameters, batches, &results[r], sides[r]);
      if (status.ok()) return;
      errors[r] = status.error();
      communicators[r]->Abort();
    });
  }
  for (std::thread& t : threads) t.join();
  if (late != nullptr) *late = sides[0]->most();
  for (const auto& error : errors) {
    if (error && error->code != Code::kInterrupted) return *error;
  }
  for (const auto& error : errors) {
    if (error) return *error;
  }
  return results;
}
inline Result<std::vector<RankResult>> RunRanks(const program::ProgramT& program, const Tensors& parameters, const Tensors& inputs,
                                                std::optional<c10::Device> device = {}, size_t* late = nullptr) {
  return RunRanks(program, parameters, std::vector<Tensors>{inputs}, device, late);
}

}  // namespace autospc::testing
