// What --device asks for, against this program, this machine and the package; in the order in which a person can mend
// it, so that nobody installs half a gigabyte only to read the next reason.
#pragma once

#include <string>

#include "runtime/base/result.h"
#include "runtime/dist/gpu_driver.h"
#include "runtime/dist/rendezvous.h"

namespace autospc::train {

// Where a machine keeps what a GPU needs; other values are for tests.
struct Machine {
  std::string program_folder;  // empty: where this program is
  std::string driver = kGpuDriverLibrary;
};

// `device`: "cpu", to which nothing is missing, or "cuda": this build has the CUDA module, and the driver shows at
// least `local_ranks` GPUs. kUsage else.
Status CheckMachine(const std::string& device, int local_ranks, const Machine& machine = {});

// A package's plan and kernels are those of one device. kBadInput: of another than `device`. For "cuda" then the module
// is loaded. kUsage: a library is missing.
Status CheckPackageDevice(const std::string& device, const std::string& package_device, const std::string& package,
                          const Machine& machine = {});

// For `device` "cuda": the ranks' GPUs connected and put to use (Meeting::UseDevice). All ranks call it. kUsage: one has no
// GPU, or two share one; kPeerFailed: NCCL could not connect them.
Status ConnectDevice(const std::string& device, const RankEnvironment& environment, Meeting* meeting,
                     const Machine& machine = {});

}  // namespace autospc::train
