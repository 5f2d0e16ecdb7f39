// Writes checkpoints beside the training: at a step's end every rank copies its part, and a thread of its own writes
// that while the next steps run.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "runtime/base/result.h"
#include "runtime/checkpoint/layout.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/dist/communicator.h"
#include "runtime/train/checkpoint_options.h"
#include "runtime/train/loop.h"
#include "runtime/train/snapshot.h"

namespace autospc::train {

// What can be said before the ranks start: a run that begins at `step` must not find later checkpoints in its folder,
// which a later --resume would take for its own. kUsage.
Status CheckCheckpointFolder(const CheckpointOptions& options, int64_t step);

class Checkpointer : public StepListener {
 public:
  // All ranks call it. `header`: of the manifest, all but step, files and tensors. `position` gives, after a step, the
  // JSON of where in the data the next one begins. rank and communicator outlive it. kDoesNotFit: no memory for the copy.
  static Result<std::unique_ptr<Checkpointer>> Make(const CheckpointOptions& options, exec::Executor* executor,
                                                    Communicator* communicator, checkpoint::Manifest header,
                                                    std::function<std::string()> position);
  ~Checkpointer() override;  // gives up what is being written

  // Errors: what a writing thread met, on its rank; kPeerFailed on the others.
  Status OnStep(const StepRecord& record) override;
  // Writes the last step if it is not written yet, and returns when it is complete.
  Status OnEnd() override;

  // Whether a rank was asked to stop (stop_signal.h): the same on all ranks, as they have agreed in OnStep.
  bool stopping() const { return stop_signal_ != 0; }

 private:
  Checkpointer(const CheckpointOptions& options, exec::Executor* executor, Communicator* communicator,
               checkpoint::Manifest header, std::function<std::string()> position)
      : options_(options), executor_(executor), communicator_(communicator), header_(std::move(header)),
        position_(std::move(position)) {}
  bool first() const { return communicator_->rank() == 0; }
  Status Agree();             // on signals and failures, after every step
  Status Save(int64_t step);  // starts the thread
  Status Drain();             // waits for what is being written
  void Write(checkpoint::Manifest header);
  Error Failed(Error error) const;
  void Announce() const;

  const CheckpointOptions options_;
  exec::Executor* executor_;
  Communicator* communicator_;
  checkpoint::Manifest header_;
  std::function<std::string()> position_;
  checkpoint::Layout layout_;
  Snapshot snapshot_;
  int stop_signal_ = 0;
  int64_t saved_ = -1;  // the last step of which a checkpoint was begun

  std::thread thread_;
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  // Of the thread that runs, under mutex_.
  bool part_done_ = true;
  Status outcome_ = Ok();
};

}  // namespace autospc::train
