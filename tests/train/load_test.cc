// Weights: from a seed, which storages may be read where they lie, and masters of 16-bit parameters.
#include "runtime/train/load.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "runtime/base/sha256.h"
#include "runtime/package/seeded_init.h"
#include "tests/exec/programs.h"
#include "tests/package/temp_folder.h"

namespace autospc::train {
namespace {

using program::DType;
using program::StorageKind;

std::vector<float> Seeded(uint64_t seed, const char* name, std::vector<int64_t> sizes,
                          StorageKind kind = StorageKind::Parameter) {
  int64_t n = 1;
  for (int64_t s : sizes) n *= s;
  std::vector<float> out(n, -9);
  const Status status = FillSeeded(seed, kind, name, DType::Float32, sizes, out.data());
  EXPECT_TRUE(status.ok());
  return out;
}

TEST(SeededInitTest, MatricesAreNormalAndDependOnSeedAndName) {
  const auto w = Seeded(7, "a.weight", {300, 200});
  double sum = 0, square = 0, fourth = 0;
  for (float v : w) sum += v, square += v * v, fourth += std::pow(v, 4.0);
  const double n = static_cast<double>(w.size()), var = square / n;
  EXPECT_NEAR(sum / n, 0, 5 * 0.02 / std::sqrt(n));  // five standard errors
  EXPECT_NEAR(std::sqrt(var), 0.02, 5 * 0.02 / std::sqrt(2 * n));
  EXPECT_NEAR(fourth / n / (var * var), 3, 5 * std::sqrt(24 / n));  // a normal's kurtosis
  EXPECT_EQ(w, Seeded(7, "a.weight", {300, 200}));
  EXPECT_NE(w, Seeded(8, "a.weight", {300, 200}));
  EXPECT_NE(w, Seeded(7, "b.weight", {300, 200}));
}

TEST(SeededInitTest, VectorsAndBuffersByName) {
  EXPECT_EQ(Seeded(7, "norm.weight", {2}), (std::vector<float>{1, 1}));
  EXPECT_EQ(Seeded(7, "norm.bias", {2}), (std::vector<float>{0, 0}));
  EXPECT_EQ(Seeded(7, "bn.running_var", {2}, StorageKind::Buffer), (std::vector<float>{1, 1}));
  EXPECT_EQ(Seeded(7, "bn.running_mean", {2, 2}, StorageKind::Buffer), (std::vector<float>{0, 0, 0, 0}));
  int64_t count = 5;
  EXPECT_TRUE(FillSeeded(7, StorageKind::Buffer, "bn.num_batches_tracked", DType::Int64, {}, &count).ok());
  EXPECT_EQ(count, 0);
  const Status guess = FillSeeded(7, StorageKind::Buffer, "position_ids", DType::Int64, {}, &count);
  ASSERT_FALSE(guess.ok());
  EXPECT_NE(guess.error().what.find("position_ids"), std::string::npos);
}

TEST(WrittenStoragesTest, OperandsOfWritingOpsResultsAndUpdates) {
  program::ProgramT p;
  for (const char* name : {"p", "frozen", "mean", "x", "out"}) {
    auto s = std::make_unique<program::StorageT>();
    s->name = name;
    s->kind = StorageKind::Parameter;
    s->arena_offset = name[0] == 'x' ? 0 : -1;
    auto t = std::make_unique<program::TensorT>();
    t->storage = static_cast<int>(p.storages.size());
    p.storages.push_back(std::move(s));
    p.tensors.push_back(std::move(t));
  }
  const auto add = [&](const char* op, int operand, std::vector<int> outputs) {
    auto ins = std::make_unique<program::InstructionT>();
    ins->op = op;
    ins->args.push_back(std::make_unique<program::ArgT>());
    ins->args[0]->kind = program::ArgKind::Tensor;
    ins->args[0]->tensor = operand;
    ins->outputs = outputs;
    p.instructions.push_back(std::move(ins));
  };
  add("aten.exp.default", 1, {3});
  add("autosp.sgd_", 0, {});
  // By what the schema says: the third argument of add.out is written to.
  add("aten.add.out", 1, {});
  for (const auto& [kind, tensor] : {std::pair(program::ArgKind::Tensor, 1), {program::ArgKind::Int, -1}, {program::ArgKind::Tensor, 4}}) {
    p.instructions.back()->args.push_back(std::make_unique<program::ArgT>());
    p.instructions.back()->args.back()->kind = kind;
    p.instructions.back()->args.back()->tensor = tensor;
  }
  auto update = std::make_unique<program::OutputT>();
  update->kind = program::OutputKind::BufferUpdate;
  update->name = "mean";
  update->tensor = 3;
  p.outputs.push_back(std::move(update));
  const std::map<int, bool> written = WrittenStorages(p);
  EXPECT_EQ(written.count(0), 1u);
  EXPECT_EQ(written.count(1), 0u);
  EXPECT_EQ(written.count(2), 1u);
  EXPECT_EQ(written.count(3), 1u);
  EXPECT_EQ(written.count(4), 1u);
}

// A program whose first tensor of a parameter has more elements than its data: what is behind the data is not read.
TEST(LoadWeightsTest, DataShorterThanItsTensor) {
  TempFolder folder;
  exec::ProgramBuilder b;
  const int w = b.Tensor(at::kDouble, {2}, {}, StorageKind::Parameter, "w");
  b.Add("aten.mul_.Scalar", {b.T(w), b.F(2)}, {});
  b.program().format_version = kFormatVersion;
  b.program().device = "cpu";
  const std::vector<double> data = {1, 2};
  Spill(folder / "w.bin", std::string(reinterpret_cast<const char*>(data.data()), 16));
  PackageContents contents;
  contents.weights.push_back({"w", DType::Float64, {2}, {1}, folder / "w.bin", 0, 16});
  ASSERT_TRUE(WritePackage(b.program(), contents, folder / "p").ok());
  // The weights of that package under a program that reads them byte by byte, all but one.
  b.program().tensors[0]->dtype = DType::Int8;
  b.program().tensors[0]->sizes = {15};
  ASSERT_TRUE(WritePackage(b.program(), {}, folder / "q").ok());
  auto good = Package::Open(folder / "p"), bad = Package::Open(folder / "q");
  ASSERT_TRUE(good.ok() && bad.ok());
  for (const Blob& blob : good->blobs()) {
    if (blob.type != kWeightsType) continue;
    const std::string hex = blob.digest.substr(blob.digest.find(':') + 1);
    std::filesystem::copy_file(folder / "p" + "/blobs/sha256/" + hex, folder / "q" + "/blobs/sha256/" + hex);
    // Its manifest with a layer more.
    const std::string index_path = folder / "q" + "/index.json";
    auto index = nlohmann::json::parse(Slurp(index_path));
    const std::string old = index["manifests"][0]["digest"].get<std::string>().substr(7);
    auto manifest = nlohmann::json::parse(Slurp(folder / "q" + "/blobs/sha256/" + old));
    manifest["layers"].push_back({{"mediaType", blob.type}, {"digest", blob.digest}, {"size", blob.bytes}});
    const std::string text = manifest.dump();
    Spill(folder / "q" + "/blobs/sha256/" + Sha256Hex(text), text);
    index["manifests"][0]["digest"] = "sha256:" + Sha256Hex(text);
    index["manifests"][0]["size"] = text.size();
    Spill(index_path, index.dump());
  }
  bad = Package::Open(folder / "q");
  ASSERT_TRUE(bad.ok()) << bad.error().Format();
  const Status checked = CheckWeights(*bad, {});
  ASSERT_FALSE(checked.ok());
  EXPECT_EQ(checked.error().code, Code::kBadInput);
  EXPECT_NE(checked.error().what.find("does not fit its storage"), std::string::npos) << checked.error().Format();
}

// A package of one bfloat16 parameter of 5 elements under an optimiser: its float32 master, whole or (ZeRO) in blocks
// of 3 a rank, and a moment. `data`: the parameter's in the package, of `type`.
Package MasterPackage(const TempFolder& folder, int ranks, bool blocks, DType type, const void* data, int64_t bytes) {
  exec::ProgramBuilder b(ranks);
  const int w = b.Tensor(at::kBFloat16, {5}, {}, StorageKind::Parameter, "w");
  const int master = b.Tensor(at::kFloat, {blocks ? 3 : 5}, {}, StorageKind::Optimizer, "w.master");
  b.Tensor(at::kFloat, {5}, {}, StorageKind::Optimizer, "w.exp_avg");
  const int g = b.Tensor(at::kBFloat16, {blocks ? 3 : 5}, {}, StorageKind::Gradient),
            lr = b.Tensor(at::kDouble, {}, {}, StorageKind::Input, "lr");
  b.Add(blocks ? "autosp.sgd_shard_" : "autosp.sgd_", {b.T(w), b.T(master), b.T(g), b.None(), b.T(lr), b.F(0)}, {});
  if (blocks) b.program().tensors[master]->block_of = 5;
  b.program().format_version = kFormatVersion;
  b.program().name = "bfloat16";
  b.program().device = "cpu";
  PackageContents contents;
  const std::string file = folder / "w.bin";
  std::ofstream(file, std::ios::binary)
      .write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
  contents.weights.push_back({"w", type, {5}, {1}, file, 0, static_cast<uint64_t>(bytes)});
  const std::string path = folder / (blocks ? "blocks" : "whole");
  const Status written = WritePackage(b.program(), contents, path);
  if (!written.ok()) throw std::runtime_error(written.error().Format());
  auto package = Package::Open(path);
  if (!package.ok()) throw std::runtime_error(package.error().Format());
  return std::move(package).value();
}

Package Bfloat16Package(const TempFolder& folder, int ranks, bool blocks, const std::vector<uint16_t>& data) {
  return MasterPackage(folder, ranks, blocks, DType::BFloat16, data.data(), static_cast<int64_t>(data.size() * 2));
}

std::vector<float> Floats(const at::Tensor& t) {
  const at::Tensor wide = t.to(at::kFloat).contiguous();
  return {wide.const_data_ptr<float>(), wide.const_data_ptr<float>() + wide.numel()};
}

// 1.0, -2.5, 3.140625, 2^-20, 0 in bfloat16.
const std::vector<uint16_t> kBfloat16 = {0x3f80, 0xc020, 0x4049, 0x3580, 0x0000};
const std::vector<float> kWide = {1, -2.5, 3.140625, 9.5367431640625e-07f, 0};

TEST(LoadWeightsTest, FloatMastersOfBfloat16ParametersBeginAsTheirParameters) {
  TempFolder folder;
  const Package package = Bfloat16Package(folder, 1, false, kBfloat16);
  const auto program = std::make_shared<program::ProgramT>(package.program());
  auto executor = exec::Executor::Create(program, {});
  ASSERT_TRUE(executor.ok()) << executor.error().Format();
  (*executor)->tensor(1).fill_(-7);
  const Status loaded = LoadWeights(package, {}, executor->get());
  ASSERT_TRUE(loaded.ok()) << loaded.error().Format();
  EXPECT_EQ(Floats((*executor)->tensor(1)), kWide);
  EXPECT_EQ(Floats((*executor)->tensor(2)), std::vector<float>(5, 0)) << "other states begin as zeros";
}

// As from the package, so from a seed: the parameter is the master, rounded once.
TEST(LoadWeightsTest, FloatMastersBeginAsSeededParameters) {
  TempFolder folder;
  const Package package = Bfloat16Package(folder, 1, false, kBfloat16);
  const auto program = std::make_shared<program::ProgramT>(package.program());
  auto executor = exec::Executor::Create(program, {});
  ASSERT_TRUE(executor.ok()) << executor.error().Format();
  (*executor)->tensor(1).fill_(-7);
  WeightOptions seeded;
  seeded.seed = 3;
  const Status loaded = LoadWeights(package, seeded, executor->get());
  ASSERT_TRUE(loaded.ok()) << loaded.error().Format();
  EXPECT_EQ(Floats((*executor)->tensor(1).to(at::kBFloat16)), Floats((*executor)->tensor(0)));
  EXPECT_NE(Floats((*executor)->tensor(1)), kWide);
}

// Weights that come in float32 (a float32 export compiled with --dtype bf16) keep all their bits in the master.
TEST(LoadWeightsTest, AFloatMasterBeginsAsTheFloatWeightsItComesFrom) {
  const std::vector<float> data = {0.1f, -2.7f, 3.14159f, 1e-7f, 0};
  for (const bool blocks : {false, true}) {
    TempFolder folder;
    const Package package = MasterPackage(folder, blocks ? 2 : 1, blocks, DType::Float32, data.data(), 20);
    const auto program = std::make_shared<program::ProgramT>(package.program());
    const auto communicators = MakeInProcessCommunicators(2);
    exec::ExecutorOptions options;
    options.rank = blocks ? 1 : 0;
    if (blocks) options.communicator = communicators[1].get();
    auto executor = exec::Executor::Create(program, options);
    ASSERT_TRUE(executor.ok()) << executor.error().Format();
    const Status loaded = LoadWeights(package, {}, executor->get());
    ASSERT_TRUE(loaded.ok()) << loaded.error().Format();
    EXPECT_EQ(Floats((*executor)->tensor(1)), blocks ? std::vector<float>({data[3], data[4], 0}) : data);
    EXPECT_EQ(Floats((*executor)->tensor(0))[0], 0.10009765625f) << "0.1 in bfloat16";
  }
}

TEST(LoadWeightsTest, EachRanksBlockOfAMasterBeginsAsItsPartOfTheParameter) {
  TempFolder folder;
  const Package package = Bfloat16Package(folder, 2, true, kBfloat16);
  const auto program = std::make_shared<program::ProgramT>(package.program());
  const auto communicators = MakeInProcessCommunicators(2);
  for (int rank : {0, 1}) {
    exec::ExecutorOptions options;
    options.rank = rank;
    options.communicator = communicators[rank].get();
    auto executor = exec::Executor::Create(program, options);
    ASSERT_TRUE(executor.ok()) << executor.error().Format();
    const Status loaded = LoadWeights(package, {}, executor->get());
    ASSERT_TRUE(loaded.ok()) << loaded.error().Format();
    EXPECT_EQ(Floats((*executor)->tensor(1)),
              rank == 0 ? std::vector<float>({1, -2.5, 3.140625}) : std::vector<float>({kWide[3], 0, 0}));
  }
}

}  // namespace
}  // namespace autospc::train
