#include "runtime/base/status_line.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <optional>

namespace autospc {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kInterval = std::chrono::milliseconds(100);
constexpr std::string_view kClear = "\r\033[K";

struct State {
  std::mutex mutex;
  int fd = STDERR_FILENO;
  int columns = 0;  // a test's; 0: ask the terminal
  StatusText text;
  bool shown = false;
  std::optional<Clock::time_point> drawn;
};

State& TheState() {
  static State* state = new State;  // never destroyed: threads may write while the process ends
  return *state;
}

void WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n < 0 && errno != EINTR) return;
    if (n > 0) text.remove_prefix(static_cast<size_t>(n));
  }
}

bool Usable(const State& state) {
  if (state.columns > 0) return true;
  if (isatty(state.fd) != 1) return false;
  const char* term = std::getenv("TERM");
  return term != nullptr && *term != '\0' && std::string_view(term) != "dumb";
}

int Columns(const State& state) {
  if (state.columns > 0) return state.columns;
  winsize size{};
  if (ioctl(state.fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const char* columns = std::getenv("COLUMNS");
  const int value = columns == nullptr ? 0 : std::atoi(columns);
  return value > 0 ? value : 80;
}

void Hide(State* state) {
  if (state->shown) WriteAll(state->fd, kClear);
  state->shown = false;
}

void Show(State* state) {
  if (!state->text || state->shown || !Usable(*state)) return;
  // The last column stays free: a terminal may wrap behind it.
  WriteAll(state->fd, std::string(kClear) + state->text(Columns(*state) - 1));
  state->shown = true;
  state->drawn = Clock::now();
}

}  // namespace

bool HasStatusLine() {
  State& state = TheState();
  std::lock_guard lock(state.mutex);
  return Usable(state);
}

void SetStatusLine(StatusText text) {
  State& state = TheState();
  std::lock_guard lock(state.mutex);
  state.text = std::move(text);
  if (state.drawn && Clock::now() - *state.drawn < kInterval) return;
  state.shown = false;
  Show(&state);
}

void EndStatusLine() {
  State& state = TheState();
  std::lock_guard lock(state.mutex);
  Hide(&state);
  state.text = nullptr;
  state.drawn.reset();
}

void HideStatusLine() {
  State& state = TheState();
  std::lock_guard lock(state.mutex);
  Hide(&state);
}

void ShowStatusLine() {
  State& state = TheState();
  std::lock_guard lock(state.mutex);
  Show(&state);
}

void WriteAbove(int fd, std::string_view lines) {
  State& state = TheState();
  std::lock_guard lock(state.mutex);
  Hide(&state);
  WriteAll(fd, lines);
  Show(&state);
}

void SetStatusTerminal(int fd, int columns) {
  State& state = TheState();
  std::lock_guard lock(state.mutex);
  state.fd = fd < 0 ? STDERR_FILENO : fd;
  state.columns = fd < 0 ? 0 : columns;
  state.text = nullptr;
  state.shown = false;
  state.drawn.reset();
}

}  // namespace autospc
