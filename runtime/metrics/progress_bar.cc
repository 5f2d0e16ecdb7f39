#include "runtime/metrics/progress_bar.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include <fmt/format.h>

#include "runtime/metrics/step_metrics.h"

namespace autospc::metrics {
namespace {

constexpr char kMark[] = "\x1eprogress";  // ASCII's record separator: no program's message begins with it

// "0:07", "12:34", "3:04:05", "4 days".
std::string Duration(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "";
  const auto s = static_cast<int64_t>(seconds + 0.5);
  if (s >= 2 * 86400) return fmt::format("{} days", (s + 43200) / 86400);
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

}  // namespace

std::string BarText(const ProgressState& state, int columns, bool color) {
  const double share = state.last_step > 0 ? std::clamp(static_cast<double>(state.step) / state.last_step, 0.0, 1.0) : 0;
  const std::string count = fmt::format("{:>{}}/{}", state.step, std::to_string(state.last_step).size(), state.last_step);
  std::vector<std::string> parts = {count, fmt::format("{:>3.0f}%", std::floor(100 * share)),
                                    fmt::format("loss {:.4f}", state.loss)};
  if (state.tokens_per_second > 0) parts.push_back(ShortNumber(state.tokens_per_second) + " tokens/s");
  if (const std::string left = Duration(state.seconds_left); !left.empty()) parts.push_back(left + " left");

  std::string text;
  for (const std::string& part : parts) {
    const std::string next = text + (text.empty() ? "" : "  ") + part;
    if (static_cast<int>(next.size()) > columns) break;
    text = next;
  }
  // The bar takes what is left, up to 40, and is not there where that is little.
  const int room = std::min(40, columns - static_cast<int>(text.size()) - 4);
  if (room < 8) return text;
  const int done = static_cast<int>(share * room);
  std::string filled(static_cast<size_t>(done), '=');
  if (done > 0 && done < room) filled.back() = '>';
  const std::string rest(static_cast<size_t>(room - done), ' ');
  if (color) filled = "\033[32m" + filled + "\033[0m";
  return "[" + filled + rest + "]  " + text;
}

std::string EncodeProgress(const ProgressState& state) {
  return fmt::format("{} {} {} {} {} {}\n", kMark, state.step, state.last_step, state.loss, state.tokens_per_second,
                     state.seconds_left);
}

std::optional<ProgressState> DecodeProgress(std::string_view line) {
  if (!line.starts_with(kMark)) return std::nullopt;
  const std::string text(line.substr(sizeof(kMark) - 1));
  ProgressState state;
  long long step = 0, last = 0;
  if (std::sscanf(text.c_str(), "%lld %lld %lf %lf %lf", &step, &last, &state.loss, &state.tokens_per_second,
                  &state.seconds_left) != 5) {
    return std::nullopt;
  }
  state.step = step;
  state.last_step = last;
  return state;
}

}  // namespace autospc::metrics
