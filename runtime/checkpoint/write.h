// Writing a checkpoint: every rank its part into a hidden folder, rank 0 the manifest when all parts are there, then
// the folder gets its name. The folder lies on a file system that all ranks see.
//
//   .step-00000200.tmp/model-00001-of-00004.safetensors      parameters and buffers, by rank (model.safetensors where
//                      model.safetensors.index.json          there is one); as Hugging Face lays out shards
//                      optimizer-00001-of-00004.safetensors  states, by rank: whole, or the rank's blocks
//                      part-00001.json                       a rank's record, gone when the checkpoint is complete
//                      manifest.json
//
// kFailed: the disk (full, a limit on file sizes, no permission); what exists under a step's name is untouched.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/base/result.h"
#include "runtime/checkpoint/layout.h"
#include "runtime/checkpoint/manifest.h"

namespace autospc::checkpoint {

// Makes the hidden folder of a step, and `dir` where it is missing. Rank 0 alone.
Status BeginCheckpoint(const std::string& dir, int64_t step);

// Writes and syncs the rank's files, then its record. `snapshot` holds the rank's slices at their offsets. Stops with
// kInterrupted soon after `cancelled` becomes true.
Status WritePart(const std::string& dir, int64_t step, const Layout& layout, int rank, const std::byte* snapshot,
                 const std::atomic<bool>& cancelled);

// Waits for every rank's record, writes the manifest (`header` with what describes the run; files and tensors are
// filled in), names the folder and removes all but the `keep` latest (0: none is removed). Rank 0 alone. An existing
// checkpoint of the step is replaced. kInterrupted as above. Returns its path.
Result<std::string> FinishCheckpoint(const std::string& dir, const Layout& layout, Manifest header, int64_t keep,
                                     const std::atomic<bool>& cancelled);

}  // namespace autospc::checkpoint
