// One rank of a job: its program loaded, its place among the others, and single steps of it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/checkpoint/read.h"
#include "runtime/data/batch_source.h"
#include "runtime/dist/rendezvous.h"
#include "runtime/exec/executor.h"
#include "runtime/package/oci.h"
#include "runtime/train/capture.h"
#include "runtime/train/check_numerics.h"
#include "runtime/train/run.h"

namespace autospc::train {

class Rank {
 public:
  // Loads program and weights, or what the checkpoint `resumed` has (none: nullptr). `gradients`: steps hand every
  // gradient to rank 0's capture (a golden comparison). All ranks call it; options and package are the same on all;
  // options and meeting outlive the rank.
  static Result<std::unique_ptr<Rank>> Load(const RunOptions& options, std::shared_ptr<const Package> package,
                                            const Meeting& meeting, const checkpoint::Reader* resumed, bool gradients);

  const RunOptions& options() const { return options_; }
  const Package& package() const { return *package_; }
  const program::ProgramT& program() const { return executor_->program(); }
  exec::Executor& executor() { return *executor_; }
  const Capture& capture() const { return *capture_; }
  const Meeting& meeting() const { return meeting_; }
  Communicator& communicator() { return *meeting_.host; }
  int rank() const { return meeting_.host->rank(); }
  bool first() const { return rank() == 0; }
  // The process as it was when loading was over, in bytes.
  int64_t loaded_resident() const { return loaded_resident_; }

  // Where the batch is put: where the program reads it, or on the host, from where a step and an evaluation bring it to
  // the device.
  std::vector<data::InputView> Inputs() const;
  // Steps taken, those of the run that this one continues included.
  int64_t steps() const { return executor_->steps(); }
  // One optimiser step on what the inputs hold, or the next of its micro_batches(). Loss and gradient norm are in
  // capture() after the last, on every rank.
  Status Step(double lr);
  int64_t micro_batches() const { return executor_->micro_batches(); }
  // Whether the error that a step or the loop has ended with is the same on all ranks: one of them says it.
  bool shared_error() const { return shared_error_; }
  void set_shared_error() { shared_error_ = true; }
  // The loss of what the inputs hold, without dropout; nothing of the training changes.
  Result<double> Evaluate();

 private:
  Rank(const RunOptions& options, std::shared_ptr<const Package> package, const Meeting& meeting)
      : options_(options), package_(std::move(package)), meeting_(meeting) {}
  Status LoadProgram(const checkpoint::Reader* resumed, bool gradients);
  void BringInputs();

  const RunOptions& options_;
  std::shared_ptr<const Package> package_;
  const Meeting& meeting_;
  std::unique_ptr<exec::Executor> executor_;
  std::unique_ptr<Capture> capture_;
  std::unique_ptr<NumericsCheck> numerics_;  // --check-numerics
  std::vector<at::Tensor> staged_;           // on the host, one for each input; none where the device is the host
  bool shared_error_ = false;
  int64_t loaded_resident_ = 0;
};

}  // namespace autospc::train
