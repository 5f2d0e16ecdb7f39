#include "passes/step/no_decay.h"

#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>

namespace autospc::step {

bool NoDecay::Matches(const std::vector<std::string>& names, int dims) {
  bool any = false;
  for (size_t i = 0; i < patterns_.size(); ++i) {
    const std::string& pattern = patterns_[i];
    const bool matches = pattern == kVectors ? dims < 2 : std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
    });
    if (matches) used_[i] = any = true;
  }
  return any;
}

Status NoDecay::CheckAllUsed(const std::vector<std::string>& names) const {
  const auto unused = std::find(used_.begin(), used_.end(), false);
  if (unused == used_.end()) return Ok();
  const std::vector<std::string> some(names.begin(), names.begin() + static_cast<int64_t>(std::min<size_t>(names.size(), 5)));
  return Error{Code::kBadInput, fmt::format("--no-decay {} matches no parameter that is trained", patterns_[unused - used_.begin()]), "",
               fmt::format("their names are such as {}; a pattern is matched with the whole name, as in '*.bias'", fmt::join(some, ", "))};
}

}  // namespace autospc::step
