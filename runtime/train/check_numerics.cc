#include "runtime/train/check_numerics.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/exec/call.h"
#include "runtime/train/loop.h"

namespace autospc::train {
namespace {

using exec::Kinds;
using program::ArgKind;

Kinds Of(double value) { return {std::isnan(value), std::isinf(value)}; }

void Add(Kinds* kinds, Kinds more) {
  kinds->nan |= more.nan;
  kinds->inf |= more.inf;
}

// Its result is whatever the memory held.
bool IsUninitialised(const std::string& op) {
  return op.find(".empty") != std::string::npos || op.find(".new_empty") != std::string::npos;
}

// The log-sum-exp of a row that no key is allowed for is -inf by definition.
bool MayHoldInfinity(const std::string& op, size_t result) { return op == "autosp.attention" && result == 1; }

std::string Describe(const program::TensorT& t) {
  return fmt::format("{} {} [{}]", t.name, program::EnumNameDType(t.dtype), fmt::join(t.sizes, ", "));
}

}  // namespace

NumericsCheck::NumericsCheck(const exec::Executor* executor) : executor_(executor) {
  kinds_.resize(executor->program().storages.size());
  for (const auto& instruction : executor->program().instructions) {
    if (!written_.contains(instruction->op)) written_[instruction->op] = exec::WrittenArguments(instruction->op);
  }
}

// What a storage holds: all of it anew, or something besides.
void NumericsCheck::Keep(int tensor, Kinds kinds) {
  const program::TensorT& t = *executor_->program().tensors[tensor];
  const bool whole = static_cast<int64_t>(executor_->tensor(tensor).nbytes()) >= executor_->program().storages[t.storage]->bytes;
  if (whole) kinds_[t.storage] = {};
  Add(&kinds_[t.storage], kinds);
}

Kinds NumericsCheck::OfOperands(size_t instruction) const {
  Kinds kinds;
  const auto tensor = [&](int64_t t) {
    if (t >= 0) Add(&kinds, kinds_[executor_->program().tensors[t]->storage]);
  };
  for (const auto& arg : executor_->program().instructions[instruction]->args) {
    if (arg->kind == ArgKind::Tensor) tensor(arg->tensor);
    if (arg->kind == ArgKind::TensorList) std::for_each(arg->ints.begin(), arg->ints.end(), tensor);
    if (arg->kind == ArgKind::Float) Add(&kinds, Of(arg->f));
    if (arg->kind == ArgKind::FloatList) {
      for (const double f : arg->floats) Add(&kinds, Of(f));
    }
  }
  return kinds;
}

// What weights, states and inputs hold before the step's first instruction. Infinities in constants and buffers are
// meant (masks).
void NumericsCheck::CheckPersistent() {
  const program::ProgramT& program = executor_->program();
  std::vector<char> seen(program.storages.size(), 0);
  for (size_t t = 0; t < program.tensors.size(); ++t) {
    const int s = program.tensors[t]->storage;
    const program::StorageT& storage = *program.storages[s];
    if (storage.arena_offset >= 0 || seen[s]) continue;
    seen[s] = 1;  // the first tensor of a storage is the whole
    const Kinds kinds = exec::FindNonFinite(executor_->tensor(static_cast<int>(t)));
    kinds_[s] = kinds;
    const bool meant = storage.kind == program::StorageKind::Constant || storage.kind == program::StorageKind::Buffer;
    if (!nan_ && (kinds.nan || (kinds.inf && !meant))) {
      const exec::NonFinite count = exec::CountNonFinite(executor_->tensor(static_cast<int>(t)));
      nan_ = Finding{-1,
                     fmt::format("{} \"{}\" holds {} NaN and {} infinite of {} elements before the step begins, the first at [{}]",
                                 program::EnumNameStorageKind(storage.kind), storage.name, count.nan, count.inf, count.elements,
                                 fmt::join(count.first, ", ")),
                     fmt::format("rank {}", executor_->context().rank)};
    }
  }
}

void NumericsCheck::Before(size_t instruction) {
  if (instruction != 0) return;
  nan_.reset();
  inf_.reset();
  CheckPersistent();
}

void NumericsCheck::Found(size_t instruction, int tensor, bool nan, std::optional<Finding>* finding) {
  if (finding->has_value()) return;
  const program::ProgramT& program = executor_->program();
  const program::InstructionT& ins = *program.instructions[instruction];
  const exec::NonFinite count = exec::CountNonFinite(executor_->tensor(tensor));
  Finding found;
  found.instruction = static_cast<int64_t>(instruction);
  found.what = fmt::format("{} makes the first {}: {} of {} elements of {}, the first at [{}]", ins.op, nan ? "NaN" : "infinity",
                           nan ? count.nan : count.inf, count.elements, Describe(*program.tensors[tensor]),
                           fmt::join(count.first, ", "));
  found.where = fmt::format("instruction {} ({}) of rank {}", instruction, ins.op, executor_->context().rank);
  if (ins.source >= 0 && ins.source < static_cast<int>(program.sources.size())) found.where += ", from " + program.sources[ins.source];
  *finding = std::move(found);
}

void NumericsCheck::After(size_t instruction) {
  const program::InstructionT& ins = *executor_->program().instructions[instruction];
  std::vector<int> results(ins.outputs.begin(), ins.outputs.end());
  const std::vector<bool>& writes = written_.at(ins.op);
  for (size_t i = 0; i < std::min(writes.size(), ins.args.size()); ++i) {
    if (!writes[i]) continue;
    const program::ArgT& arg = *ins.args[i];
    if (arg.kind == ArgKind::Tensor) results.push_back(arg.tensor);
    if (arg.kind == ArgKind::TensorList) results.insert(results.end(), arg.ints.begin(), arg.ints.end());
  }
  const Kinds had = OfOperands(instruction);  // of all before any result, which may lie on an operand
  const bool garbage = IsUninitialised(ins.op);
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i] < 0) continue;
    const Kinds has = exec::FindNonFinite(executor_->tensor(results[i]));
    Keep(results[i], has);
    if (garbage) continue;
    if (has.nan && !had.nan) Found(instruction, results[i], true, &nan_);
    if (has.inf && !had.inf && !MayHoldInfinity(ins.op, i)) Found(instruction, results[i], false, &inf_);
  }
}

