#include "runtime/train/checkpointer.h"

#include <cstring>
#include <filesystem>

#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/base/stopwatch.h"
#include "runtime/checkpoint/folder.h"
#include "runtime/checkpoint/read.h"
#include "runtime/checkpoint/write.h"
#include "runtime/train/agree.h"
#include "runtime/train/load.h"
#include "runtime/train/stop_signal.h"

namespace autospc::train {
namespace {

int64_t TotalBytes(const checkpoint::Layout& layout) {
  int64_t bytes = 0;
  for (int r = 0; r < layout.ranks; ++r) bytes += checkpoint::SnapshotBytes(layout.SlicesOf(r));
  return bytes;
}

}  // namespace

Status CheckCheckpointFolder(const CheckpointOptions& options, int64_t step) {
  if (options.dir.empty()) return Ok();
  ASSIGN_OR_RETURN(const auto found, checkpoint::ListCheckpoints(options.dir));
  for (const checkpoint::Listed& listed : found) {
    std::error_code error;
    const bool whole = std::filesystem::exists(std::filesystem::path(listed.path) / checkpoint::kManifestName, error);
    if (listed.step <= step || !whole) continue;
    return Error{Code::kUsage,
                 fmt::format("the folder holds a checkpoint of step {}, and this run begins at step {}", listed.step, step),
                 options.dir,
                 "go on from there with --resume auto, or give --checkpoint another folder"};
  }
  return Ok();
}

Result<std::unique_ptr<Checkpointer>> Checkpointer::Make(const CheckpointOptions& options, exec::Executor* executor,
                                                         Communicator* communicator, checkpoint::Manifest header,
                                                         std::function<std::string()> position) {
  std::unique_ptr<Checkpointer> made(
      new Checkpointer(options, executor, communicator, std::move(header), std::move(position)));
  made->layout_ = checkpoint::MakeLayout(executor->program(), WrittenStorages(executor->program()));
  Result<Snapshot> snapshot = Snapshot::Make(made->layout_, executor);
  RETURN_IF_ERROR(AgreeOn(communicator, snapshot.ok() ? Ok() : Status(snapshot.error())));
  made->snapshot_ = std::move(snapshot).value();
  if (made->header_.step > 0) made->saved_ = made->header_.step;  // what the run goes on from
  if (made->first()) made->Announce();
  return made;
}

Checkpointer::~Checkpointer() {
  cancelled_ = true;
  if (thread_.joinable()) thread_.join();
}

void Checkpointer::Announce() const {
  int64_t largest = 0;
  for (int r = 0; r < layout_.ranks; ++r) largest = std::max(largest, checkpoint::SnapshotBytes(layout_.SlicesOf(r)));
  const std::string when = options_.every > 0 ? fmt::format("every {} steps and at the end", options_.every) : "at the end";
  Log(LogLevel::kInfo, fmt::format("checkpoints of {} {} in {}; a rank's copy takes {} of memory besides the plan",
                                   FormatBytes(TotalBytes(layout_)), when, options_.dir, FormatBytes(largest)));
}

Error Checkpointer::Failed(Error error) const {
  error.what = fmt::format("the checkpoint of step {} could not be written: {}", saved_, error.what);
  const auto found = checkpoint::ListCheckpoints(options_.dir);
  if (!found.ok()) return error;
  for (const checkpoint::Listed& listed : *found) {
    if (!checkpoint::Reader::Open(listed.path).ok()) continue;
    error.hint = fmt::format("the checkpoint of step {} is whole: go on from it with --resume {}", listed.step, options_.dir);
    break;
  }
  return error;
}

Status Checkpointer::OnStep(const StepRecord& record) {
  RETURN_IF_ERROR(Agree());
  const bool due = options_.every > 0 && record.step % options_.every == 0;
  return due || stopping() ? Save(record.step) : Ok();
}

Status Checkpointer::OnEnd() {
  if (executor_->steps() > saved_) RETURN_IF_ERROR(Save(executor_->steps()));
  RETURN_IF_ERROR(Drain());
  if (stopping() && first()) {
    Log(LogLevel::kInfo, fmt::format("{}: stopped after step {}; --resume {} goes on from there", strsignal(stop_signal_),
                                     executor_->steps(), options_.dir));
  }
  return Ok();
}

// Two numbers of each rank: the signal it got, and whether its thread failed.
Status Checkpointer::Agree() {
  Status mine = Ok();
  {
    const std::lock_guard lock(mutex_);
    mine = outcome_;
  }
  const int64_t said[2] = {StopSignal(), mine.ok() ? 0 : 1};
  std::vector<int64_t> all(2 * communicator_->size());
  RETURN_IF_ERROR(communicator_->AllGather(said, all.data(), sizeof(said)));
  bool failed = false;
  for (size_t i = 0; i < all.size(); i += 2) {
    if (stop_signal_ == 0) stop_signal_ = static_cast<int>(all[i]);
    failed = failed || all[i + 1] != 0;
  }
  if (!failed) return Ok();
  cancelled_ = true;
  return AgreeOn(communicator_, mine.ok() ? mine : Status(Failed(mine.error())));
}

// A rank whose part fails must not leave rank 0 waiting for it: so the parts first, what rank 0 makes of them then.
Status Checkpointer::Drain() {
  if (!thread_.joinable()) return Ok();
  Status part = Ok();
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return part_done_; });
    part = outcome_;
  }
  Status agreed = AgreeOn(communicator_, part.ok() ? part : Status(Failed(part.error())));
  if (!agreed.ok()) cancelled_ = true;
  thread_.join();
  RETURN_IF_ERROR(agreed);
  Status whole = outcome_;
  RETURN_IF_ERROR(AgreeOn(communicator_, whole.ok() ? whole : Status(Failed(whole.error()))));
  return Ok();
}

