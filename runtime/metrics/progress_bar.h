// How far a run is, for the foot of a terminal:
//   [=======>            ]  72/200  36%  loss 3.4657  12.3k tokens/s  1:23 left
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace autospc::metrics {

struct ProgressState {
  int64_t step = 0, last_step = 0;
  double loss = 0;
  double tokens_per_second = 0;  // 0: not known
  double seconds_left = 0;       // estimated
};

// At most `columns` characters that are seen; what has no room is left out from the right. `color` adds escape codes.
std::string BarText(const ProgressState& state, int columns, bool color);

// Rank 0's words to the launcher, which has the terminal: a line of its stderr that is not passed on.
std::string EncodeProgress(const ProgressState& state);
std::optional<ProgressState> DecodeProgress(std::string_view line);

// The variable by which the launcher asks rank 0 for such lines.
inline constexpr char kWantsProgress[] = "AUTOSP_WANTS_PROGRESS";

}  // namespace autospc::metrics
