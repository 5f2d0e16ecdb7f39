#include "runtime/train/capture.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "runtime/dist/communicator.h"
#include "runtime/package/dtype.h"

namespace autospc::train {
namespace {

double SumOfSquares(const at::Tensor& where) {  // over any strides, in the order of indices
  const at::Tensor t = where.cpu();
  double sum = 0;
  std::vector<int64_t> index(t.dim(), 0);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, t.scalar_type(), "norm", [&] {
    const scalar_t* data = t.const_data_ptr<scalar_t>();
    const int64_t inner = t.dim() == 0 ? 1 : t.size(-1), step = t.dim() == 0 ? 1 : t.stride(-1);
    for (int64_t row = 0, rows = inner == 0 ? 0 : t.numel() / inner; row < rows; ++row) {
      int64_t offset = 0;
      for (int64_t d = t.dim() - 2, r = row; d >= 0; --d) {
        offset += r % t.size(d) * t.stride(d);
        r /= t.size(d);
      }
      for (int64_t i = 0; i < inner; ++i) {
        const double v = static_cast<double>(data[offset + i * step]);
        sum += v * v;
      }
    }
  });
  return sum;
}

}  // namespace

double AsDouble(const at::Tensor& where) {
  const at::Tensor scalar = where.cpu();
  double value = 0;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, scalar.scalar_type(), "loss",
                                  [&] { value = static_cast<double>(*scalar.const_data_ptr<scalar_t>()); });
  return value;
}

Result<Capture> Capture::Make(const exec::Executor& executor, bool gradients, bool keep) {
  Capture capture;
  capture.executor_ = &executor;
  int64_t largest = 0;  // bytes of all ranks' blocks
  for (const auto& output : executor.program().outputs) {
    if (output->kind == program::OutputKind::Loss) capture.has_loss_ = true;
    if (output->kind == program::OutputKind::User) capture.outputs_.emplace_back(output->name, 0);
    if (output->kind == program::OutputKind::GradNorm) capture.has_norm_ = true;
    if (output->kind != program::OutputKind::Gradient || !gradients) continue;
    const at::Tensor& value = executor.tensor(output->tensor);
    const program::TensorT& t = *executor.program().tensors[output->tensor];
    if (t.block_of > 0)
      largest = std::max(largest, static_cast<int64_t>(value.nbytes()) * executor.context().world_size);
    if (!keep) continue;
    const std::vector<int64_t>& sizes = t.block_of > 0 ? output->sizes : t.sizes;
    const std::vector<int64_t> strides = t.block_of > 0 ? ContiguousStrides(sizes) : t.strides;
    at::Tensor copy = at::empty_strided(sizes, strides, at::TensorOptions().dtype(value.scalar_type()));
    capture.gradients_.push_back({output->name, t.dtype, sizes, strides, copy.data_ptr()});
    capture.copies_.push_back(std::move(copy));
  }
  if (largest > 0) capture.blocks_ = at::zeros({largest}, at::TensorOptions(executor.device()).dtype(at::kByte));
  if (!capture.has_loss_) {
    return Error{Code::kBadInput, "the program has no loss", "", "compile a model that returns its loss"};
  }
  capture.sum_squares_ = !capture.has_norm_;
  return capture;
}

Status Capture::Step(exec::Executor* executor) {
  return executor->Step([this](const program::OutputT& output, const at::Tensor& value) { return Take(output, value); },
                        [this](const program::OutputT& output) { return Wants(output); });
}

bool Capture::Wants(const program::OutputT& output) {
  switch (output.kind) {
    case program::OutputKind::User:
      return std::any_of(outputs_.begin(), outputs_.end(), [&](const auto& o) { return o.first == output.name; });
    case program::OutputKind::Gradient:
      return sum_squares_ || blocks_.defined() || CopyOf(output.name) != nullptr;
    default:
      return true;
  }
}

Status Capture::Take(const program::OutputT& output, const at::Tensor& value) {
  switch (output.kind) {
    case program::OutputKind::Loss:
      loss_ = AsDouble(value);
      break;
    case program::OutputKind::User:
      for (auto& [name, number] : outputs_) {
        if (name == output.name && value.numel() == 1 && value.is_floating_point()) number = AsDouble(value);
      }
      break;
    case program::OutputKind::GradNorm:
      norm_ = AsDouble(value);
      break;
    case program::OutputKind::Gradient:
      if (sum_squares_) squares_ += SumOfSquares(value);
      if (blocks_.defined() && executor_->program().tensors[output.tensor]->block_of > 0) return Gather(output, value);
      if (at::Tensor* copy = CopyOf(output.name)) copy->copy_(value);
      break;
    default:
      break;
  }
  return Ok();
}

at::Tensor* Capture::CopyOf(const std::string& name) {
  for (size_t i = 0; i < copies_.size(); ++i) {
    if (gradients_[i].name == name) return &copies_[i];
  }
  return nullptr;
}

Status Capture::Gather(const program::OutputT& output, const at::Tensor& block) {
  const int64_t bytes = static_cast<int64_t>(block.nbytes());
  RETURN_IF_ERROR(executor_->context().communicator->AllGather(block.const_data_ptr(), blocks_.data_ptr(), bytes));
  if (at::Tensor* copy = CopyOf(output.name)) {
    const int64_t whole = static_cast<int64_t>(copy->nbytes());
    exec::TensorAt(at::kCPU, copy->data_ptr(), {whole}, {1}, at::kByte).copy_(blocks_.narrow(0, 0, whole));
  }
  return Ok();
}

double Capture::grad_norm() const { return has_norm_ ? norm_ : std::sqrt(squares_); }

}  // namespace autospc::train
