#include "runtime/exec/executor.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>

#include "runtime/base/alignment.h"
#include "runtime/dist/communicator.h"
#include "runtime/dist/group.h"
#include "runtime/exec/overlap.h"
#include "runtime/exec/side_stream.h"
#include "runtime/exec/vector_math.h"
#include "runtime/exec/workspace.h"
#include "runtime/package/describe.h"

namespace autospc::exec {

using program::OutputKind;
using program::StorageKind;

// A buffer's new value. `stash` is set where the buffer is still read after the value is final: the
// value waits there for the end of the step.
struct Executor::Update {
  int output = -1;
  at::Tensor target;
  at::Tensor stash;
};

namespace {

Error Malformed(std::string what) {
  return Error{Code::kBadInput, "the program is malformed: " + std::move(what), "", "compile the model again"};
}

double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// The axis along which an instruction acts; nullopt: its axis argument names none.
std::optional<Axis> AxisOf(const program::InstructionT& instruction) {
  const std::optional<size_t> at = AxisArgument(instruction.op);
  if (!at || instruction.args.size() <= *at) return UsualAxis(instruction.op);
  return ParseAxis(instruction.args[*at]->s);
}

// For a guard that makes it the current device; the host needs none.
std::optional<c10::Device> ToGuard(c10::Device device) {
  return device.is_cpu() ? std::nullopt : std::optional<c10::Device>(device);
}

bool IsUpdate(OutputKind kind) {
  return kind == OutputKind::BufferUpdate || kind == OutputKind::ParameterUpdate || kind == OutputKind::StateUpdate;
}

}  // namespace

Result<std::unique_ptr<Executor>> Executor::Create(std::shared_ptr<const program::ProgramT> program,
                                                   const ExecutorOptions& options) {
  InstallWorkspaceAllocator();
  if (program->world_size > 1 &&
      (options.communicator == nullptr || options.communicator->size() != program->world_size)) {
    return Error{Code::kBadInput, fmt::format("the package is compiled for {} ranks", program->world_size), "",
                 fmt::format("start that many, or compile with --ranks {}",
                             options.communicator == nullptr ? 1 : options.communicator->size())};
  }
  auto executor = std::unique_ptr<Executor>(new Executor);
  executor->program_ = std::move(program);
  executor->seed_ = options.seed;
  executor->whereabouts_ = options.whereabouts;
  executor->context_.seed = options.seed;
  RETURN_IF_ERROR(CheckMicroBatches(*executor->program_));
  executor->micro_batches_ = MicroBatchesOf(*executor->program_);
  executor->context_.device = options.device;
  if (!options.device.is_cpu() || options.portable_kernels) executor->context_.kernels = KernelSet::kPortable;
  if (options.communicator != nullptr && options.communicator->device().type() != options.device.type()) {
    return Error{Code::kBadInput, fmt::format("the ranks communicate on {}, and this one works on {}",
                                              options.communicator->device().str(), options.device.str()), "", "this is a bug"};
  }
  RETURN_IF_ERROR(executor->MakeGroups(options));
  const c10::OptionalDeviceGuard here(ToGuard(options.device));
  try {
    WarmUpVectorMath();
    RETURN_IF_ERROR(executor->MakeStorages(options));
    RETURN_IF_ERROR(executor->MakeTensors());
    RETURN_IF_ERROR(executor->MakeCalls());
    RETURN_IF_ERROR(executor->MakeUpdates());
    executor->ChooseSideStream(options);
  } catch (const c10::Error& e) {
    return Malformed(e.what_without_backtrace());
  } catch (const std::exception& e) {
    return Malformed(e.what());
  }
  return executor;
}

Executor::~Executor() = default;

// The groups of this rank along each axis of the mesh.
Status Executor::MakeGroups(const ExecutorOptions& options) {
  if (program_->dp < 1 || program_->world_size % program_->dp != 0) {
    return Malformed(fmt::format("{} ranks do not make a mesh with dp {}", program_->world_size, program_->dp));
  }
  const Mesh mesh(program_->world_size / program_->dp, program_->dp);
  context_.rank = options.rank;
  context_.world_size = mesh.ranks();
  context_.communicator = options.communicator;
  const auto make = [&](Axis axis, std::unique_ptr<Communicator>* own, Group* group) -> Status {
    group->rank = mesh.Index(axis, options.rank);
    group->size = mesh.Size(axis);
    group->communicator = options.communicator;
    if (group->size == 1 || group->size == mesh.ranks()) return Ok();
    std::vector<int> members;
    for (int r = 0; r < mesh.ranks(); ++r) {
      const Axis other = axis == Axis::kSp ? Axis::kDp : Axis::kSp;
      if (mesh.Index(other, r) == mesh.Index(other, options.rank)) members.push_back(r);
    }
    ASSIGN_OR_RETURN(*own, MakeGroup(options.communicator, members));
    group->communicator = own->get();
    return Ok();
  };
  RETURN_IF_ERROR(make(Axis::kSp, &sp_, &context_.sp));
  return make(Axis::kDp, &dp_, &context_.dp);
}

Status Executor::MakeStorages(const ExecutorOptions& options) {
  if (program_->arena_bytes < 0) return Malformed("the arena's size is negative");
  ASSIGN_OR_RETURN(arena_, DeviceRegion::Allocate(options.device, program_->arena_bytes, "the arena"));
  for (size_t i = 0; i < program_->storages.size(); ++i) {
    const program::StorageT& s = *program_->storages[i];
    if (s.bytes < 0) return Malformed(fmt::format("storage {} has a negative size", i));
    if (s.arena_offset >= 0) {
      if (s.arena_offset % kAlignment != 0 || s.bytes > program_->arena_bytes ||
          s.arena_offset > program_->arena_bytes - s.bytes) {
        return Malformed(fmt::format("storage {} ({}) lies outside the arena or is not aligned to 64", i, s.name));
      }
      storages_.push_back(arena_.data() + s.arena_offset);
      continue;
    }
    if (const auto it = options.external.find(static_cast<int>(i)); on_host() && it != options.external.end()) {
      storages_.push_back(it->second);
      continue;
    }
    ASSIGN_OR_RETURN(DeviceRegion region, DeviceRegion::Allocate(options.device, s.bytes, s.name.c_str()));
    storages_.push_back(region.data());
    own_.push_back(std::move(region));
  }
  return Ok();
}

Status Executor::MakeTensors() {
  for (size_t i = 0; i < program_->tensors.size(); ++i) {
    const program::TensorT& t = *program_->tensors[i];
    if (t.storage < 0 || t.storage >= static_cast<int>(storages_.size()) || t.sizes.size() != t.strides.size()) {
      return Malformed(fmt::format("tensor {} ({}) has no storage or unequal numbers of sizes and strides", i, t.name));
    }
    const int64_t extent = ExtentOf(t);
    if (extent < 0 || extent > program_->storages[t.storage]->bytes) {
      return Malformed(fmt::format("tensor {} ({}) reaches outside its storage", i, t.name));
    }
    void* data = static_cast<std::byte*>(storages_[t.storage]) + t.byte_offset;
    tensors_.push_back(TensorAt(context_.device, data, t.sizes, t.strides, ToScalarType(t.dtype)));
  }
  return Ok();
}

Status Executor::MakeCalls() {
  const int count = static_cast<int>(tensors_.size());
  for (size_t n = 0; n < program_->instructions.size(); ++n) {
    const program::InstructionT& ins = *program_->instructions[n];
    auto call = std::make_unique<Call>();
    call->context = &context_;
    call->instruction = &ins;
    for (const auto& arg : ins.args) {
      CallArg a{arg.get(), {}, {}};
      if (arg->kind == program::ArgKind::Tensor) {
        if (arg->tensor < 0 || arg->tensor >= count) return Locate(Malformed("an operand does not exist"), n);
        a.tensor = tensors_[arg->tensor];
      } else if (arg->kind == program::ArgKind::TensorList) {
        for (int64_t t : arg->ints) {
          if (t >= count) return Locate(Malformed("an operand does not exist"), n);
          a.tensors.push_back(t < 0 ? at::Tensor() : tensors_[t]);
        }
      }
      call->args.push_back(std::move(a));
    }
    for (int out : ins.outputs) {
      if (out >= count) return Locate(Malformed("a result does not exist"), n);
      call->outputs.push_back(out < 0 ? at::Tensor() : tensors_[out]);
    }
    if (ins.workspace >= static_cast<int>(storages_.size()))
      return Locate(Malformed("its workspace does not exist"), n);
    if (ins.workspace >= 0) {
      call->workspace = {static_cast<std::byte*>(storages_[ins.workspace]),
                         static_cast<size_t>(program_->storages[ins.workspace]->bytes)};
    }
    const std::optional<Axis> axis = AxisOf(ins);
    if (!axis) return Locate(Malformed("its last argument is no axis of the mesh"), n);
    call->ranks = context_.GroupOf(*axis);
    if (Status fits = CheckCall(*call); !fits.ok()) return Locate(std::move(fits).error(), n);
    if (const KernelMaker* maker = KernelTable::Get(context_.kernels).Find(ins.op)) {
      Result<Kernel> kernel = (*maker)(*call);
      if (!kernel.ok()) return Locate(std::move(kernel).error(), n);
      kernels_.push_back(std::move(kernel).value());
      ways_.push_back(Way::kOwn);
    } else {
      Result<LibraryKernel> kernel = MakeLibraryKernel(*call);
      if (!kernel.ok()) return Locate(std::move(kernel).error(), n);
      kernels_.push_back(std::move(kernel->kernel));
      ways_.push_back(kernel->way);
    }
    calls_.push_back(std::move(call));
  }
  times_.assign(kernels_.size(), 0);
  fastest_.assign(kernels_.size(), std::numeric_limits<double>::infinity());
  busy_ = fastest_;
  outside_by_instruction_.assign(kernels_.size(), 0);
  return Ok();
}

Status Executor::MakeUpdates() {
  outputs_after_.resize(kernels_.size() + 1);
  std::vector<int> last_use(storages_.size(), -1);
  auto use = [&](int tensor, int at) {
    if (tensor >= 0) last_use[program_->tensors[tensor]->storage] = at;
  };
  for (size_t n = 0; n < kernels_.size(); ++n) {
    for (const auto& arg : program_->instructions[n]->args) {
      if (arg->kind == program::ArgKind::Tensor) use(arg->tensor, static_cast<int>(n));
      if (arg->kind == program::ArgKind::TensorList) {
        for (int64_t t : arg->ints) use(static_cast<int>(t), static_cast<int>(n));
      }
    }
  }
  updates_.resize(program_->outputs.size());
  for (size_t i = 0; i < program_->outputs.size(); ++i) {
    const program::OutputT& out = *program_->outputs[i];
    if (out.tensor < 0 || out.tensor >= static_cast<int>(tensors_.size()) || out.after < -1 ||
        out.after >= static_cast<int>(kernels_.size())) {
      return Malformed(fmt::format("output \"{}\" has no tensor or no instruction", out.name));
    }
    outputs_after_[out.after + 1].push_back(static_cast<int>(i));
    if (!IsUpdate(out.kind)) continue;
    int target = -1;
    for (StorageKind kind : {StorageKind::Buffer, StorageKind::Parameter, StorageKind::Optimizer}) {
      if (target < 0) target = FindStorage(kind, out.name);
    }
    if (target < 0) return Malformed(fmt::format("there is no persistent storage for the update of \"{}\"", out.name));
    const program::TensorT& value = *program_->tensors[out.tensor];
    if (value.storage == target) continue;  // updated in place
    int like = -1;
    for (size_t t = 0; t < tensors_.size() && like < 0; ++t) {
      const program::TensorT& candidate = *program_->tensors[t];
      if (candidate.storage == target && candidate.sizes == value.sizes && candidate.dtype == value.dtype)
        like = static_cast<int>(t);
    }
    if (like < 0) return Malformed(fmt::format("the update of \"{}\" has not the buffer's shape", out.name));
    auto update = std::make_unique<Update>();
    update->output = static_cast<int>(i);
    update->target = tensors_[like];
    if (last_use[target] > out.after) update->stash = at::empty(value.sizes, update->target.options());
    updates_[i] = std::move(update);
  }
  return Ok();
}

void Executor::ChooseSideStream(const ExecutorOptions& options) {
  side_ = options.side_stream;
  const bool apart = !on_host() && options.communicator != nullptr && options.communicator->follows_streams();
  if (!side_ && apart) side_ = MakeSideStream(context_.device);
  if (!side_) return;
  overlap_ = FindOverlap(*program_, storages_);
  tickets_.assign(kernels_.size(), 0);
}

int Executor::FindStorage(StorageKind kind, std::string_view name) const {
  for (size_t i = 0; i < program_->storages.size(); ++i) {
    const program::StorageT& s = *program_->storages[i];
    if (s.arena_offset < 0 && s.kind == kind && s.name == name) return static_cast<int>(i);
  }
  return -1;
}

void Executor::SetScalar(std::string_view name, double value) {
  for (const auto& scalar : program_->scalars) {
    if (scalar->name == name) tensors_[scalar->tensor].fill_(value);
  }
}

Error Executor::Locate(Error error, size_t index) const {
  const std::string where =
      fmt::format("rank {}: {}", context_.rank, DescribeInstruction(*program_, static_cast<int64_t>(index)));
  error.where = error.where.empty() ? where : where + ", " + error.where;
  return error;
}

bool Executor::KeepsShapes(size_t index) const {
  const program::InstructionT& ins = *program_->instructions[index];
  const auto keeps = [&](int64_t i) {
    return i < 0 || (tensors_[i].sizes() == program_->tensors[i]->sizes && tensors_[i].strides() == program_->tensors[i]->strides);
  };
  if (!std::all_of(ins.outputs.begin(), ins.outputs.end(), keeps)) return false;
  if (ways_[index] != Way::kInPlace) return true;
  return std::all_of(ins.args.begin(), ins.args.end(), [&](const auto& arg) {
    if (arg->kind == program::ArgKind::Tensor) return keeps(arg->tensor);
    return arg->kind != program::ArgKind::TensorList || std::all_of(arg->ints.begin(), arg->ints.end(), keeps);
  });
}

Status Executor::RunInstruction(size_t index) {
  if (whereabouts_ != nullptr)
    whereabouts_->instruction.store(static_cast<int32_t>(index), std::memory_order_relaxed);
  try {
    const auto run = [this, index]() -> Status {
      // Portable kernels cut their workspace themselves, and a device's is not for what LibTorch allocates on the host.
      const bool served = context_.kernels == KernelSet::kHost;
      WorkspaceScope scope(served ? calls_[index]->workspace : std::span<std::byte>());
      return kernels_[index]();
    };
    if (side_ && overlap_.waits_for[index] >= 0) RETURN_IF_ERROR(side_->Join(tickets_[overlap_.waits_for[index]]));
    if (side_ && overlap_.beside[index]) {
      Result<int64_t> ticket = side_->Begin(run);
      if (!ticket.ok()) return Locate(std::move(ticket).error(), index);
      tickets_[index] = last_ticket_ = *ticket;
    } else if (Status status = run(); !status.ok()) {
      return Locate(std::move(status).error(), index);
    }
    // LibTorch resizes a result that has not the shape it makes. What was checked at load holds for the planned shapes.
    if (!KeepsShapes(index)) {
      return Locate(Error{Code::kBadInput, "it makes another shape than the plan has", "", "compile the model again"}, index);
    }
  } catch (const c10::OutOfMemoryError& e) {
    return Locate(Error{Code::kDoesNotFit, e.what_without_backtrace(), "",
                        on_host() ? "" : "kernels there take scratch beside the arena: compile with a lower --memory-budget or more --ranks"},
                  index);
  } catch (const c10::Error& e) {
    return Locate(Error{Code::kFailed, e.what_without_backtrace(), "", ""}, index);
  } catch (const std::exception& e) {
    return Locate(Error{Code::kFailed, e.what(), "", ""}, index);
  }
  return Ok();
}

Status Executor::Join() const { return side_ ? side_->Join(last_ticket_) : Ok(); }

Status Executor::Settle() const {
  RETURN_IF_ERROR(Join());
  if (on_host()) return Ok();
  if (context_.communicator != nullptr) return context_.communicator->Wait();
  try {
    c10::impl::VirtualGuardImpl(context_.device.type()).synchronizeDevice(context_.device.index());
  } catch (const std::exception& e) {
    return Error{Code::kFailed, fmt::format("{} failed: {}", context_.device.str(), e.what()), "", ""};
  }
  return Ok();
}

Status Executor::Step(const OnOutput& on_output, const Wants& wants) {
  at::AutoDispatchBelowADInplaceOrView no_autograd;
  const c10::OptionalDeviceGuard here(ToGuard(context_.device));
  CountingScope counting;
  ResetPeak(context_.device);
  const DeviceUse held = UseOf(context_.device);
  const int64_t before = OutsideAllocations().outside_bytes;
  const bool first = micro_batch_ == 0, last = micro_batch_ + 1 == micro_batches_.count;
  const size_t begin = first ? 0 : static_cast<size_t>(micro_batches_.begin);
  const size_t end = last ? kernels_.size() : static_cast<size_t>(micro_batches_.end);
  const auto drawn = static_cast<uint64_t>(steps_ * micro_batches_.count + micro_batch_);
  context_.seed = seed_ + drawn * 0x9E3779B97F4A7C15u;
  auto emit = [&](size_t slot) -> Status {
    for (int i : outputs_after_[slot]) {
      const program::OutputT& out = *program_->outputs[i];
      const at::Tensor& value = tensors_[out.tensor];
      if (on_output && !IsUpdate(out.kind) && (!wants || wants(out))) {
        RETURN_IF_ERROR(Settle());
        RETURN_IF_ERROR(on_output(out, value));
      }
      if (!updates_[i]) continue;
      RETURN_IF_ERROR(Join());
      (updates_[i]->stash.defined() ? updates_[i]->stash : updates_[i]->target).copy_(value);
    }
    return Ok();
  };
  if (first) RETURN_IF_ERROR(emit(0));
  int64_t outside = before;
  for (size_t n = begin; n < end; ++n) {
    for (Observer* observer : observers_) observer->Before(n);
    if (timed_) {
      const double busy = ThreadSeconds();
      const auto start = std::chrono::steady_clock::now();
      RETURN_IF_ERROR(RunInstruction(n));
      RETURN_IF_ERROR(Settle());
      busy_[n] = std::min(busy_[n], ThreadSeconds() - busy);
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      times_[n] += seconds;
      fastest_[n] = std::min(fastest_[n], seconds);
    } else {
      RETURN_IF_ERROR(RunInstruction(n));
    }
    if (!observers_.empty()) RETURN_IF_ERROR(Settle());
    for (Observer* observer : observers_) observer->After(n);
    if (const int64_t now = OutsideAllocations().outside_bytes; now != outside) {
      outside_by_instruction_[n] += now - outside;
      outside = now;
    }
    if (!outputs_after_[n + 1].empty()) RETURN_IF_ERROR(emit(n + 1));
  }
  RETURN_IF_ERROR(Join());
  for (const auto& update : updates_) {
    if (update && update->stash.defined()) update->target.copy_(update->stash);
  }
  RETURN_IF_ERROR(Settle());
  if (whereabouts_ != nullptr) whereabouts_->instruction.store(-1, std::memory_order_relaxed);
  micro_batch_ = last ? 0 : micro_batch_ + 1;
  if (last) ++steps_;
  outside_bytes_ = on_host() ? OutsideAllocations().outside_bytes - before : UseOf(context_.device).peak - held.now;
  return Ok();
}

}  // namespace autospc::exec
