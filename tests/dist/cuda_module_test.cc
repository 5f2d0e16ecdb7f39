// --device cuda on machines that lack something of it: each lack has its name and its remedy. The fakes stand for what
// a machine without a GPU can't have.
#include "runtime/dist/cuda_module.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "runtime/dist/gpu_driver.h"
#include "runtime/dist/in_process.h"
#include "runtime/dist/rendezvous.h"
#include "tests/package/temp_folder.h"

namespace autospc {
namespace {

namespace fs = std::filesystem;

std::string Fake(const std::string& name) { return AUTOSPC_BIN_DIR "/../lib/fakes/lib" + name + ".so"; }

template <typename T>
void ExpectUsage(const Result<T>& result, const std::string& says) {
  ASSERT_FALSE(result.ok());
  const Error& error = result.error();
  EXPECT_EQ(error.code, Code::kUsage);
  EXPECT_NE(error.Format().find(says), std::string::npos) << error.Format();
  EXPECT_NE(error.hint, "") << error.Format();
}

TEST(CudaModuleTest, IsFoundRelativeToTheProgram) {
  TempFolder folder;
  fs::create_directories(folder / "bin");
  fs::create_directories(folder / "lib");
  ExpectUsage(FindCudaModule(folder / "bin"), "built without CUDA");
  Spill(folder / "bin/libautosp_cuda.so", "");
  EXPECT_EQ(*FindCudaModule(folder / "bin"), folder / "bin/libautosp_cuda.so");
  Spill(folder / "lib/libautosp_cuda.so", "");
  EXPECT_EQ(*FindCudaModule(folder / "bin"), folder / "lib/libautosp_cuda.so");
}

TEST(CudaModuleTest, WhatCantBeLoadedIsNamed) {
  TempFolder folder;
  Spill(folder / "text.so", "no library");
  ExpectUsage(LoadCudaModule(folder / "text.so"), "can't be loaded");
  ExpectUsage(LoadCudaModule(folder / "absent.so"), "can't be loaded");
  ExpectUsage(LoadCudaModule(Fake("fake_user")), "libfake_absent.so is missing");
  ExpectUsage(LoadCudaModule(Fake("fake_driver")), "it has no autosp_cuda_module");
  ExpectUsage(LoadCudaModule(Fake("fake_other_build")), "the CUDA module is of autospc 0.0.1, this program of autospc");
  const auto module = LoadCudaModule(Fake("fake_module"));
  ASSERT_TRUE(module.ok()) << module.error().Format();
  EXPECT_EQ(*(*module)->gpu_id(0), "fake");
}

class DriverTest : public testing::Test {
 protected:
  void TearDown() override {
    unsetenv("FAKE_CUDA_INIT");
    unsetenv("FAKE_CUDA_GPUS");
  }
};

TEST_F(DriverTest, CountsGpusOrSaysWhyNot) {
  ExpectUsage(CountGpus("libno_such_driver.so.1"), "no NVIDIA driver");
  ExpectUsage(CountGpus(Fake("fake_module")), "no NVIDIA driver");
  ExpectUsage(CountGpus(Fake("fake_driver")), "shows this process no GPU");
  setenv("FAKE_CUDA_INIT", "100", 1);
  ExpectUsage(CountGpus(Fake("fake_driver")), "shows this process no GPU");
  setenv("FAKE_CUDA_INIT", "803", 1);
  ExpectUsage(CountGpus(Fake("fake_driver")), "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)");
  setenv("FAKE_CUDA_INIT", "999", 1);
  ExpectUsage(CountGpus(Fake("fake_driver")), "an unknown error (999)");
  setenv("FAKE_CUDA_INIT", "0", 1);
  setenv("FAKE_CUDA_GPUS", "8", 1);
  EXPECT_EQ(*CountGpus(Fake("fake_driver")), 8);
}

TEST(GpuTest, ARankHasItsOwn) {
  EXPECT_EQ(*GpuOfRank(8, 7), 7);
  EXPECT_EQ(*GpuOfRank(1, 0), 0);
  EXPECT_EQ(*GpuOfRank(1, 5), 0);  // Slurm shows each rank its own
  ExpectUsage(GpuOfRank(2, 2), "LOCAL_RANK 2 sees 2 GPUs");
  EXPECT_TRUE(CheckGpusDiffer({"a 1", "a 2", "b 1"}).ok());
  ExpectUsage(CheckGpusDiffer({"a 1", "a 2", "b 1", "a 2"}), "ranks 1 and 3 share a GPU");
}

// A module whose GPUs are this process' threads. Rank r's GPU is `r`, or what the test says.
std::vector<std::unique_ptr<Communicator>> threads;
std::shared_ptr<std::vector<std::string>> gpu_names;
c10::intrusive_ptr<c10d::HashStore> shared_store;

Result<std::string> ThreadId(int gpu) {
  if ((*gpu_names)[gpu].empty()) return Error{Code::kUsage, "this GPU is broken", "", "mend it"};
  return (*gpu_names)[gpu];
}

Result<std::unique_ptr<Communicator>> ConnectThreads(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                     int gpu) {
  store->set("key" + std::to_string(rank), std::vector<uint8_t>{static_cast<uint8_t>(gpu)});
  EXPECT_EQ(size, static_cast<int>(threads.size()));
  return std::move(threads[rank]);
}

constexpr CudaModule kThreads = {"", &ThreadId, &ConnectThreads};

std::vector<Result<std::unique_ptr<Communicator>>> ConnectThreadsAsGpus(const std::vector<std::string>& names) {
  const int ranks = static_cast<int>(names.size());
  gpu_names = std::make_shared<std::vector<std::string>>(names);
  threads = MakeInProcessCommunicators(ranks);
  shared_store = c10::make_intrusive<c10d::HashStore>();
  auto hosts = MakeInProcessCommunicators(ranks);
  std::vector<Result<std::unique_ptr<Communicator>>> connected;
  for (int r = 0; r < ranks; ++r) connected.emplace_back(Error{});
  std::vector<std::thread> running;
  for (int r = 0; r < ranks; ++r) {
    running.emplace_back([&, r] {
      RankEnvironment environment;
      environment.rank = environment.local_rank = r;
      environment.world_size = environment.local_size = ranks;
      connected[r] = ConnectGpus(Meeting{shared_store, std::move(hosts[r])}, environment, ranks, kThreads);
    });
  }
  for (std::thread& t : running) t.join();
  threads.clear();
  return connected;
}

TEST(ConnectGpusTest, RanksMeetUnderKeysOfTheirOwn) {
  auto ranks = ConnectThreadsAsGpus({"a 0", "a 1", "a 2"});
  for (int r = 0; r < 3; ++r) {
    ASSERT_TRUE(ranks[r].ok()) << ranks[r].error().Format();
    EXPECT_EQ((*ranks[r])->rank(), r);
    EXPECT_EQ(shared_store->get("nccl/key" + std::to_string(r)), std::vector<uint8_t>{static_cast<uint8_t>(r)});
    EXPECT_FALSE(shared_store->check({"key" + std::to_string(r)}));
  }
}

TEST(ConnectGpusTest, SharedGpusAreNamedByEveryRank) {
  for (const auto& rank : ConnectThreadsAsGpus({"a 0", "a 1", "a 0"})) ExpectUsage(rank, "ranks 0 and 2 share a GPU");
}

TEST(ConnectGpusTest, ABrokenGpuEndsAllRanks) {
  const auto ranks = ConnectThreadsAsGpus({"a 0", "", "a 2"});
  ExpectUsage(ranks[1], "this GPU is broken");
  for (const int r : {0, 2}) {
    ASSERT_FALSE(ranks[r].ok());
    EXPECT_EQ(ranks[r].error().code, Code::kPeerFailed);
    EXPECT_EQ(ranks[r].error().what, "rank 1 has no GPU");
  }
}

TEST(ConnectGpusTest, OneRankNeedsNoStore) {
  gpu_names = std::make_shared<std::vector<std::string>>(std::vector<std::string>{"a 0"});
  threads = MakeInProcessCommunicators(1);
  const auto one = ConnectGpus(Meeting{nullptr, MakeSingleCommunicator()}, RankEnvironment{}, 1, kThreads);
  ASSERT_TRUE(one.ok()) << one.error().Format();
  EXPECT_EQ((*one)->size(), 1);
}

}  // namespace
}  // namespace autospc
