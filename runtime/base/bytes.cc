#include "runtime/base/bytes.h"

#include <array>
#include <charconv>
#include <cmath>

namespace autospc {

Result<int64_t> ParseBytes(std::string_view text) {
  const auto bad = [&] {
    return Error{Code::kUsage, fmt::format("'{}' is not a size in bytes", text), "",
                 "write a number with KiB, MiB, GiB (binary) or KB, MB, GB (decimal), e.g. 80GiB"};
  };
  double number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc() || !(number >= 0)) return bad();
  std::string_view unit = text.substr(end - text.data());
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  double scale = 1;
  if (!unit.empty() && unit != "B") {
    static constexpr std::string_view kPrefixes = "KMGT";
    const size_t power = kPrefixes.find(unit.front());
    if (power == std::string_view::npos) return bad();
    const std::string_view rest = unit.substr(1);
    if (rest != "iB" && rest != "B") return bad();
    scale = std::pow(rest == "iB" ? 1024.0 : 1000.0, static_cast<double>(power + 1));
  }
  const double bytes = number * scale;
  if (!(bytes <= 0x1p62)) return bad();
  return static_cast<int64_t>(bytes);
}

std::string FormatBytes(int64_t bytes) {
  static constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (std::abs(value) >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.2f} {}", value, kUnits[unit]);
}

}  // namespace autospc
