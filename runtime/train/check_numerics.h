// Where the first NaN or infinity of a step comes from (--check-numerics), and the stop at a loss that is none.
//
// An instruction *makes* a NaN if its results hold one and its operands none, and likewise an infinity; what it only
// passes on it has not made. An infinity that the program writes itself, as a number or through a constant (the -inf of
// a mask), is not made either, nor is attention's log-sum-exp of a row without keys.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/dist/communicator.h"
#include "runtime/exec/executor.h"
#include "runtime/exec/nonfinite.h"

namespace autospc::train {

struct StepRecord;

class NumericsCheck : public exec::Observer {
 public:
  explicit NumericsCheck(const exec::Executor* executor);

  void Before(size_t instruction) override;
  void After(size_t instruction) override;

  // After step `step` has ended as `status`: where a rank found something, the error of the rank that did so first in
  // the order of execution, on all ranks alike; else `status`. All ranks call it, unless theirs failed otherwise.
  Status Agree(int64_t step, Status status, Communicator* communicator);

 private:
  struct Finding {
    int64_t instruction = 0;  // -1: before the first one
    std::string what, where;
  };
  exec::Kinds OfOperands(size_t instruction) const;
  void Keep(int tensor, exec::Kinds kinds);
  void CheckPersistent();
  void Found(size_t instruction, int tensor, bool nan, std::optional<Finding>* finding);

  const exec::Executor* executor_;
  std::vector<exec::Kinds> kinds_;  // by storage: what it may hold
  std::map<std::string, std::vector<bool>> written_;  // by op: its arguments (exec::WrittenArguments)
  std::optional<Finding> nan_, inf_;  // this rank's first ones
};

// kFailed where loss or gradient norm are not finite, the same on all ranks; the hint names --check-numerics.
Status CheckFinite(const StepRecord& record, const std::string& loss_name, bool checked);

}  // namespace autospc::train
