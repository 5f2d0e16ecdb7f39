#include "runtime/dist/tensor_collectives.h"

#include <fmt/ranges.h>

namespace autospc {
namespace {

Error Misfit(const char* what, const std::string& why) {
  return Error{Code::kBadInput, fmt::format("{}: {}", what, why), "", "compile the model again"};
}

int64_t BytesOf(const at::Tensor& t) { return t.numel() * static_cast<int64_t>(t.element_size()); }

// Defined, on the communicator's device, without gaps (`any_order`) or contiguous.
Status CheckTensor(const char* what, const char* name, const Communicator& communicator, const at::Tensor& t,
                   bool any_order = false) {
  if (!t.defined()) return Misfit(what, fmt::format("{} is missing", name));
  const c10::Device device = t.device(), expected = communicator.device();
  if (device.type() != expected.type() || (!device.is_cpu() && device.index() != expected.index())) {
    return Misfit(what, fmt::format("{} is on {}, the ranks communicate on {}", name, device.str(), expected.str()));
  }
  if (any_order ? !t.is_non_overlapping_and_dense() : !t.is_contiguous()) {
    return Misfit(what, fmt::format("{} of sizes [{}] and strides [{}] is not {}", name, fmt::join(t.sizes(), ", "),
                                    fmt::join(t.strides(), ", "), any_order ? "dense" : "contiguous"));
  }
  return Ok();
}

// Both fit, of one dtype; `out` has out_blocks / in_blocks times as many elements.
Status CheckPair(const char* what, const Communicator& communicator, const at::Tensor& in, int64_t in_blocks,
                 const at::Tensor& out, int64_t out_blocks) {
  RETURN_IF_ERROR(CheckTensor(what, "its input", communicator, in));
  RETURN_IF_ERROR(CheckTensor(what, "its output", communicator, out));
  if (in.scalar_type() != out.scalar_type()) {
    return Misfit(what, fmt::format("its input is {}, its output {}", c10::toString(in.scalar_type()),
                                    c10::toString(out.scalar_type())));
  }
  if (in.numel() % in_blocks != 0 || out.numel() % out_blocks != 0 ||
      in.numel() / in_blocks != out.numel() / out_blocks) {
    return Misfit(what, fmt::format("{} elements become {} on {} ranks", in.numel(), out.numel(), communicator.size()));
  }
  return Ok();
}

}  // namespace

Status AllGather(Communicator& communicator, const at::Tensor& in, const at::Tensor& out) {
  RETURN_IF_ERROR(CheckPair("all_gather", communicator, in, 1, out, communicator.size()));
  return communicator.AllGather(in.data_ptr(), out.data_ptr(), BytesOf(in));
}

Status AllToAll(Communicator& communicator, const at::Tensor& in, const at::Tensor& out) {
  const int64_t ranks = communicator.size();
  RETURN_IF_ERROR(CheckPair("all_to_all", communicator, in, ranks, out, ranks));
  return communicator.AllToAll(in.data_ptr(), out.data_ptr(), BytesOf(in) / ranks);
}

Status ReduceScatter(Communicator& communicator, const at::Tensor& in, const at::Tensor& out, ReduceOp op,
                     const at::Tensor& staging) {
  RETURN_IF_ERROR(CheckPair("reduce_scatter", communicator, in, communicator.size(), out, 1));
  RETURN_IF_ERROR(CheckTensor("reduce_scatter", "its staging", communicator, staging));
  return communicator.ReduceScatter(in.data_ptr(), out.data_ptr(), out.numel(), out.scalar_type(), op,
                                    staging.data_ptr(), BytesOf(staging));
}

Status AllReduce(Communicator& communicator, const at::Tensor& x, ReduceOp op, const at::Tensor& staging) {
  RETURN_IF_ERROR(CheckTensor("all_reduce", "its tensor", communicator, x, /*any_order=*/true));
  RETURN_IF_ERROR(CheckTensor("all_reduce", "its staging", communicator, staging));
  return communicator.AllReduce(x.data_ptr(), x.numel(), x.scalar_type(), op, staging.data_ptr(), BytesOf(staging));
}

Status Broadcast(Communicator& communicator, const at::Tensor& x, int root) {
  RETURN_IF_ERROR(CheckTensor("broadcast", "its tensor", communicator, x));
  return communicator.Broadcast(x.data_ptr(), BytesOf(x), root);
}

}  // namespace autospc
