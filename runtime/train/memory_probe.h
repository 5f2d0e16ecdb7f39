// A process' memory as the system counts it (/proc/self), in bytes.
#pragma once

#include <cstdint>

#include "runtime/base/result.h"

namespace autospc::train {

struct ProcessMemory {
  int64_t resident = 0;       // VmRSS
  int64_t peak_resident = 0;  // VmHWM
  int64_t data = 0;           // VmData: private writable mappings, what RLIMIT_DATA bounds
};

Result<ProcessMemory> ReadProcessMemory();
// The peak becomes the present state.
Status ResetPeakResident();
// From now on private writable mappings may grow by at most `bytes` more.
Status LimitDataGrowth(int64_t bytes);

}  // namespace autospc::train
