// What is told of a step, to people and to programs.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace autospc::metrics {

using Scalars = std::vector<std::pair<std::string, double>>;  // in the order in which they are told

// NaN and 0 bytes: not known, left out.
struct StepMetrics {
  int64_t step = 0;
  double loss = NAN, grad_norm = NAN, lr = NAN;
  int64_t tokens = 0;       // of the global batch
  double seconds = NAN;     // of the step, with all that it waits for but its data
  double data_seconds = 0;  // waiting for the batch
  double mfu = NAN;         // FLOPs utilisation: a rank's FLOP/s, of what is computed again too, over the peak of what it runs on
  // A rank's memory, of the rank that has most: all that the plan knows (weights, states, arena), and what the process
  // has grown by since it began. Bytes.
  int64_t planned_bytes = 0, measured_bytes = 0;
  Scalars outputs;  // further scalar outputs of the model (--log-output)

  double tokens_per_second() const { return static_cast<double>(tokens) / (seconds + data_seconds); }
};

struct EvalMetrics {
  int64_t step = 0;  // after which step
  double loss = NAN, perplexity = NAN;
  int64_t batches = 0, tokens = 0;
  double seconds = NAN;
};

// "step  12  loss 3.465736  grad_norm 1.2345  lr 0.001  12.3k tokens/s  mfu 34.5%  memory 1.04 of 1.06 GiB  0.512 s",
// without its newline. Step numbers are as wide as that of `last_step`, the run's last one.
std::string StepLine(const StepMetrics& metrics, int64_t last_step);
std::string EvalLine(const EvalMetrics& metrics, int64_t last_step);

// The same for programs, without the step.
Scalars StepFields(const StepMetrics& metrics);
Scalars EvalFields(const EvalMetrics& metrics);

// {"step": 12, "loss": 3.4657359, …}: one line with its newline. Numbers read back as they were; what JSON can't
// say (NaN, infinity) is null.
std::string JsonLine(int64_t step, const Scalars& fields);

// "950", "12.3k", "4.56M": three digits, powers of 1000.
std::string ShortNumber(double value);

}  // namespace autospc::metrics
