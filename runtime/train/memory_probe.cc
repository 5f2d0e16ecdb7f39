#include "runtime/train/memory_probe.h"

#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

namespace autospc::train {

Result<ProcessMemory> ReadProcessMemory() {
  std::ifstream file("/proc/self/status");
  ProcessMemory memory;
  int found = 0;
  for (std::string name; file >> name;) {
    int64_t* field = name == "VmRSS:"    ? &memory.resident
                     : name == "VmHWM:"  ? &memory.peak_resident
                     : name == "RssAnon:" ? &memory.anonymous
                     : name == "VmData:" ? &memory.data
                                         : nullptr;
    if (field != nullptr && file >> *field) {
      *field *= 1024;  // written in KiB
      ++found;
    }
    std::getline(file, name);
  }
  if (found != 4) return Error{Code::kFailed, "the system does not tell this process' memory", "/proc/self/status", ""};
  return memory;
}

int64_t AnonymousAtStart() {
  static const int64_t bytes = [] {
    const Result<ProcessMemory> memory = ReadProcessMemory();
    return memory.ok() ? memory->anonymous : 0;
  }();
  return bytes;
}

Status ResetPeakResident() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  if (!file)
    return Error{Code::kFailed, "the peak of resident memory can't be reset", "/proc/self/clear_refs",
                 "is /proc read-only?"};
  return Ok();
}

Status LimitDataGrowth(int64_t bytes) {
  ASSIGN_OR_RETURN(const ProcessMemory memory, ReadProcessMemory());
  rlimit limit{};
  getrlimit(RLIMIT_DATA, &limit);
  limit.rlim_cur = static_cast<rlim_t>(memory.data + bytes);
  if (setrlimit(RLIMIT_DATA, &limit) != 0) {
    return Error{Code::kFailed, fmt::format("RLIMIT_DATA: {}", std::strerror(errno)), "", ""};
  }
  return Ok();
}

}  // namespace autospc::train
