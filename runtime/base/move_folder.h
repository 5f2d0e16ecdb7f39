// A folder gets its final name.
#pragma once

#include <string>

#include "runtime/base/result.h"

namespace autospc {

// Renames `path` to `target` on one file system, durably. kUsage if the target exists, unless `replace`: then the two are
// exchanged in one step (two renames where the file system can't) and the old one is removed. kFailed: the disk; then
// `target` is as it was.
Status MoveFolder(const std::string& path, const std::string& target, bool replace);

}  // namespace autospc
