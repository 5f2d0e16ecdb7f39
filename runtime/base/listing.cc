#include "runtime/base/listing.h"

#include <fmt/format.h>

#include <algorithm>

namespace autospc {

std::string Listing(const std::vector<std::string>& items) {
  constexpr size_t kListed = 20;
  std::string text;
  for (size_t i = 0; i < std::min(items.size(), kListed); ++i) text += "\n    " + items[i];
  if (items.size() > kListed) text += fmt::format("\n    and {} more", items.size() - kListed);
  return text;
}

}  // namespace autospc
