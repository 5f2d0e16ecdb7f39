#include "runtime/package/masters.h"

#include <string_view>

namespace autospc {

std::map<std::string, int> MasterStorages(const program::ProgramT& program) {
  constexpr std::string_view kSuffix = ".master";
  std::map<std::string, int> masters;
  for (size_t i = 0; i < program.storages.size(); ++i) {
    const program::StorageT& s = *program.storages[i];
    if (s.kind != program::StorageKind::Optimizer || !s.name.ends_with(kSuffix)) continue;
    masters[s.name.substr(0, s.name.size() - kSuffix.size())] = static_cast<int>(i);
  }
  return masters;
}

}  // namespace autospc
