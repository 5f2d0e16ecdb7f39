#include "runtime/package/golden.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <numeric>

#include "tests/package/sample.h"

namespace autospc {
namespace {

using program::DType;

// The sample's golden file: inputs, a loss of 2, the gradient of block.w under `name`.
class GoldenTest : public testing::Test {
 protected:
  GoldenTest() {
    std::iota(reference.begin(), reference.end(), 1.0);
    computed.assign(reference.begin(), reference.end());
  }
  std::string Write(const std::string& name = "grad.block.w", std::vector<TensorToWrite> more = {}) {
    more.push_back({"in.ids", DType::Int64, {2, 4}, ids.data(), nullptr});
    more.push_back({"loss", DType::Float64, {}, &loss, nullptr});
    if (!name.empty()) more.push_back({name, DType::Float64, {2, 4}, reference.data(), nullptr});
    EXPECT_TRUE(WriteSafetensors(folder / "g", more, {{"tied", "head.w"}}).ok());
    return folder / "g";
  }
  std::vector<ComputedGradient> Computed() { return {{"block.w", DType::Float32, {2, 4}, {4, 1}, computed.data()}}; }
  GoldenComparison Compare(double run_loss = 2, double rtol = 1e-5) {
    auto golden = GoldenFile::Open(folder / "g");
    EXPECT_TRUE(golden.ok());
    auto result = CompareWithGolden(*golden, run_loss, Computed(), program, rtol);
    EXPECT_TRUE(result.ok()) << result.error().Format();
    return *result;
  }
  Error Fault(const std::vector<ComputedGradient>& gradients) {
    auto golden = GoldenFile::Open(folder / "g");
    EXPECT_TRUE(golden.ok()) << golden.error().Format();
    auto result = CompareWithGolden(*golden, 2, gradients, program, 1e-5);
    return result.ok() ? Error{Code::kOk, "", "", ""} : result.error();
  }

