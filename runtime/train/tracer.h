// Records when each instruction of a few steps ran, on every rank, and writes them as one trace (--trace).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/exec/executor.h"
#include "runtime/metrics/clocks.h"
#include "runtime/metrics/trace.h"
#include "runtime/train/loop.h"

namespace autospc::train {

class Tracer : public StepListener, public exec::Observer {
 public:
  // From step `first` to step `last`, counted from the next one of this rank; written by rank 0 as soon as the last of
  // them, or the run, is over. All ranks call it; `rank` outlives the tracer, the tracer the steps.
  static Result<std::unique_ptr<Tracer>> Start(Rank* rank, const std::string& path, int64_t first, int64_t last);

  void Before(size_t instruction) override;
  void After(size_t instruction) override;
  Status OnStep(const StepRecord& record) override;
  Status OnEnd() override { return written_ ? Ok() : Write(); }

 private:
  Tracer(Rank* rank, std::string path, int64_t first, int64_t last)
      : rank_(rank), path_(std::move(path)), first_(first), last_(last) {}
  Status ReadClocks();
  Status Write();

  Rank* rank_;
  std::string path_;
  int64_t first_, last_;  // numbers of steps
  bool written_ = false;
  std::vector<metrics::Span> spans_;
  size_t step_begin_ = 0;  // of the step that runs, its first span
  std::vector<std::vector<metrics::ClockReading>> clocks_;  // [rank][round], on every rank
};

}  // namespace autospc::train
