// Where collectives run beside the kernels: on a device's stream of their own, so that what does not need their results
// goes on meanwhile. runtime/exec/overlap.h says who has to wait for whom.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "runtime/base/result.h"

namespace autospc::exec {

// Takes up work in order: each comes after what was queued on the current stream before it, and after the work before
// it.
class SideStream {
 public:
  virtual ~SideStream() = default;

  // Queues what `work` queues, now or, so that tests see who waits, as late as the Join() that waits for it. Returns
  // its ticket, from 1 up. Errors of `work`.
  virtual Result<int64_t> Begin(const std::function<Status()>& work) = 0;
  // What is queued on the current stream from now on comes after the works up to that ticket. Errors of late ones.
  virtual Status Join(int64_t ticket) = 0;
};

// A stream out of LibTorch's pool of the device's.
std::unique_ptr<SideStream> MakeSideStream(c10::Device device);

}  // namespace autospc::exec
