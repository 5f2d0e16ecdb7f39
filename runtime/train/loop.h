// The training loop: batches from a source, a step on each, and whoever listens told of it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/data/batch_source.h"
#include "runtime/train/evaluation.h"
#include "runtime/train/learning_rate.h"

namespace autospc::train {

class Rank;

struct StepRecord {
  int64_t step = 0;      // from 1 on; a resumed run goes on counting
  double loss = 0;       // of the global batch, before the step's update
  double grad_norm = 0;  // before clipping
  double lr = 0;
  int64_t tokens = 0;       // valid labels of the global batch, or its positions where the model has no labels
  double seconds = 0;       // of the step, without data_seconds
  double data_seconds = 0;  // filling the inputs
  std::vector<std::pair<std::string, double>> outputs;  // further scalar outputs of the model (--log-output)
};

// Called on every rank, with the same losses and norms; listeners may use collectives, as all ranks have the same ones
// in the same order. An error ends the run.
class StepListener {
 public:
  virtual ~StepListener() = default;
  virtual Status OnStep(const StepRecord& record) = 0;
  virtual Status OnEval(const EvalRecord& record) { return Ok(); }  // after OnStep of the step that it stands behind
  virtual Status OnEnd() { return Ok(); }                           // after the last step of a run that had no error
};

// Ends a run whose loss or gradient norm is not finite (CheckFinite), on all ranks alike.
class FiniteCheck : public StepListener {
 public:
  explicit FiniteCheck(Rank* rank);
  Status OnStep(const StepRecord& record) override;

 private:
  Rank* rank_;
  std::string loss_;  // its name
};

struct LoopOptions {
  int64_t steps = 0;  // the number of the last step: a run resumed at step 40 of 100 takes 60
  LearningRate learning_rate;
  data::BatchSource* eval = nullptr;  // evaluated on after every eval_every steps and after the last one
  int64_t eval_every = 0;             // 0: after the last step alone
  int64_t eval_batches = 0;           // 0: all of it
  std::function<bool()> stop;  // asked after each step's listeners; true, on all ranks alike, ends the run as its end
};

// Steps from rank->steps() + 1 to options.steps. All ranks call it. A stream that is over ends it early, which is said.
Status Train(Rank* rank, data::BatchSource* source, const LoopOptions& options,
             const std::vector<StepListener*>& listeners);

}  // namespace autospc::train
