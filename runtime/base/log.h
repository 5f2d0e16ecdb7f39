// Messages for people on stderr: levels, colour on a terminal (NO_COLOR honoured), `--log-format json`,
// and progress at most ten times a second.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace autospc {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

struct LogOptions {
  LogLevel level = LogLevel::kInfo;  // the least that is written
  bool json = false;                 // one object a line: {"level", "message", "time"} and "rank" if >= 0
  bool color = false;
  bool terminal = false;  // progress overwrites its line; else it is plain lines
  int rank = -1;          // >= 0: every line says it
  std::FILE* sink = stderr;
};

// Whether the environment leaves colour to terminals (NO_COLOR is unset or empty, no-color.org).
bool ColorAllowed();
// From the environment: colour and terminal as stderr and NO_COLOR say.
LogOptions DefaultLogOptions();
// "text" or "json" (--log-format), "debug" … "error" (--log-level); kUsage for anything else.
Result<bool> ParseLogFormat(std::string_view text);
Result<LogLevel> ParseLogLevel(std::string_view text);

// Sets the options of the process. May be called from any thread, as Log and Progress may.
void SetLogOptions(const LogOptions& options);

void Log(LogLevel level, std::string_view message);
// An error as its code's program would print it: text as Error::Format, json with code, what, where, hint.
void LogError(const Error& error);

// A line of progress ("compiling: 3 of 9"), dropped if the last one is less than 0.1 s old unless `last`.
// In JSON its level is "progress".
void Progress(std::string_view message, bool last = false);

}  // namespace autospc
