// One line a step on stdout, for people or (--json) as a JSON object.
#pragma once

#include "runtime/train/loop.h"

namespace autospc::train {

class StepPrinter : public StepListener {
 public:
  explicit StepPrinter(bool json) : json_(json) {}
  Status OnStep(const StepRecord& record) override;
  Status OnEval(const EvalRecord& record) override;

 private:
  bool json_;
};

}  // namespace autospc::train
