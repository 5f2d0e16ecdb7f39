// Packages compiled for a GPU, run as a job runs them, on a device whose memory the host cannot reach (tests/exec/
// far_device.h): ranks as threads, whole steps against goldens, and training beside the same on the host.
#include <gtest/gtest.h>

#include "runtime/base/bytes.h"
#include "runtime/checkpoint/layout.h"
#include "runtime/package/safetensors.h"
#include "runtime/train/snapshot.h"
#include "runtime/train/weights_saver.h"
#include "tests/compiler/device_job.h"
#include "tests/exec/far_device.h"

namespace autospc::train {
namespace {

struct FarCase {
  std::string model;
  int ranks;
  int64_t seq_len;
  std::string strategy = "ulysses";
};
class FarDeviceTest : public testing::TestWithParam<FarCase> {};

TEST_P(FarDeviceTest, EveryGradientIsThatOfOneDevice) {
  const FarCase& c = GetParam();
  if (!std::filesystem::exists(ModelFile(c.model, ".pt2"))) GTEST_SKIP() << "no zoo beside this checkout";
  TempFolder folder;
  CompileOptions options = CudaOptions(c.model, c.ranks, c.seq_len);
  options.context.strategy = c.strategy;
  const auto package = CompileTo(folder / "package", options);
  ExpectGolden(c.model, c.seq_len, package, far::Install());
}

INSTANTIATE_TEST_SUITE_P(Zoo, FarDeviceTest,
                         testing::Values(FarCase{"nanogpt", 2, 61}, FarCase{"hf_llama", 3, 61}, FarCase{"hf_gpt2", 2, 64},
                                         FarCase{"hf_qwen3", 3, 61, "allgather-kv"}, FarCase{"hf_mistral", 2, 61},
                                         FarCase{"hf_gemma3", 2, 61}, FarCase{"hf_bert", 3, 61}, FarCase{"llamastyle", 2, 61}),
                         [](const auto& info) { return info.param.model; });
INSTANTIATE_TEST_SUITE_P(Models, FarDeviceTest,
                         testing::Values(FarCase{"llama", 1, 61}, FarCase{"llama", 2, 61}, FarCase{"llama", 3, 64},
                                         FarCase{"gpt", 2, 61}, FarCase{"gpt", 3, 61, "allgather-kv"}, FarCase{"window", 2, 61},
                                         FarCase{"encoder", 3, 61}, FarCase{"encoder", 2, 64}, FarCase{"padded", 2, 61},
                                         FarCase{"shifted", 3, 61}, FarCase{"frozen", 2, 61}),
                         [](const auto& info) {
                           return fmt::format("{}_P{}_S{}{}", info.param.model, info.param.ranks, info.param.seq_len,
                                              info.param.strategy == "ulysses" ? "" : "_gathered");
                         });

struct FarTrained {
  std::vector<double> losses, norms;
  double evaluated = 0;
  std::vector<std::byte> state;  // rank 0's part of a checkpoint
};

// A batch of ids below 40, the same on each rank.
void PutBatch(Rank* rank) {
  for (const data::InputView& input : rank->Inputs()) {
    int64_t n = 1;
    for (const int64_t s : input.sizes) n *= s;
    ASSERT_EQ(input.dtype, program::DType::Int64) << input.name;
    for (int64_t i = 0; i < n; ++i) static_cast<int64_t*>(input.data)[i] = i * 37 % 40;
  }
}

// Some steps of AdamW with clipping on one batch, with an evaluation amid them.
FarTrained TrainFar(const CompileOptions& options, double dropout, const std::string& path) {
  FarTrained trained;
  RunOptions run;
  run.weights.seed = 5;
  RunJob(CompileTo(path, options, dropout), far::Install(), run, [&](Rank* rank) -> Status {
    for (int step = 0; step < 5; ++step) {
      PutBatch(rank);
      if (step == 3) {
        ASSIGN_OR_RETURN(const double loss, rank->Evaluate());
        if (rank->first()) trained.evaluated = loss;
      }
      for (int64_t micro = 0; micro < rank->micro_batches(); ++micro) RETURN_IF_ERROR(rank->Step(1e-3));
      if (!rank->first()) continue;
      trained.losses.push_back(rank->capture().loss());
      trained.norms.push_back(rank->capture().grad_norm());
    }
    if (!rank->first()) return Ok();
    const checkpoint::Layout layout = checkpoint::MakeLayout(rank->program(), WrittenStorages(rank->program()));
    ASSIGN_OR_RETURN(Snapshot snapshot, Snapshot::Make(layout, &rank->executor()));
    snapshot.Take();
    trained.state.assign(snapshot.data(), snapshot.data() + snapshot.bytes());
    return Ok();
  });
  return trained;
}

// Beside the arena LibTorch's ops take masks, random numbers, sorted indices and results that they cannot write in place. The
// most are the random numbers of attention's dropout, which are made in pieces.
TEST(FarTrainingTest, WhatLiesBesideTheArenaIsBounded) {
  for (const int64_t length : {128, 512}) {
    TempFolder folder;
    CompileOptions options = CudaOptions("bytes", 1, length);
    options.bindings.batch = 1;
    options.context.optimizer = "adamw";
    RunOptions run;
    run.weights.seed = 5;
    RunJob(CompileTo(folder / "package", options, 0.2), far::Install(), run, [&](Rank* rank) -> Status {
      PutBatch(rank);
      RETURN_IF_ERROR(rank->Step(1e-3));
      far::Memory::Get().Reset();
      RETURN_IF_ERROR(rank->Step(1e-3));
      const int64_t beside = far::Memory::Get().Risen();
      fmt::print("at {} tokens: {} of arena, {} beside it\n", length, FormatBytes(rank->program().arena_bytes), FormatBytes(beside));
      EXPECT_LE(beside, 48 << 20);  // a piece is of 256 Ki numbers, of some 100 bytes while they are made
      return Ok();
    });
  }
}

int FirstParameter(const program::ProgramT& program) {
  int t = 0;
  while (program.storages[program.tensors[t]->storage]->kind != program::StorageKind::Parameter) ++t;
  return t;
}

// What leaves the device otherwise: the search for the first NaN, and the weights at the end.
TEST(FarTrainingTest, WhatIsSavedAndWhatIsFoundIsTheHosts) {
  for (const int zero : {0, 2}) {
    TempFolder folder;
    std::vector<std::string> saved;
    for (const char* device : {"cuda", "cpu"}) {
      CompileOptions options = CudaOptions("llama", 2, 61);
      options.device = device;
      options.context.optimizer = "adamw";
      options.context.zero = zero;
      options.context.dtype = "bf16";
      RunOptions run;
      run.see.check_numerics = true;
      saved.push_back(folder / (std::string(device) + "-weights"));
      RunJob(CompileTo(folder / device, options), far::Install(), run, [&](Rank* rank) -> Status {
        PutBatch(rank);
        RETURN_IF_ERROR(rank->Step(1e-3));
        ASSIGN_OR_RETURN(const auto saver, WeightsSaver::Make(saved.back(), int64_t{1} << 30, run.weights, &rank->executor(), &rank->communicator()));
        RETURN_IF_ERROR(saver->OnEnd());
        rank->executor().tensor(FirstParameter(rank->program())).fill_(NAN);
        const Status found = rank->Step(1e-3);
        EXPECT_FALSE(found.ok());
        if (!found.ok()) EXPECT_NE(found.error().what.find("before the step begins"), std::string::npos) << found.error().Format();
        return Ok();
      });
    }
    const auto far = SafetensorsFile::Open(saved[0] + "/model.safetensors"), host = SafetensorsFile::Open(saved[1] + "/model.safetensors");
    ASSERT_TRUE(far.ok() && host.ok());
    ASSERT_EQ(far->entries().size(), host->entries().size());
    for (const SafetensorsEntry& entry : host->entries()) {
      const SafetensorsEntry* other = far->Find(entry.name);
      ASSERT_NE(other, nullptr) << entry.name;
      ASSERT_EQ(entry.dtype, program::DType::Float32) << "masters are saved";
      const auto* a = reinterpret_cast<const float*>(host->data(entry));
      const auto* b = reinterpret_cast<const float*>(far->data(*other));
      // AdamW's first step moves each weight by the learning rate, whichever way its gradient points.
      for (int64_t i = 0; i < entry.bytes / 4; ++i) ASSERT_NEAR(a[i], b[i], 2.1e-3) << entry.name << " at " << i;
    }
  }
}

TEST(FarTrainingTest, StepsAreTheHosts) {
  for (const auto& [model, ranks, zero, dtype, micro_batches, dropout] :
       {std::tuple{"llama", 2, 0, "", 1, 0.0}, {"gpt", 3, 2, "", 1, 0.0}, {"llama", 2, 1, "bf16", 1, 0.0}, {"llama", 1, 0, "", 1, 0.0},
        {"bytes", 2, 0, "", 1, 0.2}, {"bytes", 3, 0, "", 2, 0.1}, {"gpt", 2, 0, "", 3, 0.0}, {"llama", 2, 2, "bf16", 2, 0.0}}) {
    SCOPED_TRACE(fmt::format("{}, {} ranks, ZeRO {}, {}, {} micro-batches, dropout {}", model, ranks, zero, dtype, micro_batches, dropout));
    TempFolder folder;
    CompileOptions options = CudaOptions(model, ranks, 61);
    if (model == std::string_view("bytes")) options.bindings.batch = 2;
    options.context.micro_batches = micro_batches;
    options.context.optimizer = "adamw";
    options.context.clip_norm = 1;
    options.context.zero = zero;
    options.context.dtype = dtype;
    const FarTrained far = TrainFar(options, dropout, folder / "far");
    options.device = "cpu";
    const FarTrained host = TrainFar(options, dropout, folder / "host");
    ASSERT_FALSE(host.losses.empty());
    ASSERT_EQ(far.losses.size(), host.losses.size());
    // bfloat16's products are rounded to 8 bits, in whatever order their sums were taken.
    const double tolerance = *dtype != '\0' ? 1e-2 : 2e-5;
    for (size_t i = 0; i < host.losses.size(); ++i) {
      EXPECT_NEAR(far.losses[i], host.losses[i], tolerance * host.losses[i]) << "step " << i;
      EXPECT_NEAR(far.norms[i], host.norms[i], 10 * tolerance * host.norms[i]) << "step " << i;
    }
    EXPECT_LT(far.losses.back(), far.losses.front());
    EXPECT_NEAR(far.evaluated, host.evaluated, tolerance * host.evaluated);
    ASSERT_EQ(far.state.size(), host.state.size());
    EXPECT_FALSE(far.state.empty());
  }
}

}  // namespace
}  // namespace autospc::train
