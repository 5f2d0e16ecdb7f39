#include "runtime/exec/device_memory.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/Exception.h>

#include "runtime/base/bytes.h"

namespace autospc::exec {
namespace {

c10::DeviceAllocator* CountingAllocatorOf(c10::Device device) {
  return device.is_cpu() ? nullptr : dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device.type()));
}

}  // namespace

Result<DeviceRegion> DeviceRegion::Allocate(c10::Device device, int64_t bytes, const char* what) {
  DeviceRegion region;
  if (device.is_cpu()) {
    ASSIGN_OR_RETURN(region.host_, Region::Map(bytes, what));
    region.data_ = region.host_.data();
    return region;
  }
  if (bytes == 0) return region;
  try {
    region.elsewhere_ = at::zeros({bytes}, at::TensorOptions(device).dtype(at::kByte));
  } catch (const c10::OutOfMemoryError& e) {
    return Error{Code::kDoesNotFit, fmt::format("no memory on {} for {} ({})", device.str(), what, FormatBytes(bytes)), "",
                 "is another process on it? Or compile for more ranks, a shorter sequence or a --memory-budget"};
  }
  region.data_ = static_cast<std::byte*>(region.elsewhere_.mutable_data_ptr());
  return region;
}

at::Tensor TensorAt(c10::Device device, void* data, at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType type) {
  // With a target device LibTorch does not ask the driver whose memory it is.
  return at::for_blob(data, sizes)
      .strides(strides)
      .options(at::TensorOptions(device).dtype(type))
      .target_device(device)
      .make_tensor();
}

DeviceUse UseOf(c10::Device device) {
  c10::DeviceAllocator* const allocator = CountingAllocatorOf(device);
  if (allocator == nullptr) return {};
  const auto stats = allocator->getDeviceStats(device.index());
  const auto& bytes = stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
  return {bytes.current, bytes.peak};
}

void ResetPeak(c10::Device device) {
  if (c10::DeviceAllocator* const allocator = CountingAllocatorOf(device)) allocator->resetPeakStats(device.index());
}

}  // namespace autospc::exec
