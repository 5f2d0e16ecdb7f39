#include "runtime/metrics/metrics_file.h"

#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

namespace autospc::metrics {
namespace {

namespace fs = std::filesystem;

// Bytes of the file's beginning that stay.
Result<uintmax_t> LengthToKeep(const std::string& path, int64_t first_step) {
  std::ifstream in(path, std::ios::binary);
  uintmax_t keep = 0;
  int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (in.eof()) break;  // no newline: it was cut off
    const std::optional<int64_t> step = StepOfLine(line);
    if (!step) {
      return Error{Code::kBadInput, fmt::format("line {} is no JSON object with a \"step\"", number), path,
                   "is it another file? name one of autosp-run's, or a new one"};
    }
    if (*step >= first_step) break;
    keep += line.size() + 1;
  }
  return keep;
}

}  // namespace

std::optional<int64_t> StepOfLine(const std::string& line) {
  const nlohmann::json object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return std::nullopt;
  const auto step = object.find("step");
  if (step == object.end() || !step->is_number_integer()) return std::nullopt;
  return step->get<int64_t>();
}

bool HoldsMetrics(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) && fs::file_size(path, error) > 0;
}

Result<MetricsFile> MetricsFile::Open(const std::string& path, int64_t first_step) {
  std::error_code error;
  if (fs::is_regular_file(path, error)) {
    ASSIGN_OR_RETURN(const uintmax_t keep, LengthToKeep(path, first_step));
    if (keep != fs::file_size(path, error)) fs::resize_file(path, keep, error);
    if (error) return Error{Code::kFailed, "cannot write: " + error.message(), path, "may this user write there?"};
  }
  ASSIGN_OR_RETURN(AppendFile file, AppendFile::Open(path));
  return MetricsFile(std::move(file));
}

}  // namespace autospc::metrics
