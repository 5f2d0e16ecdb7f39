// The CUDA module as it is built. Without LibTorch's CUDA libraries it says what is missing, without a GPU that there
// is none; with GPUs every collective runs on their memory, a rank a GPU, and gives what ranks as threads give on the
// host.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "runtime/dist/in_process.h"
#include "runtime/dist/tensor_collectives.h"
#include "tests/cuda/gpu_test.h"

namespace autospc {
namespace {

using c10::ScalarType;

TEST(CudaModuleTest, LoadsOrNamesWhatIsMissing) {
  const auto module = testing::FindAndLoadCudaModule();
  if (!module.ok()) {
    EXPECT_EQ(module.error().code, Code::kUsage);
    EXPECT_NE(module.error().what.find(" is missing, which LibTorch's CUDA library needs"), std::string::npos)
        << module.error().Format();
    EXPECT_NE(module.error().hint.find("pip install torch=="), std::string::npos) << module.error().Format();
    return;
  }
  EXPECT_STREQ((*module)->build, CudaModuleBuild());
  if (CountGpus().ok()) return;
  const auto store = c10::make_intrusive<c10d::HashStore>();
  const auto connected = (*module)->connect(store, 0, 1, 0);
  ASSERT_FALSE(connected.ok());
  EXPECT_EQ(connected.error().code, Code::kUsage) << connected.error().Format();
  EXPECT_NE(connected.error().what.find("GPU 0 of 0"), std::string::npos) << connected.error().Format();
  const auto id = (*module)->gpu_id(0);
  ASSERT_FALSE(id.ok());
  EXPECT_EQ(id.error().code, Code::kUsage) << id.error().Format();
}

class NcclTest : public testing::GpuTest {
 protected:
  // On the GPUs, then by threads on the host; `run` gives a tensor, which must be the same bit by bit.
  void Compare(const std::function<at::Tensor(Communicator&)>& run) {
    std::vector<at::Tensor> got(gpus_), expected(gpus_);
    auto host = MakeInProcessCommunicators(gpus_);
    std::vector<std::thread> threads;
    for (int r = 0; r < gpus_; ++r) threads.emplace_back([&, r] { expected[r] = run(*host[r]).cpu(); });
    for (std::thread& t : threads) t.join();
    threads.clear();
    const auto store = c10::make_intrusive<c10d::HashStore>();
    for (int r = 0; r < gpus_; ++r) {
      threads.emplace_back([&, r] {
        auto connected = module_->connect(store, r, gpus_, r);
        ASSERT_TRUE(connected.ok()) << connected.error().Format();
        const at::Tensor result = run(**connected);
        ASSERT_TRUE((*connected)->Wait().ok());
        got[r] = result.cpu();
        ASSERT_TRUE((*connected)->Barrier().ok());
      });
    }
    for (std::thread& t : threads) t.join();
    for (int r = 0; r < gpus_; ++r) {
      ASSERT_TRUE(got[r].defined());
      EXPECT_TRUE(got[r].equal(expected[r])) << "rank " << r << " of " << gpus_;
    }
  }

  const CudaModule* module_ = nullptr;
  int gpus_ = 0;
};

at::Tensor Filled(const Communicator& c, int64_t n, ScalarType type) {  // by rank and place, the same on each run
  at::Tensor x = at::empty({n}, at::kFloat);
  for (int64_t i = 0; i < n; ++i)
    x.data_ptr<float>()[i] = std::sin(0.37f * static_cast<float>(i) + 3.f * static_cast<float>(c.rank()));
  return x.mul_(100).to(type).to(c.device());
}

at::Tensor Staging(const Communicator& c, int64_t bytes) {
  return at::empty({bytes}, at::TensorOptions(c.device()).dtype(at::kByte));
}

TEST_F(NcclTest, Moves) {
  Compare([](Communicator& c) {
    const int64_t p = c.size();
    const at::Tensor x = Filled(c, 6 * p, ScalarType::Float);
    const at::Tensor all = at::empty({p * 6 * p}, x.options()), exchanged = at::empty_like(all);
    EXPECT_TRUE(AllGather(c, x, all).ok());
    EXPECT_TRUE(AllToAll(c, all, exchanged).ok());
    EXPECT_TRUE(Broadcast(c, x, static_cast<int>(p) - 1).ok());
    exchanged.narrow(0, 0, 6 * p).add_(x);
    return exchanged;
  });
}

TEST_F(NcclTest, AddsInTheOrderOfRanks) {
  for (const ScalarType type : {ScalarType::Float, ScalarType::BFloat16, ScalarType::Double, ScalarType::Long}) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax}) {
      Compare([&](Communicator& c) {
        const int64_t n = 5003;
        const at::Tensor x = Filled(c, n, type);
        const auto element = static_cast<int64_t>(x.element_size());
        EXPECT_TRUE(AllReduce(c, x, op, Staging(c, std::max(c.MinStaging(type), n * element / 3))).ok());
        const at::Tensor parts = Filled(c, 7 * c.size(), type), sum = at::empty({7}, x.options());
        EXPECT_TRUE(ReduceScatter(c, parts, sum, op, Staging(c, parts.numel() * element)).ok());
        x.narrow(0, 0, 7).add_(sum);
        return x;
      });
    }
  }
}

TEST_F(NcclTest, AfterAbortNothingIsSent) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  auto one = module_->connect(store, 0, 1, 0);
  ASSERT_TRUE(one.ok()) << one.error().Format();
  (*one)->Abort();
  EXPECT_EQ((*one)->Barrier().error().code, Code::kInterrupted);
}

}  // namespace
}  // namespace autospc
