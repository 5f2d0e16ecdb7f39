// What tests on GPUs begin with: without one, or without LibTorch's CUDA libraries, they are skipped with the reason.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "runtime/dist/cuda_module.h"
#include "runtime/dist/gpu_driver.h"

namespace autospc::testing {

// The module of this build, and with it LibTorch's kernels.
inline Result<const CudaModule*> FindAndLoadCudaModule() {
  ASSIGN_OR_RETURN(const std::string path, FindCudaModule());
  return LoadCudaModule(path);
}

class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto gpus = CountGpus();
    if (!gpus.ok()) GTEST_SKIP() << gpus.error().Format();
    const auto module = FindAndLoadCudaModule();
    if (!module.ok()) GTEST_SKIP() << module.error().Format();
    module_ = *module;
    gpus_ = *gpus;
  }

  const CudaModule* module_ = nullptr;
  int gpus_ = 0;
};

}  // namespace autospc::testing