  TempFolder folder;
  program::ProgramT program = SampleProgram();
  std::vector<int64_t> ids = std::vector<int64_t>(8, 3);
  double loss = 2;
  std::vector<double> reference = std::vector<double>(8);
  std::vector<float> computed;
};

TEST_F(GoldenTest, ReadsInputsLossGradientsAndTies) {
  auto golden = GoldenFile::Open(Write());
  ASSERT_TRUE(golden.ok()) << golden.error().Format();
  EXPECT_EQ(golden->loss(), 2);
  ASSERT_EQ(golden->inputs().size(), 1u);
  EXPECT_EQ(golden->inputs()[0].name, "ids");
  ASSERT_EQ(golden->gradients().size(), 1u);
  EXPECT_EQ(golden->gradients()[0].name, "block.w");
  EXPECT_EQ(golden->tied(), std::vector<std::string>{"head.w"});
  EXPECT_TRUE(CheckGolden(*golden, program).ok());
}

TEST_F(GoldenTest, EqualGradientsPass) {
  Write();
  const GoldenComparison result = Compare();
  EXPECT_TRUE(result.passed());
  EXPECT_EQ(result.worst_error(), 0);
  EXPECT_DOUBLE_EQ(result.grad_norm, std::sqrt(204.0));
  EXPECT_NE(result.Table().find("passed"), std::string::npos);
}

TEST_F(GoldenTest, TheErrorIsTheRelativeNormOfTheDifference) {
  Write();
  computed[3] += 0.5f;
  computed[6] -= 0.25f;
  const GoldenComparison result = Compare();
  EXPECT_FALSE(result.passed());
  EXPECT_NEAR(result.rows[0].error, std::hypot(0.5, 0.25) / std::sqrt(204.0), 1e-12);
  EXPECT_NEAR(result.grad_norm_error, std::abs(result.grad_norm - std::sqrt(204.0)) / std::sqrt(204.0), 1e-12);
  EXPECT_NE(result.Table().find("FAILED: 1 of 1 gradients"), std::string::npos) << result.Table();
  EXPECT_NE(result.Table().find("grad.block.w"), std::string::npos);
  EXPECT_TRUE(Compare(2, 0.05).passed());
}

// A gradient that is noise beside the whole one is measured on the whole one's scale.
TEST_F(GoldenTest, TinyGradientsAreMeasuredOnTheModelsScale) {
  const std::vector<double> tiny = {1e-12};
  Write("grad.block.w", {{"grad.block.b", DType::Float64, {1}, tiny.data(), nullptr}});
  auto golden = GoldenFile::Open(folder / "g");
  std::vector<ComputedGradient> gradients = Computed();
  const float other = 3e-12f;
  gradients.push_back({"block.b", DType::Float32, {1}, {1}, &other});
  auto result = CompareWithGolden(*golden, 2, gradients, program, 1e-5);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->rows[0].name, "block.b");
  EXPECT_NEAR(result->rows[0].error, 2e-12 / (1e-4 * std::sqrt(204.0)), 1e-13);
  EXPECT_TRUE(result->passed());
}

TEST_F(GoldenTest, LossAndNaNFail) {
  Write();
  EXPECT_FALSE(Compare(2.1).passed());
  EXPECT_NEAR(Compare(2.1).loss_error, 0.05, 1e-12);
  EXPECT_FALSE(Compare(NAN).passed());
  computed[7] = NAN;
  const GoldenComparison result = Compare(2, 1e9);
  EXPECT_FALSE(result.passed());
  EXPECT_TRUE(std::isnan(result.worst_error()));
  EXPECT_NE(result.Table().find("nan"), std::string::npos);
}

TEST_F(GoldenTest, ANaNReferenceFails) {
  reference[0] = NAN;
  Write();
  EXPECT_FALSE(Compare(2, 1e9).passed());
}

TEST_F(GoldenTest, StridesAndNarrowTypes) {
  Write();
  const std::vector<float> transposed = {1, 5, 2, 6, 3, 7, 4, 8};
  EXPECT_EQ(Fault({{"block.w", DType::Float32, {2, 4}, {1, 2}, transposed.data()}}).code, Code::kOk);
  auto golden = GoldenFile::Open(folder / "g");
  auto result = CompareWithGolden(*golden, 2, {{"block.w", DType::Float32, {2, 4}, {1, 2}, transposed.data()}}, program, 1e-9);
  EXPECT_TRUE(result->passed());
  const std::vector<uint16_t> bf16 = {0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100};
  result = CompareWithGolden(*golden, 2, {{"block.w", DType::BFloat16, {2, 4}, {4, 1}, bf16.data()}}, program, 1e-9);
  EXPECT_TRUE(result->passed());
}

TEST_F(GoldenTest, ATiedNameIsTheSameGradient) {
  Write("grad.head.w");
  EXPECT_TRUE(Compare().passed());
  EXPECT_EQ(Compare().rows[0].name, "head.w");
  Write("grad.head.w", {{"grad.block.w", DType::Float64, {2, 4}, reference.data(), nullptr}});
  EXPECT_NE(Fault(Computed()).what.find("two tied names"), std::string::npos);
}

TEST_F(GoldenTest, AParameterWithoutGradientIsZero) {
  auto unused = std::make_unique<program::StorageT>();
  unused->kind = program::StorageKind::Parameter;
  unused->name = "unused";
  program.storages.push_back(std::move(unused));
  const std::vector<double> zero(2, 0.0), one(2, 1.0);
  Write("grad.block.w", {{"grad.unused", DType::Float64, {2}, zero.data(), nullptr}});
  EXPECT_TRUE(Compare().passed());
  Write("grad.block.w", {{"grad.unused", DType::Float64, {2}, one.data(), nullptr}});
  EXPECT_FALSE(Compare().passed());
  EXPECT_EQ(Compare().rows[0].name, "unused");
  EXPECT_EQ(Compare().rows[0].error, 1);
}

TEST_F(GoldenTest, AGoldenOfAnotherModelIsListedWhole) {
  const std::vector<int32_t> short_ids(3, 1);
  Write("grad.other.w", {{"in.pixels", DType::Float32, {1}, ids.data(), nullptr}});
  auto golden = GoldenFile::Open(folder / "g");
  const Status status = CheckGolden(*golden, program);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kBadInput);
  for (const char* part : {"input 'pixels': the program has no such input", "gradient 'other.w': the program has no such parameter",
                           "gradient 'block.w' is missing"})
    EXPECT_NE(status.error().what.find(part), std::string::npos) << part << "\n" << status.error().what;
  EXPECT_EQ(Fault(Computed()).code, Code::kBadInput);
}

