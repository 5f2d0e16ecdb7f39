// Steps of several micro-batches: sums over them, and the marks between which they run.
#include <ATen/Parallel.h>
#include <ATen/ops/add.h>

#include "runtime/exec/call.h"

namespace autospc::exec {
namespace {

// sum += x in the sum's type.
template <typename S, typename X>
void AddTo(const at::Tensor& sum, const at::Tensor& x) {
  S* to = sum.data_ptr<S>();
  const X* from = x.const_data_ptr<X>();
  at::parallel_for(0, sum.numel(), 32768, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] += static_cast<S>(from[i]);
  });
}

Status CheckAccumulate(const Call& c) {
  const at::Tensor &sum = c.Tensor(0), &x = c.Tensor(1);
  const bool narrow = x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf;
  const bool fits = sum.scalar_type() == x.scalar_type() || (narrow && sum.scalar_type() == at::kFloat);
  return fits && sum.sizes() == x.sizes() ? Ok() : Status(Misshapen(c, "a sum and an addend of other shapes or types"));
}

Status Accumulate(const Call& c) {
  at::Tensor sum = c.Tensor(0);
  const at::Tensor& x = c.Tensor(1);
  if (sum.scalar_type() == x.scalar_type()) {
    sum.add_(x);
  } else if (c.context->kernels == KernelSet::kHost && sum.strides() == x.strides() && x.is_non_overlapping_and_dense()) {
    x.scalar_type() == at::kHalf ? AddTo<float, at::Half>(sum, x) : AddTo<float, at::BFloat16>(sum, x);
  } else {
    sum.add_(x);
  }
  return Ok();
}

// The ends of what runs once for each micro-batch: the executor looks for them.
Status Nothing(const Call&) { return Ok(); }

Status Total(const Call& c) {
  if (c.outputs[0].data_ptr() != c.Tensor(0).data_ptr()) c.outputs[0].copy_(c.Tensor(0));
  return Ok();
}

Status TotalBackward(const Call& c) {
  c.outputs[0].fill_(c.Float(1));
  return Ok();
}

}  // namespace

void AddMicroBatchKernels(KernelTable* table) {
  table->Add("autosp.each_micro_batch_", &Nothing);
  table->Add("autosp.micro_batches_end_", &Nothing);
  table->Add("autosp.accumulate_", &CheckAccumulate, &Accumulate);
  table->Add("autosp.total", &Total);
  table->Add("autosp.total_backward", &TotalBackward);
}

}  // namespace autospc::exec
