// Names that share one tensor.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace autospc {

// Groups of tied names, from pairs (a name, a name it is tied to).
class TieGroups {
 public:
  explicit TieGroups(const std::vector<std::pair<std::string, std::string>>& pairs);
  // From Program::aliases: the pairs one after the other.
  explicit TieGroups(const std::vector<std::string>& aliases);

  // The group's least name, `name` itself where it is tied to none: equal for tied names.
  const std::string& First(const std::string& name) const;
  // All names of the group, `name` first, the others in order.
  std::vector<std::string> Names(const std::string& name) const;

 private:
  void Tie(const std::string& a, const std::string& b);
  std::map<std::string, std::string> parent_;  // towards the least name
};

}  // namespace autospc
