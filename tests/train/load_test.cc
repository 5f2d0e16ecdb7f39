// Weights: from a seed, and which storages may be read where they lie.
#include "runtime/train/load.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/package/seeded_init.h"

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
  for (const char* name : {"p", "frozen", "mean", "x"}) {
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
}

}  // namespace
}  // namespace autospc::train
