// Stands for NVIDIA's driver: FAKE_CUDA_INIT is what it answers to cuInit, FAKE_CUDA_GPUS its number of GPUs.
#include <cstdlib>

namespace {

int Number(const char* name) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atoi(text) : 0;
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return Number("FAKE_CUDA_INIT"); }

int cuDeviceGetCount(int* count) {
  *count = Number("FAKE_CUDA_GPUS");
  return 0;
}

int cuGetErrorName(int error, const char** name) {
  *name = error == 803 ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" : nullptr;
  return *name != nullptr ? 0 : 1;
}
}
