// What a run says at its end: seconds by op (--time-ops), planned and measured memory (--measure-memory).
#pragma once

#include "runtime/base/result.h"
#include "runtime/train/rank.h"

namespace autospc::train {

// All ranks call it; rank 0 prints.
Status ReportRun(Rank* rank);

}  // namespace autospc::train
