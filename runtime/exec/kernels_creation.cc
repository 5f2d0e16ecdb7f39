// Ops that make a tensor out of numbers: they fill the planned buffer.
#include <ATen/ops/arange.h>
#include <ATen/ops/fill.h>

#include "runtime/exec/call.h"

namespace autospc::exec {
namespace {

// A kernel that fills its result with argument `i`, or with `value` where `i` is negative.
KernelMaker Fills(int i, c10::Scalar value = 0) {
  return [i, value](const Call& call) -> Result<Kernel> {
    const c10::Scalar v = i < 0 ? value : call.Number(i);
    return Kernel([out = call.outputs[0], v]() -> Status {
      out.fill_(v);
      return Ok();
    });
  };
}

// arange over [start, end) by step; an argument's index, or -1 for the default (0 and 1).
KernelMaker Arange(int start, int end, int step) {
  return [=](const Call& call) -> Result<Kernel> {
    const c10::Scalar first = start < 0 ? c10::Scalar(0) : call.Number(start);
    const c10::Scalar by = step < 0 ? c10::Scalar(1) : call.Number(step);
    return Kernel([out = call.outputs[0], first, last = call.Number(end), by]() mutable -> Status {
      at::arange_out(out, first, last, by);
      return Ok();
    });
  };
}

}  // namespace

void AddCreationKernels(KernelTable* table) {
  table->Add("aten.zeros.default", Fills(-1));
  table->Add("aten.zeros_like.default", Fills(-1));
  table->Add("aten.new_zeros.default", Fills(-1));
  table->Add("aten.ones.default", Fills(-1, 1));
  table->Add("aten.ones_like.default", Fills(-1, 1));
  table->Add("aten.new_ones.default", Fills(-1, 1));
  table->Add("aten.full.default", Fills(1));
  table->Add("aten.full_like.default", Fills(1));
  table->Add("aten.new_full.default", Fills(2));
  table->Add("aten.fill.Scalar", Fills(1));
  table->Add("aten.scalar_tensor.default", Fills(0));
  // Memory that nobody has written yet holds zeros, so that a run is the same every time.
  table->Add("aten.empty.memory_format", Fills(-1));
  table->Add("aten.empty_like.default", Fills(-1));
  table->Add("aten.new_empty.default", Fills(-1));
  table->Add("aten.empty_strided.default", Fills(-1));
  table->Add("aten.new_empty_strided.default", Fills(-1));
  table->Add("aten.arange.default", Arange(-1, 0, -1));
  table->Add("aten.arange.start", Arange(0, 1, -1));
  table->Add("aten.arange.start_step", Arange(0, 1, 2));
}

}  // namespace autospc::exec
