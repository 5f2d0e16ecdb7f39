// The learning rate of each step: constant, linear or cosine decay, after a linear warm-up.
#pragma once

#include <cstdint>
#include <string_view>

#include "runtime/base/result.h"

namespace autospc::train {

enum class Schedule : uint8_t { kConstant, kLinear, kCosine };

struct LearningRate {
  double lr = 1e-3;  // the highest
  Schedule schedule = Schedule::kConstant;
  int64_t warmup = 0;  // steps: step k <= warmup has lr * k / warmup
  double min_lr = 0;   // that of the last step; a constant schedule has none
  int64_t steps = 0;   // of the whole training

  // Of step 1, 2, …: step `warmup` has lr, step `steps` min_lr, later ones too.
  double At(int64_t step) const;
};

// "constant", "linear", "cosine": --lr-schedule, checked by then.
Schedule ParseSchedule(std::string_view name);
// kUsage: no warm-up of so many steps, min_lr above lr, or without a decay.
Status CheckLearningRate(const LearningRate& rate);

}  // namespace autospc::train
