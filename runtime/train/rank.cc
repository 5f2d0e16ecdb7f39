#include "runtime/train/rank.h"

#include <ATen/ops/zeros.h>

#include <algorithm>

#include "runtime/base/whereabouts.h"
#include "runtime/train/load.h"
#include "runtime/train/memory_probe.h"
#include "runtime/train/restore.h"
#include "runtime/train/slices.h"

namespace autospc::train {
namespace {

constexpr int64_t kDataSlack = 32 << 20;  // bytes that a step may take besides the arena (--limit-data)

// Zero pages of the optimiser's states and of the inputs belong to the state after loading.
void TouchState(exec::Executor* executor, size_t storage) {
  if (!executor->device().is_cpu()) return;
  const program::StorageT& s = *executor->program().storages[storage];
  const bool zeros = s.kind == program::StorageKind::Optimizer || s.kind == program::StorageKind::Input;
  if (s.arena_offset >= 0 || !zeros) return;
  auto* bytes = static_cast<volatile char*>(executor->storage(static_cast<int>(storage)));
  for (int64_t i = 0; i < s.bytes; i += 4096) bytes[i] = bytes[i];
}

}  // namespace

Result<std::unique_ptr<Rank>> Rank::Load(const RunOptions& options, std::shared_ptr<const Package> package,
                                          const Meeting& meeting, const checkpoint::Reader* resumed, bool gradients) {
  auto rank = std::unique_ptr<Rank>(new Rank(options, std::move(package), meeting));
  RETURN_IF_ERROR(rank->LoadProgram(resumed, gradients));
  ASSIGN_OR_RETURN(const ProcessMemory loaded, ReadProcessMemory());
  if (options.measure_memory) RETURN_IF_ERROR(ResetPeakResident());
  if (options.limit_data) RETURN_IF_ERROR(LimitDataGrowth(kDataSlack));
  rank->loaded_resident_ = loaded.resident;
  rank->executor_->set_timed(options.time_ops);
  if (options.see.check_numerics) {
    rank->numerics_ = std::make_unique<NumericsCheck>(rank->executor_.get());
    rank->executor_->AddObserver(rank->numerics_.get());
  }
  return rank;
}

Status Rank::LoadProgram(const checkpoint::Reader* resumed, bool gradients) {
  WeightOptions weights = options_.weights;
  weights.restored = resumed != nullptr;
  exec::ExecutorOptions executor_options;
  executor_options.rank = rank();
  executor_options.communicator = meeting_.device ? meeting_.device.get() : meeting_.host.get();
  executor_options.device = executor_options.communicator->device();
  executor_options.seed = resumed != nullptr ? resumed->manifest().seed : options_.seed;
  executor_options.whereabouts = &MyWhereabouts();
  if (executor_options.device.is_cpu()) executor_options.external = MappedStorages(*package_, weights);
  // The package lives as long as the program that points into it.
  std::shared_ptr<const program::ProgramT> program(package_, &package_->program());
  ASSIGN_OR_RETURN(executor_, exec::Executor::Create(std::move(program), executor_options));
  RETURN_IF_ERROR(LoadWeights(*package_, weights, executor_.get()));
  if (resumed != nullptr) RETURN_IF_ERROR(Restore(*resumed, executor_.get()));
  // Mapped weights are read in now, so that loading is over when the step begins.
  for (const auto& [storage, data] : executor_options.external) {
    const volatile char* bytes = static_cast<const char*>(data);
    for (int64_t i = 0; i < executor_->program().storages[storage]->bytes; i += 4096) (void)bytes[i];
  }
  for (size_t i = 0; i < executor_->program().storages.size(); ++i) TouchState(executor_.get(), i);
  for (const auto& input : executor_->program().inputs) {
    const at::Tensor& read = executor_->tensor(input->tensor);
    if (!executor_->device().is_cpu()) staged_.push_back(at::zeros(read.sizes(), at::TensorOptions().dtype(read.scalar_type())));
  }
  ASSIGN_OR_RETURN(Capture capture, Capture::Make(*executor_, gradients, first()));
  capture_ = std::make_unique<Capture>(std::move(capture));
  for (const ComputedGradient& g : capture_->gradients()) {  // taken now, not in the step
    auto bytes = static_cast<int64_t>(c10::elementSize(exec::ToScalarType(g.dtype)));
    for (int64_t s : g.sizes) bytes *= s;
    std::fill_n(static_cast<char*>(const_cast<void*>(g.data)), bytes, 0);
  }
  return Ok();
}

std::vector<data::InputView> Rank::Inputs() const {
  std::vector<data::InputView> views;
  const std::vector<data::Slice> slices = SlicesOf(executor_->program(), rank());
  for (const auto& input : executor_->program().inputs) {
    const program::TensorT& t = *executor_->program().tensors[input->tensor];
    const at::Tensor& read = staged_.empty() ? executor_->tensor(input->tensor) : staged_[views.size()];
    views.push_back({input->name, t.dtype, t.sizes, input->seq_dim, read.data_ptr(), slices[views.size()]});
  }
  return views;
}

void Rank::BringInputs() {
  for (size_t i = 0; i < staged_.size(); ++i) executor_->tensor(executor_->program().inputs[i]->tensor).copy_(staged_[i]);
}

Status Rank::Step(double lr) {
  MyWhereabouts().Set(Activity::kStepping);
  MyWhereabouts().step.store(executor_->steps() + 1, std::memory_order_relaxed);
  executor_->SetScalar("lr", lr);
  executor_->SetScalar("step", static_cast<double>(executor_->steps() + 1));
  BringInputs();
  if (executor_->micro_batch() == 0) capture_->BeginStep();
  const int64_t step = executor_->steps() + 1;
  Status status = capture_->Step(executor_.get());
  if (!numerics_) return status;
  const bool ran = status.ok();
  status = numerics_->Agree(step, std::move(status), &communicator());
  shared_error_ = ran && !status.ok();
  return status;
}

Result<double> Rank::Evaluate() {
  double loss = 0;
  BringInputs();
  RETURN_IF_ERROR(executor_->Evaluate([&](const program::OutputT&, const at::Tensor& value) -> Status {
    loss = AsDouble(value);
    return Ok();
  }));
  return loss;
}

}  // namespace autospc::train
