#include "runtime/train/peak_flops.h"

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "runtime/exec/call.h"

namespace autospc::train {
namespace {

bool IsProduct(const std::string& op) {
  for (const char* name : {"aten.mm.", "aten.addmm.", "aten.bmm.", "aten.baddbmm.", "autosp.attention"}) {
    if (op.starts_with(name)) return true;
  }
  return false;
}

}  // namespace

program::DType ProductType(const program::ProgramT& program) {
  std::map<program::DType, double> made;
  for (const auto& instruction : program.instructions) {
    if (!IsProduct(instruction->op) || instruction->outputs.empty() || instruction->outputs[0] < 0) continue;
    const program::TensorT& out = *program.tensors[instruction->outputs[0]];
    double elements = 1;
    for (const int64_t size : out.sizes) elements *= static_cast<double>(size);
    made[out.dtype] += elements;
  }
  const auto most = std::max_element(made.begin(), made.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == made.end() ? program::DType::Float32 : most->first;
}

double MeasurePeakFlops(program::DType type, c10::Device device) {
  using Clock = std::chrono::steady_clock;
  try {
    at::AutoDispatchBelowADInplaceOrView no_autograd;
    const auto options = at::TensorOptions(device).dtype(exec::ToScalarType(type));
    // More threads need more work to share; 512 is where one core's rate no longer grows.
    const auto cores = static_cast<int64_t>(512 * std::min(4.0, std::ceil(std::sqrt(static_cast<double>(at::get_num_threads())))));
    const int64_t n = device.is_cpu() ? cores : 8192;
    const auto settle = [device] {
      if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
    };
    const at::Tensor a = at::ones({n, n}, options), b = at::ones({n, n}, options);
    at::Tensor c = at::ones({n, n}, options);
    double best = 0;
    const auto begin = Clock::now();
    for (int i = 0; i < 4 || (i < 10 && Clock::now() - begin < std::chrono::milliseconds(20)); ++i) {
      settle();
      const auto start = Clock::now();
      at::mm_out(c, a, b);
      settle();
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      if (i > 0 && seconds > 0) best = std::max(best, 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n) / seconds);  // the first one warms up
    }
    return best;
  } catch (const c10::Error&) {
    return 0;
  }
}

}  // namespace autospc::train
