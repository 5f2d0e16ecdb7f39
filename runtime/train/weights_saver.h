// --save-weights: what was trained, written at the end under the names that the checkpoint it came from has.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/checkpoint/layout.h"
#include "runtime/dist/communicator.h"
#include "runtime/exec/executor.h"
#include "runtime/package/oci.h"
#include "runtime/package/save_weights.h"
#include "runtime/train/load.h"
#include "runtime/train/loop.h"

namespace autospc::train {

// A parameter or buffer as it is saved.
struct SavedWeight {
  checkpoint::SavedTensor from;    // the program's
  int master = -1;                 // the tensor that holds its float32 master, where that is saved in its stead
  int64_t master_block = 0;        // elements of a rank's block of the master; 0: whole
  std::vector<std::string> names;  // one, or each of a tie's that the original checkpoint has
};

// Names: those that the checkpoint of --weights has, else those that the checkpoint given to the compiler had, else the
// model's own (a tie has its first). Types: the export's; of a float32 export trained in bfloat16 the float32 masters.
// kBadInput where --weights can't be read or its names be matched.
Result<std::vector<SavedWeight>> PlanSavedWeights(const program::ProgramT& program, const WeightOptions& weights);

class WeightsSaver : public StepListener {
 public:
  // All ranks call it. `copies` of --weights go beside the weights: config.json and what a tokenizer needs.
  static Result<std::unique_ptr<WeightsSaver>> Make(const std::string& path, int64_t max_shard_bytes,
                                                    const WeightOptions& weights, exec::Executor* executor,
                                                    Communicator* communicator);
  // Asked at the end: true, on all ranks alike, where nothing is to be saved (the run was stopped before its last step).
  void set_unless(std::function<bool()> unless) { unless_ = std::move(unless); }
  Status OnStep(const StepRecord&) override { return Ok(); }
  Status OnEnd() override;

 private:
  WeightsSaver() = default;
  TensorToWrite Tensor(const SavedWeight& weight, const std::string& name) const;

  std::string path_;
  SaveWeightsOptions options_;
  std::vector<SavedWeight> weights_;
  std::vector<WeightSource> untrained_;  // what the checkpoint of --weights holds besides: goes along as it is
  exec::Executor* executor_ = nullptr;
  Communicator* communicator_ = nullptr;
  std::function<bool()> unless_;
};

}  // namespace autospc::train
