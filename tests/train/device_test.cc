// What --device meets, reason by reason, in the order in which they are said.
#include "runtime/train/device.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "runtime/dist/cuda_module.h"
#include "tests/package/temp_folder.h"

namespace autospc::train {
namespace {

namespace fs = std::filesystem;

std::string Fake(const std::string& name) { return AUTOSPC_BIN_DIR "/../lib/fakes/lib" + name + ".so"; }

void ExpectError(const Status& status, Code code, const std::string& says) {
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, code) << status.error().Format();
  EXPECT_NE(status.error().Format().find(says), std::string::npos) << status.error().Format();
}

TEST(DeviceTest, TheHostLacksNothing) {
  EXPECT_TRUE(CheckMachine("cpu", 64, {"/nowhere", "libno_such_driver.so.1"}).ok());
  EXPECT_TRUE(CheckPackageDevice("cpu", "cpu", "out/p").ok());
  ExpectError(CheckMachine("tpu", 1), Code::kUsage, "no device \"tpu\"");
}

TEST(DeviceTest, ReasonsInTheirOrder) {
  TempFolder folder;
  Machine machine{folder / "bin", "libno_such_driver.so.1"};
  ExpectError(CheckMachine("cuda", 2, machine), Code::kUsage, "built without CUDA");
  fs::create_directories(folder / "bin");
  fs::create_symlink(Fake("fake_user"), (folder / "bin/") + kCudaModuleFile);
  ExpectError(CheckMachine("cuda", 2, machine), Code::kUsage, "no NVIDIA driver");
  machine.driver = Fake("fake_driver");
  ExpectError(CheckMachine("cuda", 2, machine), Code::kUsage, "shows this process no GPU");
  setenv("FAKE_CUDA_GPUS", "1", 1);
  ExpectError(CheckMachine("cuda", 2, machine), Code::kUsage, "2 ranks on this machine want a GPU each, and it has 1");
  setenv("FAKE_CUDA_GPUS", "2", 1);
  EXPECT_TRUE(CheckMachine("cuda", 2, machine).ok());
  unsetenv("FAKE_CUDA_GPUS");

  ExpectError(CheckPackageDevice("cuda", "cpu", "out/p", machine), Code::kBadInput,
              "compiled for cpu, and this is a run on cuda");
  ExpectError(CheckPackageDevice("cpu", "cuda", "out/p", machine), Code::kBadInput, "run it with --device cuda");
  ExpectError(CheckPackageDevice("cuda", "cuda", "out/p", machine), Code::kUsage, "libfake_absent.so is missing");
  fs::remove((folder / "bin/") + kCudaModuleFile);
  fs::create_symlink(Fake("fake_module"), (folder / "bin/") + kCudaModuleFile);
  EXPECT_TRUE(CheckPackageDevice("cuda", "cuda", "out/p", machine).ok());
}

}  // namespace
}  // namespace autospc::train
