// The bytes of parameters, buffers and constants, where a rank's executor wants them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "runtime/base/result.h"
#include "runtime/exec/executor.h"
#include "runtime/package/oci.h"

namespace autospc::train {

struct WeightOptions {
  std::string weights;           // --weights: a safetensors file or folder, "" for the package's own
  std::string prefix;            // --weights-prefix
  std::optional<uint64_t> seed;  // --init
  // A checkpoint gives them (restore.h): parameters and the state dict's buffers need no other source, and are written.
  bool restored = false;
};

// Storages that a step writes (by index): parameters under an optimiser, updated buffers.
std::map<int, bool> WrittenStorages(const program::ProgramT& program);

// Storages that can be read where the package is mapped: those that no step writes and that no option
// replaces. For ExecutorOptions::external; valid as long as the package.
std::map<int, void*> MappedStorages(const Package& package, const WeightOptions& options);

// kBadInput, before anything is loaded: weights that neither the package nor the options give, that the
// checkpoint lacks, or that it means as one (tied embeddings) where the program has two.
Status CheckWeights(const Package& package, const WeightOptions& options);

// Copies what is not mapped into the executor's storages.
Status LoadWeights(const Package& package, const WeightOptions& options, exec::Executor* executor);

}  // namespace autospc::train
