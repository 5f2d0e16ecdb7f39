// Packages compiled and run as a job does it, with the ranks as threads, on any device that LibTorch knows.
#pragma once

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

#include "compiler/driver.h"
#include "runtime/dist/in_process.h"
#include "runtime/train/compare.h"
#include "runtime/train/rank.h"
#include "tests/package/temp_folder.h"

namespace autospc::train {

// Of models/, or of the zoo beside the checkout, which need not be there.
inline std::string ModelFile(const std::string& name, const std::string& suffix) {
  const std::filesystem::path source = AUTOSPC_SOURCE_DIR;
  const bool own = std::filesystem::exists(source / "models" / name);
  return ((own ? source / "models" : source.parent_path() / "shared" / "zoo") / name / (name + suffix)).string();
}

// Of a package for a GPU.
inline CompileOptions CudaOptions(const std::string& model, int ranks, int64_t seq_len) {
  CompileOptions options;
  options.model = ModelFile(model, ".pt2");
  options.device = "cuda";
  options.bindings.seq_len = seq_len;
  options.context.ranks = ranks;
  return options;
}

// `dropout` > 0: of every place where the model may drop out.
inline std::shared_ptr<const Package> CompileTo(const std::string& path, const CompileOptions& options, double dropout = 0) {
  Result<import::Model> model = ImportModel(options);
  EXPECT_TRUE(model.ok()) << model.error().Format();
  if (!model.ok()) return nullptr;
  int places = 0;
  for (const ir::NodeId id : model->graph.nodes()) {
    ir::Node& node = model->graph.node(id);
    const size_t at = node.op == "aten.dropout.default" ? 1 : node.op == "aten.scaled_dot_product_attention.default" ? 4 : 0;
    if (dropout == 0 || at == 0) continue;
    node.args[at] = ir::Arg::Float(dropout);
    ++places;
  }
  EXPECT_TRUE(dropout == 0 || places > 0);
  const Result<Compiled> compiled = CompileModel(*model, options);
  EXPECT_TRUE(compiled.ok()) << compiled.error().Format();
  if (!compiled.ok()) return nullptr;
  EXPECT_EQ(compiled->program.device, options.device);
  const Status written = WriteCompiled(*compiled, path, false);
  EXPECT_TRUE(written.ok()) << written.error().Format();
  Result<Package> package = Package::Open(path);
  EXPECT_TRUE(package.ok()) << package.error().Format();
  return package.ok() ? std::make_shared<const Package>(std::move(package).value()) : nullptr;
}

// Loads the package's ranks as threads, on `device` where it is compiled for a GPU, and calls run(rank) on each.
template <typename Run>
void RunJob(const std::shared_ptr<const Package>& package, c10::Device device, const RunOptions& options, const Run& run) {
  ASSERT_NE(package, nullptr);
  const int ranks = package->program().world_size;
  const bool elsewhere = package->program().device != "cpu";
  auto hosts = MakeInProcessCommunicators(ranks);
  std::vector<std::unique_ptr<Communicator>> devices;
  if (elsewhere) devices = MakeInProcessCommunicators(ranks, device);
  std::vector<std::unique_ptr<Meeting>> meetings;
  for (int r = 0; r < ranks; ++r) {
    meetings.push_back(std::make_unique<Meeting>(nullptr, std::move(hosts[r])));
    if (elsewhere) meetings.back()->UseDevice(std::move(devices[r]));
  }
  std::vector<Status> results(ranks, Ok());
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      at::set_num_threads(1);
      auto rank = Rank::Load(options, package, *meetings[r], nullptr, /*gradients=*/true);
      results[r] = rank.ok() ? run(rank->get()) : Status(rank.error());
      if (results[r].ok()) return;
      meetings[r]->host->Abort();
      if (elsewhere) meetings[r]->device->Abort();
    });
  }
  for (std::thread& t : threads) t.join();
  for (const Status& status : results) EXPECT_TRUE(status.ok()) << status.error().Format();
}

inline Status TakeBatch(const GoldenFile& golden, Rank* rank) {
  GoldenBatch batch(golden, rank->program());
  const auto taken = batch.Next(rank->Inputs());
  return taken.ok() ? Ok() : Status(taken.error());
}

// The error of every gradient of a model's golden file, at most 1e-5 as in the end-to-end tests: P ranks on `device` against
// one device in float64.
inline void ExpectGolden(const std::string& model, int64_t seq_len, const std::shared_ptr<const Package>& package, c10::Device device) {
  const auto golden = GoldenFile::Open(ModelFile(model, fmt::format(".golden_s{}.safetensors", seq_len)));
  ASSERT_TRUE(golden.ok()) << golden.error().Format();
  RunJob(package, device, {}, [&](Rank* rank) -> Status {
    RETURN_IF_ERROR(TakeBatch(*golden, rank));
    RETURN_IF_ERROR(rank->Step(0.1));
    if (!rank->first()) return Ok();
    const Capture& capture = rank->capture();
    ASSIGN_OR_RETURN(const GoldenComparison compared,
                     CompareWithGolden(*golden, capture.loss(), capture.gradients(), rank->program(), 1e-5));
    EXPECT_TRUE(compared.passed()) << compared.Table();
    return Ok();
  });
}

}  // namespace autospc::train
