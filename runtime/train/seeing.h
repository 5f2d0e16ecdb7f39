// Tells people and programs of every step: a line on stdout, a bar at the foot of the terminal, metrics files.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "runtime/metrics/event_file.h"
#include "runtime/metrics/metrics_file.h"
#include "runtime/metrics/step_metrics.h"
#include "runtime/train/loop.h"

namespace autospc::train {

// On every rank; rank 0 tells. A metrics file that can't be written any more is warned of once and given up: the
// training goes on.
class Seeing : public StepListener {
 public:
  // All ranks call it, before the first step. `last_step`: of the run. Opens the files of rank->options().see, to go on
  // behind rank->steps(). Errors as theirs.
  static Result<std::unique_ptr<Seeing>> Start(Rank* rank, int64_t last_step);
  ~Seeing() override;

  Status OnStep(const StepRecord& record) override;
  Status OnEval(const EvalRecord& record) override;
  Status OnEnd() override;

 private:
  Seeing(Rank* rank, int64_t last_step) : rank_(rank), last_step_(last_step) {}
  Status MeasureMemory(int64_t step);
  void Print(const std::string& line) const;
  void Record(int64_t step, const metrics::Scalars& fields, const char* group);
  void Progress(const metrics::StepMetrics& m);

  Rank* rank_;
  int64_t last_step_;
  int64_t planned_bytes_ = 0, mapped_bytes_ = 0;  // of this rank
  int64_t most_planned_ = 0, most_measured_ = 0;  // of the rank that has most
  double peak_flops_ = 0;
  double seconds_ = 0;  // of a step, running mean
  bool to_launcher_ = false, to_terminal_ = false;
  std::optional<metrics::MetricsFile> metrics_;
  std::optional<metrics::EventFile> events_;
};

}  // namespace autospc::train
