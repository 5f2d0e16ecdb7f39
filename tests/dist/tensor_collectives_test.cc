// Collectives on tensors, on threads with the host's copies and sums and with LibTorch's kernels (those of a GPU's
// communicator): the same results, and the same refusals before anything is sent.
#include "runtime/dist/tensor_collectives.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <thread>

#include "runtime/dist/device_memory.h"
#include "runtime/dist/in_process.h"

namespace autospc {
namespace {

using c10::ScalarType;

const c10::Device kCpu(c10::DeviceType::CPU);

at::Tensor Bytes(int64_t n) { return at::empty({n}, at::TensorOptions().dtype(at::kByte)); }

class TensorCollectivesTest : public testing::TestWithParam<bool> {
 protected:
  static constexpr int kRanks = 3;
  void Run(const std::function<void(Communicator&)>& run) {
    auto ranks = MakeInProcessCommunicators(kRanks, GetParam() ? std::optional(kCpu) : std::nullopt);
    std::vector<std::thread> threads;
    for (auto& rank : ranks) threads.emplace_back([&] { run(*rank); });
    for (std::thread& t : threads) t.join();
  }
};
INSTANTIATE_TEST_SUITE_P(Memory, TensorCollectivesTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "LibTorch" : "Host"; });

TEST_P(TensorCollectivesTest, Compute) {
  Run([](Communicator& c) {
    const int64_t r = c.rank(), p = c.size();
    const at::Tensor row = at::arange(4, at::kLong).add(10 * r);
    at::Tensor all = at::empty({p, 4}, at::kLong);
    ASSERT_TRUE(AllGather(c, row, all).ok());
    all.select(0, r).add_(1);
    ASSERT_TRUE(AllGather(c, all.select(0, r), all).ok());  // in place
    for (int64_t i = 0; i < p; ++i) EXPECT_EQ(all[i][3].item<int64_t>(), 10 * i + 4);

    const at::Tensor mine = at::arange(2 * p, at::kFloat).add(100 * r);
    at::Tensor exchanged = at::empty({p, 2}, at::kFloat);
    ASSERT_TRUE(AllToAll(c, mine, exchanged).ok());
    for (int64_t i = 0; i < p; ++i) EXPECT_EQ(exchanged[i][1].item<float>(), static_cast<float>(100 * i + 2 * r + 1));

    at::Tensor sum = at::empty({2}, at::kFloat);
    ASSERT_TRUE(ReduceScatter(c, mine, sum, ReduceOp::kSum, Bytes(2 * p * 4)).ok());
    EXPECT_EQ(sum[1].item<float>(), static_cast<float>(300 + p * (2 * r + 1)));
    at::Tensor within = mine.clone();  // the result takes the place of what was sent
    ASSERT_TRUE(ReduceScatter(c, within, within.narrow(0, 0, 2), ReduceOp::kMax, Bytes(2 * p * 4)).ok());
    EXPECT_EQ(within[0].item<float>(), static_cast<float>(200 + 2 * r));

    const at::Tensor x = at::full({5, 7}, r + 1, at::kDouble).t();  // dense, not contiguous
    ASSERT_TRUE(AllReduce(c, x, ReduceOp::kSum, Bytes(c.MinStaging(ScalarType::Double))).ok());
    EXPECT_EQ(x.sum().item<double>(), 35.0 * 6);
    const at::Tensor flag = at::full({3}, r == 1, at::kBool);
    ASSERT_TRUE(AllReduce(c, flag, ReduceOp::kMax, Bytes(c.MinStaging(ScalarType::Bool))).ok());
    EXPECT_TRUE(flag.all().item<bool>());

    const at::Tensor word = at::full({2}, r, at::kInt);
    ASSERT_TRUE(Broadcast(c, word, 2).ok());
    EXPECT_EQ(word[1].item<int>(), 2);
    ASSERT_TRUE(c.Wait().ok());
    ASSERT_TRUE(c.Barrier().ok());
    EXPECT_EQ(c.traffic().at("reduce_scatter").bytes, 2 * 8 * (p - 1));
  });
}

// Every rank refuses, and afterwards they still communicate: nothing was sent.
TEST_P(TensorCollectivesTest, Refuse) {
  Run([](Communicator& c) {
    const int64_t p = c.size();
    const auto expect = [&](const Status& status, const char* says, Code code = Code::kBadInput) {
      ASSERT_FALSE(status.ok()) << says;
      EXPECT_EQ(status.error().code, code);
      EXPECT_NE(status.error().what.find(says), std::string::npos) << status.error().Format();
    };
    const at::Tensor x = at::empty({4}, at::kFloat), all = at::empty({p, 4}, at::kFloat);
    const at::Tensor meta = at::empty({4}, at::TensorOptions(c10::DeviceType::Meta).dtype(at::kFloat));
    expect(AllGather(c, {}, all), "its input is missing");
    expect(AllGather(c, meta, all), "its input is on meta, the ranks communicate on cpu");
    expect(AllGather(c, x, all.to(at::kDouble)), "its input is Float, its output Double");
    expect(AllGather(c, x, at::empty({p, 5}, at::kFloat)), "4 elements become 15 on 3 ranks");
    expect(AllGather(c, x, at::empty({4, p}, at::kFloat).t()), "strides [1, 3] is not contiguous");
    expect(AllGather(c, all.view(-1).narrow(0, 4 * ((c.rank() + 1) % p), 4), all), "its buffers overlap");
    expect(AllToAll(c, at::empty({4}, at::kFloat), at::empty({4}, at::kFloat)), "4 elements become 4 on 3 ranks");
    expect(AllToAll(c, all, all), "its buffers overlap");
    expect(ReduceScatter(c, all, x, ReduceOp::kSum, Bytes(47)), "47 bytes of staging where 48 are needed");
    expect(ReduceScatter(c, all, x, ReduceOp::kSum, {}), "its staging is missing");
    expect(AllReduce(c, at::empty({2, 8}, at::kFloat).narrow(1, 0, 4), ReduceOp::kSum, Bytes(999)), "is not dense");
    expect(AllReduce(c, x, ReduceOp::kSum, Bytes(35)), "35 bytes of staging where 36 are needed");
    expect(AllReduce(c, x, ReduceOp::kSum, x), "bytes of staging where 36 are needed");
    expect(AllReduce(c, all, ReduceOp::kSum, all), "its buffers overlap");
    expect(AllReduce(c, at::empty({4}, at::kBool), ReduceOp::kSum, Bytes(99)), "no sum", Code::kUnsupported);
    expect(AllReduce(c, at::empty({4}, at::kComplexFloat), ReduceOp::kMax, Bytes(99)), "no max", Code::kUnsupported);
    expect(Broadcast(c, x, 3), "from rank 3 of 3");
    expect(c.AllGather(nullptr, all.data_ptr(), 4), "its input has no memory");
    expect(c.AllToAll(x.data_ptr(), all.data_ptr(), -1), "its input has 3 times -1 bytes");
    expect(c.AllToAll(x.data_ptr(), all.data_ptr(), int64_t{1} << 62), "3 times");
    expect(c.AllReduce(x.data_ptr(), int64_t{1} << 61, ScalarType::Float, ReduceOp::kSum, all.data_ptr(), 99),
           "elements of Float on 3 ranks");
    EXPECT_TRUE(c.traffic().empty());
    EXPECT_TRUE(AllGather(c, x, all).ok());
  });
}

// A GPU's sums are those of the host, bit by bit: float32 accumulators for 16-bit floats, the order of rows.
TEST(DeviceMemoryTest, SumsAsTheHost) {
  DeviceMemory memory(kCpu);
  const int64_t rows = 5;
  for (const int64_t n : {int64_t{1}, int64_t{1000}, (int64_t{1} << 20) + 3}) {  // beyond one block of accumulators
    for (const ScalarType type : {ScalarType::Float, ScalarType::Double, ScalarType::BFloat16, ScalarType::Half,
                                  ScalarType::Long, ScalarType::Char, ScalarType::Byte, ScalarType::ComplexFloat}) {
      const at::Tensor scale = at::arange(rows, at::kFloat).mul_(2).exp_().unsqueeze(1);
      const at::Tensor x = at::rand({rows, n}).sub_(0.5).mul_(scale).to(type);
      for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax}) {
        at::Tensor host = at::empty({n}, type), device = at::empty({n}, type);
        const Status expected = ReduceRows(x.data_ptr(), host.data_ptr(), rows, n, type, op);
        const Status got = memory.Reduce(x.data_ptr(), device.data_ptr(), rows, n, type, op);
        ASSERT_EQ(expected.ok(), got.ok()) << c10::toString(type);
        if (!expected.ok()) continue;
        EXPECT_EQ(std::memcmp(host.data_ptr(), device.data_ptr(), host.nbytes()), 0)
            << c10::toString(type) << " " << n << (op == ReduceOp::kSum ? " sum" : " max");
      }
    }
  }
}

TEST(DeviceMemoryTest, ANanWinsAMaximum) {
  DeviceMemory memory(kCpu);
  const float rows[] = {1, NAN, 3, NAN, 5, 2};
  float out[2] = {};
  ASSERT_TRUE(memory.Reduce(rows, out, 3, 2, ScalarType::Float, ReduceOp::kMax).ok());
  EXPECT_EQ(out[0], 5);
  EXPECT_TRUE(std::isnan(out[1]));
}

TEST(DeviceMemoryTest, AFailureOfLibTorchIsAnError) {
  DeviceMemory memory(c10::Device(c10::DeviceType::CUDA, 0));  // its libraries are not loaded
  float x[2] = {};
  const Status copied = memory.Copy(&x[0], &x[1], 4);
  ASSERT_FALSE(copied.ok());
  EXPECT_EQ(copied.error().code, Code::kFailed);
  EXPECT_FALSE(memory.Reduce(x, x + 1, 1, 1, ScalarType::Float, ReduceOp::kSum).ok());
}

}  // namespace
}  // namespace autospc
