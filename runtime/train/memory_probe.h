// A process' memory as the system counts it (/proc/self), in bytes.
#pragma once

#include <cstdint>

#include "runtime/base/result.h"

namespace autospc::train {

struct ProcessMemory {
  int64_t resident = 0;       // VmRSS
  int64_t peak_resident = 0;  // VmHWM
  int64_t anonymous = 0;      // RssAnon: resident and of no file
  int64_t data = 0;           // VmData: private writable mappings, what RLIMIT_DATA bounds
};

Result<ProcessMemory> ReadProcessMemory();
// Anonymous bytes at the first call, which is the process' own affair before it loads anything; 0 where unknown.
int64_t AnonymousAtStart();
// The peak becomes the present state.
Status ResetPeakResident();
// From now on private writable mappings may grow by at most `bytes` more.
Status LimitDataGrowth(int64_t bytes);

}  // namespace autospc::train
