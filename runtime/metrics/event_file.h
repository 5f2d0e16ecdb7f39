// TensorBoard's event files: records framed as TFRecords (length, masked CRC-32C, data, masked CRC-32C), each an Event
// message of tensorflow/core/util/event.proto, of which scalars need five fields: written by hand here, since protobuf
// is a large library for that.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/base/result.h"
#include "runtime/metrics/append_file.h"
#include "runtime/metrics/step_metrics.h"

namespace autospc::metrics {

class EventFile {
 public:
  // A new file in `folder`, which is made if absent, named as TensorBoard looks for and behind those that are there.
  // TensorBoard then drops what earlier files say of steps >= first_step. kFailed: it can't be written.
  static Result<EventFile> Create(const std::string& folder, int64_t first_step);

  const std::string& path() const { return file_.path(); }
  // Scalars by tag ("train/loss"); not finite ones stay as they are, and are drawn as gaps. Seconds since 1970.
  Status Write(int64_t step, double wall_time, const Scalars& scalars);

 private:
  explicit EventFile(AppendFile file) : file_(std::move(file)) {}
  AppendFile file_;
};

// The pieces, for tests: a TFRecord around `data`, and CRC-32C (Castagnoli), which protects it.
std::string TfRecord(std::string_view data);
uint32_t Crc32c(std::string_view data);

}  // namespace autospc::metrics
