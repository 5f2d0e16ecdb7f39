#include "runtime/train/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace autospc::train {

double LearningRate::At(int64_t step) const {
  if (step < warmup) return lr * static_cast<double>(step) / static_cast<double>(warmup);
  if (schedule == Schedule::kConstant || step <= warmup) return lr;
  const double span = static_cast<double>(std::max<int64_t>(steps - warmup, 1));
  const double done = std::min(1.0, static_cast<double>(step - warmup) / span);
  const double left = schedule == Schedule::kLinear ? 1 - done : 0.5 * (1 + std::cos(std::numbers::pi * done));
  return min_lr + (lr - min_lr) * left;
}

Schedule ParseSchedule(std::string_view name) {
  return name == "linear" ? Schedule::kLinear : name == "cosine" ? Schedule::kCosine : Schedule::kConstant;
}

Status CheckLearningRate(const LearningRate& rate) {
  if (!std::isfinite(rate.lr) || rate.lr < 0) {
    return Error{Code::kUsage, fmt::format("'--lr' is {}", rate.lr), "", "it is 0 or more"};
  }
  if (!std::isfinite(rate.min_lr) || rate.min_lr < 0 || rate.min_lr > rate.lr) {
    return Error{Code::kUsage, fmt::format("'--min-lr' is {}", rate.min_lr), "",
                 fmt::format("it lies between 0 and --lr, {}", rate.lr)};
  }
  if (rate.min_lr > 0 && rate.schedule == Schedule::kConstant) {
    return Error{Code::kUsage, "--min-lr without a schedule that falls to it", "",
                 "add --lr-schedule linear or --lr-schedule cosine"};
  }
  if (rate.warmup < 0 || rate.warmup > rate.steps) {
    return Error{Code::kUsage, fmt::format("'--warmup' is {}", rate.warmup), "",
                 fmt::format("it lies between 0 and --steps, {}", rate.steps)};
  }
  return Ok();
}

}  // namespace autospc::train
