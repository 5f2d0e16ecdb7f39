// Memory of a rank's device: pages of the host, or one allocation of LibTorch's allocator on another device (a GPU whose
// libraries the program has loaded). What else the executor asks of a device, LibTorch's ops and guards do for any.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstddef>
#include <cstdint>

#include "runtime/base/result.h"
#include "runtime/exec/region.h"

namespace autospc::exec {

// So many zeros on a device, aligned to 64. Moves; given back at its end.
class DeviceRegion {
 public:
  // kDoesNotFit if the device has not so much; empty for 0 bytes.
  static Result<DeviceRegion> Allocate(c10::Device device, int64_t bytes, const char* what);
  std::byte* data() const { return data_; }  // nothing to read or write through, unless the device is the host

 private:
  Region host_;
  at::Tensor elsewhere_;  // [bytes]
  std::byte* data_ = nullptr;
};

// The memory at `data` as a tensor, which owns nothing. Strides in elements.
at::Tensor TensorAt(c10::Device device, void* data, at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType type);

// What LibTorch's allocator on a device other than the host has given out to this process, in bytes: now, and at the
// highest since ResetPeak. Zero where the device's allocator does not count.
struct DeviceUse {
  int64_t now = 0, peak = 0;
};
DeviceUse UseOf(c10::Device device);
void ResetPeak(c10::Device device);

}  // namespace autospc::exec
