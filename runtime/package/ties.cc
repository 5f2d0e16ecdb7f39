#include "runtime/package/ties.h"

#include <algorithm>

namespace autospc {

TieGroups::TieGroups(const std::vector<std::pair<std::string, std::string>>& pairs) {
  for (const auto& [a, b] : pairs) Tie(a, b);
}

TieGroups::TieGroups(const std::vector<std::string>& aliases) {
  for (size_t i = 0; i + 1 < aliases.size(); i += 2) Tie(aliases[i], aliases[i + 1]);
}

void TieGroups::Tie(const std::string& a, const std::string& b) {
  const std::string first = First(a), second = First(b);  // copies: the map changes below
  const auto [least, other] = std::minmax(first, second);
  parent_[least] = least;
  parent_[other] = least;
  parent_.emplace(a, least);
  parent_.emplace(b, least);
}

const std::string& TieGroups::First(const std::string& name) const {
  const std::string* at = &name;
  for (auto it = parent_.find(*at); it != parent_.end() && it->second != *at; it = parent_.find(*at)) at = &it->second;
  return *at;
}

std::vector<std::string> TieGroups::Names(const std::string& name) const {
  std::vector<std::string> names = {name};
  if (!parent_.contains(name)) return names;
  const std::string& first = First(name);
  for (const auto& [other, parent] : parent_)
    if (other != name && First(other) == first) names.push_back(other);
  return names;
}

}  // namespace autospc
