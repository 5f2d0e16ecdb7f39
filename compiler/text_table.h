// Plain text tables of a fixed width, for inspect.
#pragma once

#include <string>
#include <string_view>

#include <fmt/format.h>

namespace autospc {

inline constexpr size_t kTextWidth = 100;

// The text if it fits `width`, else its beginning and "...". Columns are counted as bytes: names are ASCII.
inline std::string Clip(std::string_view text, size_t width) {
  if (text.size() <= width) return std::string(text);
  if (width < 4) return std::string(text.substr(0, width));
  return std::string(text.substr(0, width - 3)) + "...";
}

// The end of the text, for file names and module paths, whose end tells them apart.
inline std::string ClipFront(std::string_view text, size_t width) {
  if (text.size() <= width) return std::string(text);
  if (width < 4) return std::string(text.substr(text.size() - width));
  return "..." + std::string(text.substr(text.size() - (width - 3)));
}

// "1.23 GFLOP"
inline std::string FormatFlops(double flops) {
  static constexpr std::string_view kUnits[] = {"", "K", "M", "G", "T", "P", "E"};
  size_t unit = 0;
  while (flops >= 1000 && unit + 1 < std::size(kUnits)) flops /= 1000, ++unit;
  return fmt::format("{:.3g} {}FLOP", flops, kUnits[unit]);
}

}  // namespace autospc
