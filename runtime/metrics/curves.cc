// Metrics files as curves.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include <fmt/ranges.h>

#include "runtime/base/files.h"
#include "runtime/metrics/plot.h"

namespace autospc::metrics {
namespace {

namespace fs = std::filesystem;

std::vector<std::pair<double, double>> Points(const std::map<int64_t, double>& by_step) {
  std::vector<std::pair<double, double>> points;
  for (const auto& [step, value] : by_step) points.emplace_back(static_cast<double>(step), value);
  return points;
}

// The last `parts` parts of a path.
std::string Tail(const fs::path& path, size_t parts) {
  std::vector<fs::path> all(path.begin(), path.end());
  fs::path tail;
  for (size_t i = all.size() - std::min(parts, all.size()); i < all.size(); ++i) tail /= all[i];
  return tail.string();
}

}  // namespace

Result<Curve> ReadCurve(const std::string& path, const std::string& field) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  std::map<int64_t, double> values, marks;
  std::set<std::string> fields;
  bool has_field = false;
  int64_t number = 0;
  for (std::string_view rest = file.text(); !rest.empty();) {
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) break;  // being written, or cut off
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    ++number;
    const auto object = nlohmann::json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
    const auto step = object.is_object() ? object.find("step") : object.end();
    if (!object.is_object() || step == object.end() || !step->is_number_integer()) {
      return Error{Code::kBadInput, fmt::format("line {} is no JSON object with a \"step\"", number), path,
                   "give a file that autosp-run --metrics wrote"};
    }
    for (const auto& [name, value] : object.items()) {
      if (name == "step") continue;
      fields.insert(name);
      const bool mark = field == "loss" && name == "eval_loss";
      if (name != field && !mark) continue;
      has_field = true;
      if (!value.is_number() || !std::isfinite(value.get<double>())) continue;
      (mark ? marks : values)[step->get<int64_t>()] = value.get<double>();
    }
  }
  if (values.empty() && marks.empty()) {
    const std::string what = number == 0   ? "the file holds no steps"
                             : !has_field ? fmt::format("no step has a \"{}\"", field)
                                          : fmt::format("no step has a finite \"{}\"", field);
    return Error{Code::kBadInput, what, path,
                 fields.empty() ? "has the run taken a step yet?" : fmt::format("its fields are {}", fmt::join(fields, ", "))};
  }
  return Curve{path, Points(values), Points(marks)};
}

std::vector<std::string> CurveNames(const std::vector<std::string>& paths) {
  std::vector<std::string> names;
  for (size_t parts = 1;; ++parts) {
    names.clear();
    for (const std::string& path : paths) names.push_back(Tail(fs::path(path).lexically_normal(), parts));
    const std::set<std::string> distinct(names.begin(), names.end());
    if (distinct.size() == names.size() || parts >= 16) return names;
  }
}

}  // namespace autospc::metrics
