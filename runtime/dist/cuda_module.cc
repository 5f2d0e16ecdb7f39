#include "runtime/dist/cuda_module.h"

#include <dlfcn.h>
#include <torch/headeronly/version.h>

#include <filesystem>
#include <string_view>

namespace autospc {
namespace {

namespace fs = std::filesystem;

constexpr char kRebuild[] = "build it again with the program (ninja autosp_cuda), or use --device cpu";

// What dlopen says, in our words: "LIBRARY: cannot open shared object file: No such file or directory" for a
// library that is missing, which need not be the one that was asked for.
Error LoadError(const std::string& path, std::string_view reason) {
  const std::string_view library = reason.substr(0, reason.find(": cannot open shared object file"));
  if (library.size() < reason.size() && library != path) {
    return Error{
        Code::kUsage, fmt::format("{} is missing, which LibTorch's CUDA library needs", library), path,
        "install LibTorch with all it depends on into the environment that autospc was built with (pip install "
        "torch==" TORCH_VERSION ", without --no-deps), or use --device cpu"};
  }
  return Error{Code::kUsage, fmt::format("the CUDA module can't be loaded: {}", reason), path, kRebuild};
}

}  // namespace

Result<std::string> FindCudaModule() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (error) {
    return Error{Code::kFailed, "this program does not find itself: " + error.message(), "/proc/self/exe", ""};
  }
  return FindCudaModule(program.parent_path().string());
}

Result<std::string> FindCudaModule(const std::string& program_folder) {
  const fs::path folder = program_folder;
  for (const fs::path& path : {folder.parent_path() / "lib" / kCudaModuleFile, folder / kCudaModuleFile}) {
    std::error_code error;
    if (fs::is_regular_file(path, error)) return path.string();
  }
  return Error{Code::kUsage, fmt::format("this autosp-run was built without CUDA: it has no {}", kCudaModuleFile),
               (folder.parent_path() / "lib").string(),
               "build where the CUDA toolkit and nccl.h are (cmake says what it misses), or use --device cpu"};
}

Result<const CudaModule*> LoadCudaModule(const std::string& path) {
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    return LoadError(path, reason != nullptr ? reason : "no reason is given");
  }
  const auto get = reinterpret_cast<const CudaModule* (*)()>(dlsym(library, kCudaModuleSymbol));
  const CudaModule* const module = get != nullptr ? get() : nullptr;
  if (module == nullptr) {
    return Error{Code::kUsage, fmt::format("it has no {}: this is no CUDA module", kCudaModuleSymbol), path, kRebuild};
  }
  if (std::string_view(module->build) != CudaModuleBuild()) {
    return Error{Code::kUsage,
                 fmt::format("the CUDA module is of {}, this program of {}", module->build, CudaModuleBuild()), path,
                 kRebuild};
  }
  return module;
}

}  // namespace autospc
