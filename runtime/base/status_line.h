// A line that stays at the foot of a terminal (a progress bar) while other lines are written above it. Nothing is ever
// written where stderr is no terminal, or one that can't move its cursor (TERM=dumb).
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace autospc {

// Makes the line for a terminal so many columns wide, without a newline; at most `columns` wide.
using StatusText = std::function<std::string(int columns)>;

// Whether there is a terminal for it: of stderr.
bool HasStatusLine();
// Draws it, at most ten times a second; what was skipped is drawn with the next change, or below the next line.
void SetStatusLine(StatusText text);
// Takes it away for good.
void EndStatusLine();
// Writes whole lines to `fd` so that the status line stands below them. What can't be written is lost: nobody reads.
void WriteAbove(int fd, std::string_view lines);
// For writers of their own: no line between the two.
void HideStatusLine();
void ShowStatusLine();

// For tests: `fd` is taken for a terminal of that width; fd -1: stderr again.
void SetStatusTerminal(int fd, int columns);

}  // namespace autospc
