// The loss alone: the part of a step that it depends on.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "runtime/exec/executor.h"
#include "runtime/exec/workspace.h"

namespace autospc::exec {

struct Executor::Evaluation {
  int output = -1;                   // the loss
  std::vector<size_t> instructions;  // in order
  struct Kept {                      // a persistent storage that they write
    at::Tensor bytes, copy;  // on the device
  };
  std::vector<Kept> kept;
};

namespace {

// "aten.add_.Tensor", "autosp.adamw_": writes to its operands.
bool WritesOperands(const std::string& op) {
  const size_t dot = op.find('.');
  return op.substr(dot + 1, op.find('.', dot + 1) - dot - 1).ends_with('_');
}

template <typename F>
void EachOperand(const program::InstructionT& ins, const F& f) {
  for (const auto& arg : ins.args) {
    if (arg->kind == program::ArgKind::Tensor && arg->tensor >= 0) f(arg->tensor);
    if (arg->kind != program::ArgKind::TensorList) continue;
    for (int64_t t : arg->ints) {
      if (t >= 0) f(static_cast<int>(t));
    }
  }
}

template <typename F>
void EachWritten(const program::InstructionT& ins, const F& f) {
  for (int out : ins.outputs) {
    if (out >= 0) f(out);
  }
  if (WritesOperands(ins.op)) EachOperand(ins, f);
}

}  // namespace

// By storages, backwards from the loss: an instruction counts if it writes one that is needed, and then all that it
// reads is needed. Leaving out the others cannot harm what stays, also where they share the arena.
Status Executor::MakeEvaluation() {
  auto evaluation = std::make_shared<Evaluation>();
  for (size_t i = 0; i < program_->outputs.size() && evaluation->output < 0; ++i) {
    if (program_->outputs[i]->kind == program::OutputKind::Loss) evaluation->output = static_cast<int>(i);
  }
  if (evaluation->output < 0) {
    return Error{Code::kBadInput, "the program has no loss", "", "compile a model that returns its loss"};
  }
  const program::OutputT& loss = *program_->outputs[evaluation->output];
  std::vector<bool> needed(storages_.size(), false), written(storages_.size(), false);
  const auto storage = [&](int tensor) { return static_cast<size_t>(program_->tensors[tensor]->storage); };
  needed[storage(loss.tensor)] = true;
  for (int n = loss.after; n >= 0; --n) {
    const program::InstructionT& ins = *program_->instructions[n];
    bool counts = false;
    EachWritten(ins, [&](int t) { counts = counts || needed[storage(t)]; });
    if (!counts) continue;
    evaluation->instructions.push_back(static_cast<size_t>(n));
    EachOperand(ins, [&](int t) { needed[storage(t)] = true; });
    EachWritten(ins, [&](int t) { written[storage(t)] = true; });
  }
  std::reverse(evaluation->instructions.begin(), evaluation->instructions.end());
  for (size_t s = 0; s < storages_.size(); ++s) {
    if (!written[s] || program_->storages[s]->arena_offset >= 0) continue;
    const at::Tensor bytes = TensorAt(context_.device, storages_[s], {program_->storages[s]->bytes}, {1}, at::kByte);
    evaluation->kept.push_back({bytes, at::empty_like(bytes)});
  }
  evaluation_ = std::move(evaluation);
  return Ok();
}

Status Executor::Evaluate(const OnOutput& on_output) {
  if (!evaluation_) RETURN_IF_ERROR(MakeEvaluation());
  at::AutoDispatchBelowADInplaceOrView no_autograd;
  const c10::OptionalDeviceGuard here(on_host() ? std::nullopt : std::optional<c10::Device>(context_.device));
  for (Evaluation::Kept& kept : evaluation_->kept) kept.copy.copy_(kept.bytes);
  context_.dropout = false;
  Status status = Ok();
  for (size_t n : evaluation_->instructions) {
    status = RunInstruction(n);
    if (status.ok()) status = Join();  // who waits for whom is known of whole steps
    if (!status.ok()) break;
  }
  context_.dropout = true;
  if (status.ok()) status = Settle();
  if (status.ok()) {
    const program::OutputT& loss = *program_->outputs[evaluation_->output];
    status = on_output(loss, tensors_[loss.tensor]);
  }
  for (Evaluation::Kept& kept : evaluation_->kept) kept.bytes.copy_(kept.copy);
  return status;
}

}  // namespace autospc::exec
