// Whole steps on a GPU, where there is one: the goldens of models, by ranks as threads that share it, and by one rank over
// NCCL.
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "runtime/exec/side_stream.h"
#include "tests/compiler/device_job.h"
#include "tests/cuda/gpu_test.h"

namespace autospc::train {
namespace {

class GpuStepTest : public autospc::testing::GpuTest {
 protected:
  const c10::Device device_ = c10::Device(c10::DeviceType::CUDA, 0);
};

TEST_F(GpuStepTest, EveryGradientIsThatOfOneDevice) {
  for (const auto& [model, ranks] : {std::pair{"llama", 1}, {"llama", 2}, {"gpt", 3}, {"encoder", 2}, {"window", 2}}) {
    SCOPED_TRACE(fmt::format("{} on {} ranks", model, ranks));
    TempFolder folder;
    ExpectGolden(model, 61, CompileTo(folder / "package", CudaOptions(model, ranks, 61)), device_);
  }
}

TEST_F(GpuStepTest, WhoJoinsASideStreamSeesItsWork) {
  const at::TensorOptions options = at::TensorOptions(device_).dtype(at::kFloat);
  const at::Tensor big = at::ones({4096, 4096}, options), x = at::zeros({1024}, options), y = at::zeros({1024}, options);
  const auto side = exec::MakeSideStream(device_);
  for (int i = 1; i <= 20; ++i) {
    x.fill_(i);
    const auto ticket = side->Begin([&]() -> Status {
      for (int slow = 0; slow < 8; ++slow) (void)big.mm(big);
      y.copy_(x);
      return Ok();
    });
    ASSERT_TRUE(ticket.ok()) << ticket.error().Format();
    ASSERT_TRUE(side->Join(*ticket).ok());
    x.fill_(-1);  // after y has got its own
    EXPECT_EQ(y.sum().item<float>(), 1024 * i);
  }
}

TEST_F(GpuStepTest, OneRankOverNccl) {
  TempFolder folder;
  const auto package = CompileTo(folder / "package", CudaOptions("llama", 1, 61));
  ASSERT_NE(package, nullptr);
  const auto golden = GoldenFile::Open(ModelFile("llama", ".golden_s61.safetensors"));
  ASSERT_TRUE(golden.ok()) << golden.error().Format();
  auto connected = module_->connect(c10::make_intrusive<c10d::HashStore>(), 0, 1, 0);
  ASSERT_TRUE(connected.ok()) << connected.error().Format();
  Meeting meeting(nullptr, MakeSingleCommunicator());
  meeting.UseDevice(std::move(connected).value());
  const RunOptions options;
  const auto rank = Rank::Load(options, package, meeting, nullptr, /*gradients=*/true);
  ASSERT_TRUE(rank.ok()) << rank.error().Format();
  ASSERT_TRUE(TakeBatch(*golden, rank->get()).ok());
  const Status stepped = (*rank)->Step(0.1);
  ASSERT_TRUE(stepped.ok()) << stepped.error().Format();
  const Capture& capture = (*rank)->capture();
  const auto compared = CompareWithGolden(*golden, capture.loss(), capture.gradients(), (*rank)->program(), 1e-5);
  ASSERT_TRUE(compared.ok()) << compared.error().Format();
  EXPECT_TRUE(compared->passed()) << compared->Table();
}

}  // namespace
}  // namespace autospc::train
