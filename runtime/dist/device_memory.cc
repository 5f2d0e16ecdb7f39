#include "runtime/dist/device_memory.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/view_as_real.h>

#include <algorithm>
#include <exception>

namespace autospc {
namespace {

constexpr int64_t kAccumulators = int64_t{1} << 20;  // elements: 4 MiB, enough to keep a device busy

Error DeviceFailure(const std::exception& e, const char* what) {
  const std::string message = e.what();
  return Error{Code::kFailed, fmt::format("{}: {}", what, message.substr(0, message.find('\n'))), "", ""};
}

}  // namespace

at::Tensor DeviceMemory::Bytes(void* data, int64_t bytes) const {
  return Elements(data, {bytes}, c10::ScalarType::Byte);
}

at::Tensor DeviceMemory::Elements(void* data, at::IntArrayRef sizes, c10::ScalarType type) const {
  // With a target device LibTorch does not ask the driver whose memory it is.
  return at::for_blob(data, sizes).options(at::TensorOptions(device_).dtype(type)).target_device(device_).make_tensor();
}

Status DeviceMemory::Copy(void* to, const void* from, int64_t bytes) const {
  try {
    Bytes(to, bytes).copy_(Bytes(const_cast<void*>(from), bytes), /*non_blocking=*/true);
  } catch (const std::exception& e) {
    return DeviceFailure(e, "a copy within a collective failed");
  }
  return Ok();
}

// 16-bit floats: a block of float32 sums at a time, row after row.
void DeviceMemory::Accumulate(const at::Tensor& rows, const at::Tensor& out) {
  if (!sums_.defined()) sums_ = at::empty({kAccumulators}, at::TensorOptions(device_).dtype(at::kFloat));
  for (int64_t start = 0; start < out.numel(); start += kAccumulators) {
    const int64_t width = std::min(kAccumulators, out.numel() - start);
    at::Tensor sums = sums_.narrow(0, 0, width);
    sums.copy_(rows.select(0, 0).narrow(0, start, width));
    for (int64_t r = 1; r < rows.size(0); ++r) sums.add_(rows.select(0, r).narrow(0, start, width));
    out.narrow(0, start, width).copy_(sums);
  }
}

Status DeviceMemory::Reduce(const void* rows, void* out, int64_t count, int64_t n, c10::ScalarType type, ReduceOp op) {
  RETURN_IF_ERROR(CheckReducible(type, op));
  if (n == 0 || count == 0) return Ok();
  try {
    at::Tensor from = Elements(const_cast<void*>(rows), {count, n}, type);
    at::Tensor to = Elements(out, {n}, type);
    if (c10::isComplexType(type)) from = at::view_as_real(from), to = at::view_as_real(to);
    if (op == ReduceOp::kSum && (type == c10::ScalarType::BFloat16 || type == c10::ScalarType::Half)) {
      Accumulate(from, to);
      return Ok();
    }
    to.copy_(from.select(0, 0));
    for (int64_t r = 1; r < count; ++r) {
      if (op == ReduceOp::kSum) {
        to.add_(from.select(0, r));
      } else {
        at::maximum_out(to, to, from.select(0, r));
      }
    }
  } catch (const std::exception& e) {
    return DeviceFailure(e, "a reduction within a collective failed");
  }
  return Ok();
}

}  // namespace autospc
