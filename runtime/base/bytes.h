// Sizes in bytes, as people write them: KiB, MiB, GiB, TiB are powers of 1024; KB, MB, GB, TB of 1000.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace autospc {

// "80GiB", "1.5 MB", "4096": bytes. kUsage for anything else, or more than 2^62.
Result<int64_t> ParseBytes(std::string_view text);

// "1.50 GiB", "12 B": for people.
std::string FormatBytes(int64_t bytes);

}  // namespace autospc
