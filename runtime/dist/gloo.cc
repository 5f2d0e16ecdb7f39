#include "runtime/dist/gloo.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace autospc {
namespace {

// A step may last minutes, so a collective has no short limit of its own: a rank that dies closes its
// connections, and the launcher ends the job.
constexpr auto kTimeout = std::chrono::hours(24);

Error FromException(const std::exception& e, const char* what) {
  std::string message = e.what();
  message = message.substr(0, message.find('\n'));
  const bool timeout = message.find("imed out") != std::string::npos;
  return Error{timeout ? Code::kTimeout : Code::kPeerFailed, fmt::format("{}: {}", what, message), "",
               "look at the first rank that failed"};
}

class GlooCommunicator : public Communicator {
 public:
  GlooCommunicator(int rank, int size, c10::intrusive_ptr<c10d::ProcessGroupGloo> group)
      : Communicator(rank, size), group_(std::move(group)) {}

 protected:
  // Sends and receives run together: with a fresh tag for each exchange messages cannot be mistaken.
  Status Exchange(const Piece* pieces) override {
    tag_ = (tag_ + 1) & 0x3fffffff;
    try {
      std::vector<c10::intrusive_ptr<c10d::Work>> works;
      for (int step = 1; step < size(); ++step) {
        const int from = (rank() - step + size()) % size();
        if (pieces[from].recv_bytes == 0) continue;
        std::vector<at::Tensor> buffer = {Bytes(pieces[from].recv, pieces[from].recv_bytes)};
        works.push_back(group_->recv(buffer, from, tag_));
      }
      for (int step = 1; step < size(); ++step) {
        const int to = (rank() + step) % size();
        if (pieces[to].send_bytes == 0) continue;
        std::vector<at::Tensor> buffer = {Bytes(const_cast<void*>(pieces[to].send), pieces[to].send_bytes)};
        works.push_back(group_->send(buffer, to, tag_));
      }
      for (const auto& work : works) work->wait();
    } catch (const std::exception& e) {
      return FromException(e, "a collective failed");
    }
    return Ok();
  }

 private:
  static at::Tensor Bytes(void* data, int64_t bytes) {
    return at::from_blob(data, {bytes}, at::TensorOptions().dtype(at::kByte));
  }

  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
  int tag_ = 0;
};

}  // namespace

Result<std::unique_ptr<Communicator>> MakeGlooCommunicator(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                                           int size, bool local) {
  try {
    auto options = c10d::ProcessGroupGloo::Options::create(kTimeout);
    const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
    if (interface != nullptr && *interface != '\0') {
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForInterface(interface));
    } else if (local) {
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
    } else {
      options->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice());
    }
    options->threads = 1;
    auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
    return std::unique_ptr<Communicator>(std::make_unique<GlooCommunicator>(rank, size, std::move(group)));
  } catch (const std::exception& e) {
    return FromException(e, "the ranks could not be connected");
  }
}

}  // namespace autospc
