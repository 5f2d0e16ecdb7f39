// metrics.jsonl: one JSON object a line, one or two lines a step (training, evaluation), each step once and in order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/base/result.h"
#include "runtime/metrics/append_file.h"
#include "runtime/metrics/step_metrics.h"

namespace autospc::metrics {

class MetricsFile {
 public:
  // Keeps the lines of an existing file up to the first one of a step >= first_step: a run that goes on from a
  // checkpoint tells the steps behind it anew. A line that was cut off by a crash goes too. A device or a pipe is
  // written to as it is. kBadInput: what is there holds other lines than ours; kFailed: it can't be written.
  static Result<MetricsFile> Open(const std::string& path, int64_t first_step);

  const std::string& path() const { return file_.path(); }
  Status Write(int64_t step, const Scalars& fields) { return file_.Append(JsonLine(step, fields)); }

 private:
  explicit MetricsFile(AppendFile file) : file_(std::move(file)) {}
  AppendFile file_;
};

// Whether opening `path` for a run that begins anew would remove something.
bool HoldsMetrics(const std::string& path);

// The step of a line, nullopt where it is none of ours.
std::optional<int64_t> StepOfLine(const std::string& line);

}  // namespace autospc::metrics
