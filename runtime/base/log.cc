#include "runtime/base/log.h"

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <mutex>

#include <nlohmann/json.hpp>

#include "runtime/base/json_text.h"
#include "runtime/base/status_line.h"

namespace autospc {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kProgressInterval = std::chrono::milliseconds(100);
constexpr std::array<const char*, 4> kLevelNames = {"debug", "info", "warning", "error"};
constexpr std::array<const char*, 4> kLevelColors = {"\033[2m", "", "\033[33m", "\033[31m"};

struct State {
  std::mutex mutex;
  LogOptions options = DefaultLogOptions();
  bool line_open = false;  // a progress line without its newline stands on the terminal
  std::optional<Clock::time_point> last_progress;
};

State& TheState() {
  static State* state = new State;  // never destroyed: threads may log while the process ends
  return *state;
}

double Now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void Put(State& state, const std::string& text) {
  // One write a line, so that lines of several ranks don't mix.
  const bool foot = state.options.sink == stderr;  // where a status line may stand
  if (foot) HideStatusLine();
  std::fwrite(text.data(), 1, text.size(), state.options.sink);
  std::fflush(state.options.sink);
  if (foot && text.back() == '\n') ShowStatusLine();
}

void PutJson(State& state, nlohmann::json object, const char* level) {
  object["level"] = level;
  object["time"] = Now();
  if (state.options.rank >= 0) object["rank"] = state.options.rank;
  Put(state, JsonText(object) + "\n");
}

// A name out of a file must not move the cursor or colour the terminal: control characters are spelt, line ends aside.
void Append(std::string_view message, std::string* text) {
  for (const char c : message) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f)
      *text += fmt::format("\\x{:02x}", byte);
    else
      *text += c;
  }
}

void PutText(State& state, LogLevel level, std::string_view message) {
  std::string text;
  if (state.line_open) text += "\r\033[K";
  state.line_open = false;
  const bool color = state.options.color && *kLevelColors[static_cast<size_t>(level)] != '\0';
  if (color) text += kLevelColors[static_cast<size_t>(level)];
  if (state.options.rank >= 0) text += fmt::format("rank {}: ", state.options.rank);
  if (level == LogLevel::kWarning) text += "warning: ";
  Append(message, &text);
  if (color) text += "\033[0m";
  Put(state, text + "\n");
}

}  // namespace

bool ColorAllowed() {
  const char* no_color = std::getenv("NO_COLOR");
  return no_color == nullptr || *no_color == '\0';
}

LogOptions DefaultLogOptions() {
  LogOptions options;
  options.terminal = isatty(STDERR_FILENO) == 1;
  options.color = options.terminal && ColorAllowed();
  return options;
}

Result<bool> ParseLogFormat(std::string_view text) {
  if (text == "json") return true;
  if (text == "text") return false;
  return Error{Code::kUsage, fmt::format("unknown log format '{}'", text), "--log-format", "text or json"};
}

Result<LogLevel> ParseLogLevel(std::string_view text) {
  for (size_t i = 0; i < kLevelNames.size(); ++i)
    if (text == kLevelNames[i]) return static_cast<LogLevel>(i);
  return Error{Code::kUsage, fmt::format("unknown log level '{}'", text), "--log-level", "debug, info, warning or error"};
}

void SetLogOptions(const LogOptions& options) {
  State& state = TheState();
  std::lock_guard lock(state.mutex);
  state.options = options;
  state.last_progress.reset();
  state.line_open = false;
}

void Log(LogLevel level, std::string_view message) {
  State& state = TheState();
  std::lock_guard lock(state.mutex);
  if (level < state.options.level) return;
  if (state.options.json)
    PutJson(state, {{"message", std::string(message)}}, kLevelNames[static_cast<size_t>(level)]);
  else
    PutText(state, level, message);
}

void LogError(const Error& error) {
  State& state = TheState();
  std::lock_guard lock(state.mutex);
  if (!state.options.json) return PutText(state, LogLevel::kError, error.Format());
  nlohmann::json object = {{"message", error.what}, {"code", static_cast<int>(error.code)}};
  if (!error.where.empty()) object["where"] = error.where;
  if (!error.hint.empty()) object["hint"] = error.hint;
  PutJson(state, std::move(object), "error");
}

void Progress(std::string_view message, bool last) {
  State& state = TheState();
  std::lock_guard lock(state.mutex);
  if (state.options.level > LogLevel::kInfo) return;
  const auto now = Clock::now();
  if (!last && state.last_progress && now - *state.last_progress < kProgressInterval) return;
  state.last_progress = now;
  if (state.options.json) return PutJson(state, {{"message", std::string(message)}}, "progress");
  if (!state.options.terminal) return PutText(state, LogLevel::kInfo, message);
  Put(state, fmt::format("\r\033[K{}{}", message, last ? "\n" : ""));
  state.line_open = !last;
}

}  // namespace autospc
