#include "runtime/exec/side_stream.h"

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <deque>
#include <utility>

namespace autospc::exec {
namespace {

class DeviceStream : public SideStream {
 public:
  explicit DeviceStream(c10::Device device)
      : device_(device),
        guards_(device.type()),
        stream_(guards_.getStreamFromGlobalPool(device, /*isHighPriority=*/true)) {}

  Result<int64_t> Begin(const std::function<Status()>& work) override {
    c10::Event before(device_.type());
    before.record(guards_.getStream(device_));
    before.block(stream_);
    {
      const c10::StreamGuard guard(stream_);
      RETURN_IF_ERROR(work());
    }
    c10::Event done(device_.type());
    done.record(stream_);
    pending_.emplace_back(++last_, std::move(done));
    return last_;
  }

  Status Join(int64_t ticket) override {
    // The stream keeps its order: the latest one that is asked for stands for those before it.
    std::optional<c10::Event> done;
    for (; !pending_.empty() && pending_.front().first <= ticket; pending_.pop_front())
      done = std::move(pending_.front().second);
    if (done) done->block(guards_.getStream(device_));
    return Ok();
  }

 private:
  const c10::Device device_;
  const c10::impl::VirtualGuardImpl guards_;
  const c10::Stream stream_;
  int64_t last_ = 0;
  std::deque<std::pair<int64_t, c10::Event>> pending_;  // begun and not waited for
};

}  // namespace

std::unique_ptr<SideStream> MakeSideStream(c10::Device device) { return std::make_unique<DeviceStream>(device); }

}  // namespace autospc::exec
