// A command line from bytes: a line an argument. What is behind the flags must not run: no argument of a fuzzer's may
// name a file to be written.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace autospc::fuzz {

inline std::vector<std::string> ArgumentsOf(std::string_view bytes) {
  std::vector<std::string> arguments;
  while (!bytes.empty()) {
    const size_t end = std::min(bytes.find('\n'), bytes.size());
    // As execve hands them over: none holds a NUL.
    arguments.emplace_back(bytes.substr(0, std::min(end, bytes.find('\0'))));
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
  }
  return arguments;
}

}  // namespace autospc::fuzz
