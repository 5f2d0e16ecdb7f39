#include "runtime/train/device.h"

#include "runtime/dist/cuda_module.h"

namespace autospc::train {
namespace {

Result<std::string> FindModule(const Machine& machine) {
  return machine.program_folder.empty() ? FindCudaModule() : FindCudaModule(machine.program_folder);
}

}  // namespace

Status CheckMachine(const std::string& device, int local_ranks, const Machine& machine) {
  if (device == "cpu") return Ok();
  if (device != "cuda") {
    return Error{Code::kUsage, fmt::format("there is no device \"{}\"", device), "", "use cpu or cuda"};
  }
  ASSIGN_OR_RETURN(const std::string module, FindModule(machine));
  ASSIGN_OR_RETURN(const int gpus, CountGpus(machine.driver));
  if (gpus >= local_ranks) return Ok();
  return Error{Code::kUsage, fmt::format("{} ranks on this machine want a GPU each, and it has {}", local_ranks, gpus),
               "", "compile for fewer ranks, spread them over machines, or use --device cpu"};
}

Status CheckPackageDevice(const std::string& device, const std::string& package_device, const std::string& package,
                          const Machine& machine) {
  if (package_device != device) {
    return Error{Code::kBadInput,
                 fmt::format("the package is compiled for {}, and this is a run on {}", package_device, device),
                 package,
                 device == "cuda" ? "compile it with --device cuda, or use --device cpu"
                                  : "run it with --device " + package_device};
  }
  if (device == "cpu") return Ok();
  ASSIGN_OR_RETURN(const std::string path, FindModule(machine));
  const Result<const CudaModule*> module = LoadCudaModule(path);
  return module.ok() ? Ok() : Status(module.error());
}

Status ConnectDevice(const std::string& device, const RankEnvironment& environment, Meeting* meeting, const Machine& machine) {
  if (device == "cpu") return Ok();
  ASSIGN_OR_RETURN(const std::string path, FindModule(machine));
  ASSIGN_OR_RETURN(const CudaModule* const module, LoadCudaModule(path));
  ASSIGN_OR_RETURN(const int gpus, CountGpus(machine.driver));
  ASSIGN_OR_RETURN(std::unique_ptr<Communicator> connected, ConnectGpus(*meeting, environment, gpus, *module));
  meeting->UseDevice(std::move(connected));
  return Ok();
}

}  // namespace autospc::train
