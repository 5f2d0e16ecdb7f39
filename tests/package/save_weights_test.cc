// Weights out: one file or shards with their index, read back as a Hugging Face checkpoint.
#include "runtime/package/save_weights.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "runtime/package/checkpoint.h"
#include "tests/package/temp_folder.h"

namespace autospc {
namespace {

namespace fs = std::filesystem;
using program::DType;

const std::vector<float> kRamp = [] {
  std::vector<float> ramp(64);
  for (size_t i = 0; i < ramp.size(); ++i) ramp[i] = static_cast<float>(i);
  return ramp;
}();

TensorToWrite T(const std::string& name, int64_t n) { return {name, DType::Float32, {n}, kRamp.data(), nullptr}; }

TEST(SaveWeights, OneFile) {
  TempFolder folder;
  Spill(folder / "config.json", "{}");
  SaveWeightsOptions options;
  options.ties = {{"head", "embed"}};
  options.copies = {folder / "config.json"};
  const Status saved = SaveWeights(folder / "out", {T("embed", 8), T("b", 3)}, options);
  ASSERT_TRUE(saved.ok()) << saved.error().Format();
  EXPECT_EQ(folder.Names(), (std::vector<std::string>{"config.json", "out"})) << "nothing temporary is left";
  EXPECT_EQ(Slurp(folder / "out/config.json"), "{}");
  EXPECT_FALSE(fs::exists(folder / "out/model.safetensors.index.json"));
  const auto file = SafetensorsFile::Open(folder / "out/model.safetensors");
  ASSERT_TRUE(file.ok()) << file.error().Format();
  EXPECT_EQ(file->metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"head", "embed"}}));
  const auto read = Checkpoint::Open(folder / "out");
  ASSERT_TRUE(read.ok());
  EXPECT_TRUE(read->Resolve({{"embed", DType::Float32, {8}}, {"b", DType::Float32, {3}}}).ok());
}

TEST(SaveWeights, ShardsAreFilledInOrderAndALargeTensorHasItsOwn) {
  TempFolder folder;
  SaveWeightsOptions options;
  options.max_shard_bytes = 64;
  ASSERT_TRUE(SaveWeights(folder / "out", {T("a", 8), T("b", 8), T("c", 1), T("d", 40), T("e", 1)}, options).ok());
  const auto index = nlohmann::json::parse(Slurp(folder / "out/model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 4 * (8 + 8 + 1 + 40 + 1));
  const auto shard = [&](const char* name) { return index["weight_map"][name].get<std::string>(); };
  EXPECT_EQ(shard("a"), "model-00001-of-00004.safetensors");
  EXPECT_EQ(shard("b"), shard("a"));
  EXPECT_EQ(shard("c"), "model-00002-of-00004.safetensors");
  EXPECT_EQ(shard("d"), "model-00003-of-00004.safetensors");
  EXPECT_EQ(shard("e"), "model-00004-of-00004.safetensors");
  const auto read = Checkpoint::Open(folder / "out");
  ASSERT_TRUE(read.ok()) << read.error().Format();
  EXPECT_EQ(read->size(), 5u);
}

TEST(SaveWeights, RefusesWhatExistsAndLeavesNothingOnErrors) {
  TempFolder folder;
  fs::create_directory(folder / "full");
  Spill(folder / "full/mine", "x");
  fs::create_directory(folder / "empty");
  Spill(folder / "file", "x");
  for (const char* path : {"full", "full/", "file", "nowhere/out"}) {
    const Status refused = CheckSavePath(folder / path);
    ASSERT_FALSE(refused.ok()) << path;
    EXPECT_EQ(refused.error().code, Code::kUsage) << path;
    EXPECT_FALSE(SaveWeights(folder / path, {T("a", 1)}, {}).ok()) << path;
  }
  EXPECT_TRUE(CheckSavePath(folder / "empty").ok());
  EXPECT_TRUE(SaveWeights(folder / "empty", {T("a", 1)}, {}).ok()) << "an empty folder is taken";
  TensorToWrite bad = T("a", 1);
  bad.produce = [](const ByteSink&) -> Status { return Error{Code::kFailed, "no data", "", ""}; };
  EXPECT_FALSE(SaveWeights(folder / "new", {bad}, {}).ok());
  EXPECT_FALSE(SaveWeights(folder / "new", {T("a", 1), T("a", 2)}, {}).ok()) << "a name twice";
  EXPECT_EQ(folder.Names(), (std::vector<std::string>{"empty", "file", "full"}));
}

// Ranks that only take part call the same producers in the same order.
TEST(SaveWeights, WithoutWritingProducesInTheSameOrder) {
  TempFolder folder;
  std::vector<std::string> order[2];
  for (const bool write : {true, false}) {
    std::vector<TensorToWrite> tensors;
    for (const auto& [name, n] : {std::pair{"z", 16}, {"y", 3}, {"x", 32}, {"w", 5}}) {
      TensorToWrite t = T(name, n);
      t.data = nullptr;
      t.produce = [&order, write, t](const ByteSink& sink) {
        order[write].push_back(t.name);
        return sink(kRamp.data(), 4 * t.sizes[0]);
      };
      tensors.push_back(t);
    }
    SaveWeightsOptions options;
    options.max_shard_bytes = 80;
    options.write = write;
    ASSERT_TRUE(SaveWeights(folder / "out", tensors, options).ok());
  }
  EXPECT_EQ(order[0], order[1]);
  EXPECT_EQ(order[0].size(), 4u);
}

}  // namespace
}  // namespace autospc