TEST_F(GoldenTest, InputsOfAnotherLengthAreRefused) {
  Write();
  program.tensors[3]->sizes = {2, 5};
  EXPECT_NE(CheckGolden(*GoldenFile::Open(folder / "g"), program).error().what.find("takes i64 [2, 5], the file holds i64 [2, 4]"),
            std::string::npos);
  program.inputs[0]->name = "tokens";
  EXPECT_NE(CheckGolden(*GoldenFile::Open(folder / "g"), program).error().what.find("input 'tokens' is missing"), std::string::npos);
}

TEST_F(GoldenTest, GradientsOfAnotherShapeAreRefused) {
  Write();
  const Error error = Fault({{"block.w", DType::Float32, {4, 2}, {2, 1}, computed.data()}});
  EXPECT_EQ(error.code, Code::kBadInput);
  EXPECT_NE(error.what.find("has sizes [4, 2], the file's [2, 4]"), std::string::npos) << error.what;
}

TEST_F(GoldenTest, FilesOfAnotherKindAreRefused) {
  const double x = 1;
  struct {
    std::vector<TensorToWrite> tensors;
    const char* says;
  } cases[] = {{{{"grad.w", DType::Float64, {}, &x, nullptr}}, "no loss"},
               {{{"loss", DType::Float64, {}, &x, nullptr}, {"w", DType::Float64, {}, &x, nullptr}}, "neither"},
               {{{"loss", DType::Int64, {}, &x, nullptr}}, "neither"},
               {{{"loss", DType::Float64, {}, &x, nullptr}, {"grad.w", DType::Int64, {}, &x, nullptr}}, "gradient of type i64"}};
  for (const auto& c : cases) {
    ASSERT_TRUE(WriteSafetensors(folder / "g", c.tensors).ok());
    auto golden = GoldenFile::Open(folder / "g");
    ASSERT_FALSE(golden.ok()) << c.says;
    EXPECT_EQ(golden.error().code, Code::kBadInput);
    EXPECT_NE(golden.error().what.find(c.says), std::string::npos) << golden.error().what;
  }
  Spill(folder / "text", "loss = 2");
  EXPECT_EQ(GoldenFile::Open(folder / "text").error().code, Code::kBadInput);
}

TEST_F(GoldenTest, ARunsOwnGoldenAgreesWithTheRun) {
  const std::vector<float> transposed = {1, 5, 2, 6, 3, 7, 4, 8};
  const std::vector<ComputedGradient> gradients = {{"block.w", DType::Float32, {2, 4}, {1, 2}, transposed.data()}};
  const GoldenTensor input{"ids", DType::Int64, {2, 4}, reinterpret_cast<const std::byte*>(ids.data())};
  ASSERT_TRUE(WriteGolden(folder / "own", {input}, 2, gradients, program).ok());
  auto golden = GoldenFile::Open(folder / "own");
  ASSERT_TRUE(golden.ok()) << golden.error().Format();
  EXPECT_TRUE(CheckGolden(*golden, program).ok());
  EXPECT_EQ(golden->tied(), std::vector<std::string>{"head.w"});
  auto result = CompareWithGolden(*golden, 2, gradients, program, 0);
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->passed());
  const std::byte* first = golden->gradients()[0].data;
  EXPECT_EQ(reinterpret_cast<const float*>(first)[1], 2) << "row-major in the file";
}

TEST(GoldenModels, OpenWhereTheyArePresent) {
  int opened = 0;
  for (const char* root : {AUTOSPC_SOURCE_DIR "/models", AUTOSPC_SOURCE_DIR "/../shared/zoo"}) {
    if (!std::filesystem::is_directory(root)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
      if (entry.path().filename().string().find(".golden_") == std::string::npos) continue;
      auto golden = GoldenFile::Open(entry.path().string());
      ASSERT_TRUE(golden.ok()) << golden.error().Format();
      EXPECT_GE(golden->inputs().size(), 2u) << entry.path();
      EXPECT_GE(golden->gradients().size(), 3u) << entry.path();
      EXPECT_GT(golden->loss(), 0) << entry.path();
      ++opened;
    }
  }
  EXPECT_GT(opened, 5);
}

}  // namespace
}  // namespace autospc
