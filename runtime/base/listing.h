// The items of an error that says all that is wrong at once.
#pragma once

#include <string>
#include <vector>

namespace autospc {

// A line an item, each begun by a line break and four blanks; twenty at most, then how many more there are.
std::string Listing(const std::vector<std::string>& items);

}  // namespace autospc