Status NumericsCheck::Agree(int64_t step, Status status, Communicator* communicator) {
  struct Shared {
    int64_t instruction = std::numeric_limits<int64_t>::max();
    std::array<char, 400> what{}, where{}, later{};
  };
  Shared mine;
  const std::optional<Finding>* first = inf_ && (!nan_ || inf_->instruction < nan_->instruction) ? &inf_ : &nan_;
  if (*first) {
    const auto put = [](const std::string& text, std::array<char, 400>* to) {
      std::strncpy(to->data(), text.c_str(), to->size() - 1);
    };
    mine.instruction = (*first)->instruction;
    put((*first)->what, &mine.what);
    put((*first)->where, &mine.where);
    // An infinity may be meant, and what comes of it the fault.
    if (first == &inf_ && nan_) put(nan_->what + ", at " + nan_->where, &mine.later);
  }
  std::vector<Shared> all = {mine};
  if (status.ok()) {
    all.resize(static_cast<size_t>(communicator->size()));
    RETURN_IF_ERROR(communicator->AllGather(&mine, all.data(), sizeof(Shared)));
  } else if (!*first) {
    return status;
  }
  const Shared& cause = *std::min_element(
      all.begin(), all.end(), [](const Shared& a, const Shared& b) { return a.instruction < b.instruction; });
  if (cause.instruction == std::numeric_limits<int64_t>::max()) return status;
  std::string hint = "its operands are finite: look at what this line is given, at the learning rate and at --clip-norm";
  if (cause.instruction < 0) hint = "look at the weights that were loaded, and at the step before";
  if (cause.later[0] != '\0') hint = fmt::format("the first NaN comes later: {}", cause.later.data());
  return Error{Code::kFailed, fmt::format("step {}: {}", step, cause.what.data()), cause.where.data(), hint};
}

Status CheckFinite(const StepRecord& record, const std::string& loss_name, bool checked) {
  const bool loss = std::isfinite(record.loss);
  if (loss && std::isfinite(record.grad_norm)) return Ok();
  const auto text = [](double value) { return std::isnan(value) ? std::string("NaN") : fmt::format("{}", value); };
  const std::string what = loss ? fmt::format("the gradient norm is {}, and with it the parameters are lost", text(record.grad_norm))
                                : fmt::format("the loss \"{}\" is {}", loss_name, text(record.loss));
  return Error{Code::kFailed, fmt::format("step {}: {}", record.step, what), "",
               checked ? "no instruction made it: is it in the data?"
                       : "run again with --check-numerics, which names the node that made the first NaN or infinity"};
}

}  // namespace autospc::train
