#include "runtime/metrics/step_metrics.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "runtime/base/bytes.h"

namespace autospc::metrics {
namespace {

// "1.04 of 1.06 GiB", or with both units where they differ.
std::string Of(int64_t part, int64_t whole) {
  const std::string a = FormatBytes(part), b = FormatBytes(whole);
  const size_t space_a = a.find(' '), space_b = b.find(' ');
  const bool alike = space_a != std::string::npos && space_b != std::string::npos && a.substr(space_a) == b.substr(space_b);
  return fmt::format("{} of {}", alike ? a.substr(0, space_a) : a, b);
}

std::string StepName(int64_t step, int64_t last_step) {
  return fmt::format("step {:>{}}", step, std::max<size_t>(3, std::to_string(last_step).size()));
}

// A NaN's sign says nothing.
double Unsigned(double value) { return std::isnan(value) ? NAN : value; }

std::string Json(double value) {
  if (!std::isfinite(value)) return "null";
  if (value == std::floor(value) && std::abs(value) < 9007199254740992.0) return fmt::format("{:.0f}", value);
  return fmt::format("{}", value);
}

std::string Quoted(const std::string& name) {
  std::string text = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') text += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      text += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      text += c;
    }
  }
  return text + "\"";
}

}  // namespace

std::string ShortNumber(double value) {
  constexpr std::array<const char*, 7> kUnits = {"", "k", "M", "G", "T", "P", "E"};
  if (!std::isfinite(value)) return fmt::format("{}", value);
  size_t unit = 0;
  // 999.5 would be rounded to 1000: it is 1.00 of the next unit.
  while (std::abs(value) >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  const double size = std::abs(value);
  const int digits = size >= 99.95 || (unit == 0 && value == std::floor(value)) ? 0 : size >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f}{}", value, digits, kUnits[unit]);
}

std::string StepLine(const StepMetrics& m, int64_t last_step) {
  std::string line = fmt::format("{}  loss {:<11.7g}  grad_norm {:<10.6g}", StepName(m.step, last_step), Unsigned(m.loss),
                                 Unsigned(m.grad_norm));
  if (!std::isnan(m.lr)) line += fmt::format("  lr {:<8.4g}", m.lr);
  for (const auto& [name, value] : m.outputs) line += fmt::format("  {} {:<9.6g}", name, Unsigned(value));
  if (m.tokens > 0 && m.seconds > 0) line += fmt::format("  {:>5} tokens/s", ShortNumber(m.tokens_per_second()));
  if (!std::isnan(m.mfu)) line += fmt::format("  mfu {:>5.1f}%", 100 * m.mfu);
  if (m.planned_bytes > 0 && m.measured_bytes > 0) {
    line += fmt::format("  memory {}", Of(m.measured_bytes, m.planned_bytes));
  } else if (m.planned_bytes > 0) {
    line += fmt::format("  memory {}", FormatBytes(m.planned_bytes));
  }
  return line + fmt::format("  {:.3f} s", m.seconds + m.data_seconds);
}

std::string EvalLine(const EvalMetrics& m, int64_t last_step) {
  return fmt::format("{}  eval_loss {:<9.7g}  perplexity {:.6g}  ({} batches, {:.3f} s)", StepName(m.step, last_step),
                     m.loss, m.perplexity, m.batches, m.seconds);
}

Scalars StepFields(const StepMetrics& m) {
  Scalars fields = {{"loss", m.loss}, {"grad_norm", m.grad_norm}};
  if (!std::isnan(m.lr)) fields.emplace_back("lr", m.lr);
  for (const auto& [name, value] : m.outputs) fields.emplace_back(name, value);
  if (m.tokens > 0) fields.emplace_back("tokens", static_cast<double>(m.tokens));
  if (m.tokens > 0 && m.seconds > 0) fields.emplace_back("tokens_per_second", m.tokens_per_second());
  if (!std::isnan(m.mfu)) fields.emplace_back("mfu", m.mfu);
  if (m.planned_bytes > 0) fields.emplace_back("planned_bytes", static_cast<double>(m.planned_bytes));
  if (m.measured_bytes > 0) fields.emplace_back("measured_bytes", static_cast<double>(m.measured_bytes));
  fields.emplace_back("seconds", m.seconds);
  fields.emplace_back("data_seconds", m.data_seconds);
  return fields;
}

Scalars EvalFields(const EvalMetrics& m) {
  return {{"eval_loss", m.loss},
          {"perplexity", m.perplexity},
          {"eval_tokens", static_cast<double>(m.tokens)},
          {"eval_seconds", m.seconds}};
}

std::string JsonLine(int64_t step, const Scalars& fields) {
  std::string line = fmt::format("{{\"step\": {}", step);
  for (const auto& [name, value] : fields) line += fmt::format(", {}: {}", Quoted(name), Json(value));
  return line + "}\n";
}

}  // namespace autospc::metrics
