// What was trained, saved: names as the checkpoint has them, types as exported, also where ranks hold blocks.
#include "runtime/train/weights_saver.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "runtime/package/checkpoint.h"
#include "runtime/package/weights.h"
#include "tests/package/temp_folder.h"
#include "tests/train/training_state.h"

namespace autospc::train {
namespace {

using program::DType;

// Three updates on `ranks`, then the weights saved; the wanted tensors as rank 0 has them at the end.
struct Saved {
  int ranks = 1;
  bool blocks = false;
  std::vector<Parameter> parameters = TwoParameters();
  WeightOptions weights;
  std::vector<std::string> aliases = {};
  std::string options = {};
  std::map<std::string, std::vector<float>> now = {};

  Status To(const std::string& path, int64_t max_shard = 1 << 20) {
    ProgramBuilder builder = UpdateProgram(ranks, blocks, parameters);
    builder.program().aliases = aliases;
    builder.program().options = options;
    return OnRanks(builder, ranks, [&](Executor& e, Communicator* communicator) -> Status {
      Begin(e);
      ASSIGN_OR_RETURN(const auto saver, WeightsSaver::Make(path, max_shard, weights, &e, communicator));
      for (int i = 0; i < 3; ++i) RETURN_IF_ERROR(UpdateOnce(e));
      if (communicator->rank() == 0) {
        for (const Parameter& p : parameters) {
          const at::Tensor wide = Named(e, p.name).to(at::kFloat).contiguous();
          now[p.name] = {wide.const_data_ptr<float>(), wide.const_data_ptr<float>() + wide.numel()};
        }
      }
      return saver->OnEnd();
    });
  }
};

std::vector<float> Read(const std::string& path, const std::string& name, std::vector<int64_t> sizes, DType expected) {
  const auto checkpoint = Checkpoint::Open(path);
  if (!checkpoint.ok()) {
    ADD_FAILURE() << checkpoint.error().Format();
    return {};
  }
  const auto it = checkpoint->tensors().find(name);
  if (it == checkpoint->tensors().end()) {
    ADD_FAILURE() << "no " << name;
    return {};
  }
  EXPECT_EQ(it->second.dtype, expected) << name;
  EXPECT_EQ(it->second.sizes, sizes);
  std::vector<float> values(static_cast<size_t>(*CheckedNumel(it->second.sizes)));
  EXPECT_TRUE(ReadWeight(it->second, DType::Float32, values.data()).ok());
  return values;
}

TEST(WeightsSaverTest, UnderTheModelsOwnNames) {
  for (const int ranks : {1, 3}) {
    TempFolder folder;
    Saved run{.ranks = ranks, .blocks = ranks > 1, .aliases = {"head", "w"}};
    const Status saved = run.To(folder / "out");
    ASSERT_TRUE(saved.ok()) << saved.error().Format();
    EXPECT_EQ(Read(folder / "out", "w", {7, 33}, DType::Float32), run.now["w"]);
    EXPECT_EQ(Read(folder / "out", "b", {5}, DType::Float32), run.now["b"]);
    const auto file = SafetensorsFile::Open(folder / "out/model.safetensors");
    ASSERT_TRUE(file.ok());
    EXPECT_EQ(file->entries().size(), 2u) << "parameters, no states";
    EXPECT_EQ(file->metadata().at("head"), "w") << "as safetensors' save_model says it of a tie";
  }
}

TEST(WeightsSaverTest, UnderTheNamesOfTheCheckpointGivenToTheCompiler) {
  TempFolder folder;
  Saved run{.ranks = 2, .aliases = {"c", "b"},
            .options = R"({"checkpoint_names":[["w","model.w"],["b","model.b"],["b","tied.b"]]})"};
  ASSERT_TRUE(run.To(folder / "out", 100).ok());
  EXPECT_EQ(Read(folder / "out", "model.w", {7, 33}, DType::Float32), run.now["w"]);
  EXPECT_EQ(Read(folder / "out", "model.b", {5}, DType::Float32), run.now["b"]);
  EXPECT_EQ(Read(folder / "out", "tied.b", {5}, DType::Float32), run.now["b"]) << "both of a tie, as there";
  EXPECT_EQ(Checkpoint::Open(folder / "out")->size(), 3u);
  EXPECT_TRUE(std::filesystem::exists(folder / "out/model.safetensors.index.json")) << "100 bytes a shard";
}

TEST(WeightsSaverTest, UnderTheNamesOfTheRunsCheckpointWithWhatElseItHolds) {
  TempFolder folder;
  std::filesystem::create_directory(folder / "hf");
  const std::vector<float> zeros(7 * 33), ones(2, 1.0f);
  ASSERT_TRUE(WriteSafetensors(folder / "hf/model.safetensors", {{"model.w", DType::Float32, {7, 33}, zeros.data(), nullptr},
                                                               {"model.b", DType::Float32, {5}, zeros.data(), nullptr},
                                                               {"vision.w", DType::Float32, {2}, ones.data(), nullptr}}).ok());
  Spill(folder / "hf/config.json", "{\"a\": 1}");
  Spill(folder / "hf/tokenizer.json", "{}");
  Spill(folder / "hf/notes.md", "no");
  Saved run{.ranks = 2};
  run.weights.weights = folder / "hf";
  const Status saved = run.To(folder / "out");
  ASSERT_TRUE(saved.ok()) << saved.error().Format();
  EXPECT_EQ(Read(folder / "out", "model.w", {7, 33}, DType::Float32), run.now["w"]);
  EXPECT_EQ(Read(folder / "out", "vision.w", {2}, DType::Float32), ones);
  EXPECT_EQ(Slurp(folder / "out/config.json"), "{\"a\": 1}");
  EXPECT_TRUE(std::filesystem::exists(folder / "out/tokenizer.json"));
  EXPECT_FALSE(std::filesystem::exists(folder / "out/notes.md"));
}

// A bfloat16 export is saved as that; a float32 one that was compiled with --dtype bf16 from its masters.
TEST(WeightsSaverTest, OfTheTypeOfTheExport) {
  TempFolder folder;
  const auto narrow = TwoParameters(at::kBFloat16);
  Saved exported{.ranks = 1, .parameters = narrow};
  ASSERT_TRUE(exported.To(folder / "bf16").ok());
  EXPECT_EQ(Read(folder / "bf16", "w", {7, 33}, DType::BFloat16), exported.now["w"]);
  std::vector<float> masters;
  for (const auto& [ranks, blocks] : {std::pair{1, false}, {3, true}}) {
    Saved narrowed{.ranks = ranks, .blocks = blocks, .parameters = narrow, .options = R"({"dtype":"bf16"})"};
    const std::string path = folder / fmt::format("master{}", ranks);
    const Status saved = narrowed.To(path);
    ASSERT_TRUE(saved.ok()) << saved.error().Format();
    const std::vector<float> w = Read(path, "w", {7, 33}, DType::Float32);
    EXPECT_NE(w, narrowed.now["w"]);
    for (size_t i = 0; i < w.size(); ++i) ASSERT_NEAR(w[i], narrowed.now["w"][i], 0x1p-8f * std::abs(w[i])) << "its rounding";
    if (masters.empty()) masters = w;
    EXPECT_EQ(w, masters) << "gathered from blocks or not";
  }
}

TEST(WeightsSaverTest, NotWhereTheRunWasStopped) {
  TempFolder folder;
  const ProgramBuilder builder = UpdateProgram(1, false, TwoParameters());
  const Status done = OnRanks(builder, 1, [&](Executor& e, Communicator* communicator) -> Status {
    ASSIGN_OR_RETURN(const auto saver, WeightsSaver::Make(folder / "out", 1 << 20, {}, &e, communicator));
    saver->set_unless([] { return true; });
    return saver->OnEnd();
  });
  EXPECT_TRUE(done.ok());
  EXPECT_TRUE(folder.Names().empty());
}

}  // namespace
}  // namespace autospc::train
