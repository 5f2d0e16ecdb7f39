#include "runtime/cuda/nccl.h"

#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <vector>

#include "runtime/dist/device_memory.h"

namespace autospc {
namespace {

// A step may last minutes, so a collective has no short limit of its own.
constexpr auto kTimeout = std::chrono::hours(24);

Error NcclFailure(const std::exception& e, const char* what) {
  const std::string message = e.what();
  const bool timeout = message.find("imed out") != std::string::npos;
  return Error{timeout ? Code::kTimeout : Code::kPeerFailed,
               fmt::format("{}: {}", what, message.substr(0, message.find('\n'))), "",
               "look at the first rank that failed; NCCL_DEBUG=INFO tells what NCCL does"};
}

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(int rank, int size, c10::Device device, c10::intrusive_ptr<c10d::ProcessGroupNCCL> group)
      : Communicator(rank, size, device),
        memory_(device),
        group_(std::move(group)),
        here_(at::zeros({size}, at::TensorOptions(device).dtype(at::kByte))) {}

  ~NcclCommunicator() override {
    try {
      if (!aborted_) group_->shutdown();
    } catch (const std::exception&) {  // a peer is gone: nothing is left to say goodbye to
    }
  }

  bool follows_streams() const override { return true; }

  // The stream's work ends or NCCL says that it never will; polled, since waiting in the driver has no way out.
  Status Wait() override {
    try {
      const c10::cuda::CUDAStream stream = c10::cuda::getCurrentCUDAStream(device().index());
      auto pause = std::chrono::microseconds(10);
      while (!stream.query()) {
        RETURN_IF_ERROR(Health());
        std::this_thread::sleep_for(pause);
        pause = std::min<std::chrono::microseconds>(pause * 2, std::chrono::milliseconds(1));
      }
    } catch (const std::exception& e) {
      return NcclFailure(e, "the GPU's work failed");
    }
    return Health();
  }

  void Abort() override {
    if (aborted_.exchange(true)) return;
    try {
      group_->abort();
    } catch (const std::exception&) {  // it is being aborted already
    }
  }

 protected:
  Status Exchange(const Piece* pieces) override {
    std::vector<at::Tensor> from, to;  // a group of sends and receives; empty tensors take part in none
    bool any = false;
    for (int r = 0; r < size(); ++r) {
      const Piece& p = pieces[r];
      const bool own = r == rank();
      from.push_back(memory_.Bytes(const_cast<void*>(p.send), own ? 0 : p.send_bytes));
      to.push_back(memory_.Bytes(p.recv, own ? 0 : p.recv_bytes));
      any = any || from.back().numel() > 0 || to.back().numel() > 0;
    }
    if (!any) return Ok();
    return Run([&] { return group_->alltoall(to, from); });
  }

  Status Gather(void* all, int64_t bytes) override {
    if (bytes == 0) return Ok();
    at::Tensor to = memory_.Bytes(all, size() * bytes);
    at::Tensor mine = to.narrow(0, rank() * bytes, bytes);
    return Run([&] { return group_->_allgather_base(to, mine); });
  }

  Status Spread(void* x, int64_t bytes, int root) override {
    if (bytes == 0) return Ok();
    std::vector<at::Tensor> tensors = {memory_.Bytes(x, bytes)};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    return Run([&] { return group_->broadcast(tensors, options); });
  }

  Status Meet() override {
    RETURN_IF_ERROR(Gather(here_.data_ptr(), 1));
    return Wait();
  }

  Status Copy(void* to, const void* from, int64_t bytes) override {
    const c10::cuda::CUDAGuard guard(device());
    return memory_.Copy(to, from, bytes);
  }

  Status Reduce(const void* rows, void* out, int64_t count, int64_t n, c10::ScalarType type, ReduceOp op) override {
    const c10::cuda::CUDAGuard guard(device());
    return memory_.Reduce(rows, out, count, n, type, op);
  }

 private:
  // NCCL's stream takes up after the current one, which then waits for it: the host does not.
  template <typename Call>
  Status Run(const Call& call) {
    RETURN_IF_ERROR(Health());
    try {
      const c10::cuda::CUDAGuard guard(device());
      call()->wait();
    } catch (const std::exception& e) {
      if (aborted_) return Interrupted();
      return NcclFailure(e, "a collective failed");
    }
    return Ok();
  }

  static Error Interrupted() { return Error{Code::kInterrupted, "the collective was aborted", "", ""}; }

  Status Health() const {
    if (aborted_) return Interrupted();
    switch (group_->getError()) {
      case c10d::ErrorType::SUCCESS:
        return Ok();
      case c10d::ErrorType::TIMEOUT:
        return Error{Code::kTimeout, "a collective over NCCL does not end", "", "look at the first rank that failed"};
      default:
        return Error{Code::kPeerFailed, "NCCL lost a rank", "",
                     "look at the first rank that failed; NCCL_DEBUG=INFO tells what NCCL does"};
    }
  }

  DeviceMemory memory_;
  c10::intrusive_ptr<c10d::ProcessGroupNCCL> group_;
  at::Tensor here_;  // [P] bytes for Meet
  std::atomic<bool> aborted_ = false;
};

std::string CudaVersion(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

Status CheckGpu(int gpu) {
  int driver = 0, runtime = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && cudaRuntimeGetVersion(&runtime) == cudaSuccess && driver > 0 &&
      driver / 1000 < runtime / 1000) {
    return Error{Code::kUsage,
                 fmt::format("the NVIDIA driver is for CUDA {}, LibTorch's libraries for {}", CudaVersion(driver),
                             CudaVersion(runtime)),
                 "", "install a newer driver, or use --device cpu"};
  }
  const int gpus = c10::cuda::device_count();
  if (gpu >= 0 && gpu < gpus) return Ok();
  return Error{Code::kUsage, fmt::format("GPU {} of {} is asked for", gpu, gpus), "",
               "does CUDA_VISIBLE_DEVICES hide it? Or use --device cpu"};
}

}  // namespace

Result<std::unique_ptr<Communicator>> MakeNcclCommunicator(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                                           int size, int gpu) {
  RETURN_IF_ERROR(CheckGpu(gpu));
  // c10d would end the process with a trace where a peer is lost: let it abort NCCL's work and tell us instead.
  setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", std::to_string(c10d::CleanUpOnly).c_str(), /*replace=*/0);
  try {
    const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(gpu));
    const c10::cuda::CUDAGuard guard(device);
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = kTimeout;
    auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, std::move(options));
    group->eagerConnectSingleDevice(device);  // a rank that can't connect says so now
    return std::unique_ptr<Communicator>(std::make_unique<NcclCommunicator>(rank, size, device, std::move(group)));
  } catch (const std::exception& e) {
    return NcclFailure(e, "the GPUs could not be connected");
  }
}

}  // namespace autospc
