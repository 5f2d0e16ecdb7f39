// The comparison of a run with a golden file, and golden files made from runs.
#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "runtime/package/dtype.h"
#include "runtime/package/golden.h"
#include "runtime/package/golden_match.h"
#include "runtime/package/strided.h"
#include "runtime/package/ties.h"

namespace autospc {
namespace {

constexpr double kFloor = 1e-4;           // of the whole gradient: below it a tensor's own norm is noise
constexpr int64_t kChunk = int64_t{1} << 14;  // elements converted at a time

struct Sums {
  double difference = 0, computed = 0, reference = 0;  // of squares
};

// `computed.data` may be null: zeros.
Sums Accumulate(const GoldenTensor& reference, const ComputedGradient* computed) {
  Sums sums;
  std::vector<double> g(kChunk), r(kChunk);
  const std::byte* next = reference.data;
  const auto visit = [&](int64_t position, int64_t count) {
    for (int64_t done = 0; done < count; done += kChunk) {
      const int64_t n = std::min(kChunk, count - done);
      // Both are of float types: the conversion can't fail.
      (void)ConvertTo(program::DType::Float64, r.data(), reference.dtype, next, n);
      next += n * ByteSize(reference.dtype);
      if (computed != nullptr) {
        const std::byte* from = static_cast<const std::byte*>(computed->data) + (position + done) * ByteSize(computed->dtype);
        (void)ConvertTo(program::DType::Float64, g.data(), computed->dtype, from, n);
      }
      for (int64_t i = 0; i < n; ++i) {
        sums.difference += (g[i] - r[i]) * (g[i] - r[i]);
        sums.computed += g[i] * g[i];
        sums.reference += r[i] * r[i];
      }
    }
    return true;
  };
  if (CheckedNumel(reference.sizes).value_or(0) == 0) return sums;
  ForEachRun(reference.sizes, computed != nullptr ? computed->strides : ContiguousStrides(reference.sizes), visit);
  return sums;
}

double Relative(double value, double reference) {
  return reference == 0 ? std::abs(value) : std::abs(value - reference) / std::abs(reference);
}

std::string Number(double value) { return std::isnan(value) ? "nan" : fmt::format("{:.3e}", value); }

// The larger of two errors, NaN being the largest.
double Worse(double a, double b) { return std::isnan(a) || a > b ? a : b; }

}  // namespace

Result<GoldenComparison> CompareWithGolden(const GoldenFile& golden, double loss,
                                           const std::vector<ComputedGradient>& gradients,
                                           const program::ProgramT& program, double rtol) {
  for (const ComputedGradient& gradient : gradients)
    if (!IsFloat(gradient.dtype))
      return Error{Code::kFailed, fmt::format("a gradient of type {}", Name(gradient.dtype)), gradient.name, ""};
  ASSIGN_OR_RETURN(const std::vector<int> matched, MatchGradients(golden, gradients, program));
  GoldenComparison result;
  result.rtol = rtol;
  std::vector<double> differences;
  double computed = 0, reference = 0;
  for (size_t i = 0; i < matched.size(); ++i) {
    const GoldenTensor& tensor = golden.gradients()[i];
    const Sums sums = Accumulate(tensor, matched[i] < 0 ? nullptr : &gradients[matched[i]]);
    computed += sums.computed;
    reference += sums.reference;
    differences.push_back(std::sqrt(sums.difference));
    result.rows.push_back({tensor.name, 0, std::sqrt(sums.computed), std::sqrt(sums.reference)});
  }
  result.grad_norm = std::sqrt(computed);
  result.reference_grad_norm = std::sqrt(reference);
  result.grad_norm_error = Relative(result.grad_norm, result.reference_grad_norm);
  for (size_t i = 0; i < result.rows.size(); ++i) {
    const double scale = std::max(result.rows[i].reference_norm, kFloor * result.reference_grad_norm);
    // A reference that is zero everywhere has no scale: then any difference counts as it is.
    result.rows[i].error = scale == 0 ? differences[i] : differences[i] / scale;
  }
  std::sort(result.rows.begin(), result.rows.end(), [](const auto& a, const auto& b) {
    const auto key = [](const auto& row) { return std::make_tuple(!std::isnan(row.error), std::isnan(row.error) ? 0 : -row.error, row.name); };
    return key(a) < key(b);
  });
  result.loss = loss;
  result.reference_loss = golden.loss();
  result.loss_error = Relative(loss, golden.loss());
  return result;
}

double GoldenComparison::worst_error() const {
  const double worst = Worse(loss_error, grad_norm_error);
  return rows.empty() ? worst : Worse(rows.front().error, worst);
}

bool GoldenComparison::passed() const { return worst_error() <= rtol; }

std::string GoldenComparison::Table(size_t max_rows) const {
  std::string text = fmt::format("{:<57} {:>10} {:>15} {:>15}\n", "", "error", "computed", "golden");
  const auto line = [&](std::string name, double error, double value, double reference) {
    if (name.size() > 54) name = "..." + name.substr(name.size() - 51);
    text += fmt::format("{} {:<55} {:>10} {:>15.9g} {:>15.9g}\n", error <= rtol ? " " : "!", name, Number(error), value,
                        reference);
  };
  line("loss", loss_error, loss, reference_loss);
  line("gradient norm", grad_norm_error, grad_norm, reference_grad_norm);
  for (size_t i = 0; i < std::min(max_rows, rows.size()); ++i)
    line("grad." + rows[i].name, rows[i].error, rows[i].norm, rows[i].reference_norm);
  if (rows.size() > max_rows) text += fmt::format("  and {} more gradients, none worse\n", rows.size() - max_rows);
  if (passed()) {
    text += fmt::format("passed: {} gradients, worst error {}", rows.size(), Number(worst_error()));
    if (!rows.empty()) text += fmt::format(" (worst gradient: {})", rows.front().name);
  } else {
    const auto failed = std::count_if(rows.begin(), rows.end(), [&](const Row& row) { return !(row.error <= rtol); });
    text += fmt::format("FAILED: {} of {} gradients", failed, rows.size());
    if (!(loss_error <= rtol)) text += ", the loss";
    if (!(grad_norm_error <= rtol)) text += ", the gradient norm";
    if (!rows.empty()) text += fmt::format("; the worst gradient is {} with {}", rows.front().name, Number(rows.front().error));
  }
  return text + fmt::format("; tolerance {}\n", Number(rtol));
}

Status WriteGolden(const std::string& path, const std::vector<GoldenTensor>& inputs, double loss,
                   const std::vector<ComputedGradient>& gradients, const program::ProgramT& program) {
  std::vector<TensorToWrite> tensors = {{"loss", program::DType::Float64, {}, &loss, nullptr}};
  for (const GoldenTensor& input : inputs)
    tensors.push_back({"in." + input.name, input.dtype, input.sizes, input.data, nullptr});
  const TieGroups ties(program.aliases);
  std::set<std::string> tied;
  for (const ComputedGradient& gradient : gradients) {
    const std::vector<std::string> names = ties.Names(gradient.name);
    tied.insert(names.begin() + 1, names.end());
    TensorToWrite tensor{"grad." + gradient.name, gradient.dtype, gradient.sizes, nullptr, nullptr};
    tensor.produce = [gradient](const ByteSink& sink) -> Status {
      if (CheckedNumel(gradient.sizes).value_or(0) == 0) return Ok();
      Status status = Ok();
      ForEachRun(gradient.sizes, gradient.strides, [&](int64_t position, int64_t count) {
        const int64_t element = ByteSize(gradient.dtype);
        status = sink(static_cast<const std::byte*>(gradient.data) + position * element, count * element);
        return status.ok();
      });
      return status;
    };
    tensors.push_back(std::move(tensor));
  }
  std::string list;
  for (const std::string& name : tied) list += (list.empty() ? "" : ",") + name;
  return WriteSafetensors(path, std::move(tensors), {{"tied", list}, {"made-by", program.compiler}});
}

}  // namespace autospc