Status Checkpointer::Save(int64_t step) {
  if (step == saved_) return Ok();
  RETURN_IF_ERROR(Drain());
  saved_ = step;
  Status begun = first() ? checkpoint::BeginCheckpoint(options_.dir, step) : Ok();
  RETURN_IF_ERROR(AgreeOn(communicator_, begun.ok() ? begun : Status(Failed(begun.error()))));
  std::error_code error;
  Status seen = Ok();
  if (!std::filesystem::is_directory(checkpoint::TemporaryFolder(options_.dir, step), error)) {
    seen = Error{Code::kBadInput, fmt::format("rank {} does not see the folder that rank 0 made for a checkpoint", communicator_->rank()),
                 options_.dir, "all machines must see it: use a shared file system"};
  }
  RETURN_IF_ERROR(AgreeOn(communicator_, seen));
  snapshot_.Take();
  checkpoint::Manifest header = header_;
  header.step = step;
  header.data = position_();
  part_done_ = false;
  thread_ = std::thread([this, header = std::move(header)] { Write(header); });
  return Ok();
}

void Checkpointer::Write(checkpoint::Manifest header) {
  const Stopwatch watch;
  const int64_t step = header.step;
  Status status = checkpoint::WritePart(options_.dir, step, layout_, communicator_->rank(), snapshot_.data(), cancelled_);
  {
    const std::lock_guard lock(mutex_);
    part_done_ = true;
    outcome_ = status;
  }
  changed_.notify_all();
  if (!status.ok() || !first()) return;
  auto path = checkpoint::FinishCheckpoint(options_.dir, layout_, std::move(header), options_.keep, cancelled_);
  if (path.ok()) Log(LogLevel::kInfo, fmt::format("checkpoint of step {}: {}, {:.2f} s beside the training", step, *path, watch.Seconds()));
  const std::lock_guard lock(mutex_);
  if (!path.ok() && path.error().code != Code::kInterrupted) outcome_ = path.error();
}

}  // namespace autospc::train
