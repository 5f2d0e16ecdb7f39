#include "compiler/fit.h"
#include "compiler/planner.h"
#include "runtime/base/bytes.h"
#include "runtime/base/log.h"

namespace autospc {
namespace {

constexpr int kBuffers = 10;

std::string LabelOf(const Compiled& compiled, const Setting& setting) {
  for (const PlanPoint& point : compiled.curve) {
    if (point.chosen) return point.label;
  }
  return setting.recompute;
}

}  // namespace

std::string Setting::RanksFlag() const {
  return dp == 1 ? fmt::format("--ranks {}", ranks) : fmt::format("--mesh dp={},sp={}", dp, ranks / dp);
}

Trials::Trials(import::Model model, CompileOptions options) : model_(std::move(model)), options_(std::move(options)) {
  options_.smallest_anyway = true;
}

Result<const Trial*> Trials::Run(const Setting& setting) {
  if (const auto it = trials_.find(setting); it != trials_.end()) return &it->second;
  CompileOptions options = options_;
  options.bindings.seq_len = setting.seq_len;
  options.context.ranks = setting.ranks;
  options.context.dp = setting.dp;
  options.context.zero = setting.zero;
  options.context.recompute = setting.recompute;
  options.context.tile = setting.tile;
  if (setting.parts > 1) {
    options.bindings.batch = options.bindings.batch.value_or(setting.parts) / setting.parts;
    options.context.micro_batches *= setting.parts;
  }
  options.curve = curves;
  ASSIGN_OR_RETURN(const Compiled compiled, CompileModel(model_, options));
  const int64_t budget = options.context.memory_budget;
  Trial trial;
  trial.setting = setting;
  trial.seq_len = compiled.program.seq_len;
  trial.batch = compiled.program.batch;
  trial.micro_batches = options.context.micro_batches;
  trial.memory = codegen::ReportMemory(compiled.program, kBuffers);
  trial.cost = compiled.cost;
  trial.curve = compiled.curve;
  trial.chosen = LabelOf(compiled, setting);
  trial.fits = budget == 0 || trial.memory.total_bytes() <= budget;
  if (!trial.fits) trial.why = DoesNotFit(compiled.program, budget, compiled.program.name);
  Progress(fmt::format("{} rank{}{}, {} tokens{}: {} a rank, {}", setting.ranks, setting.ranks == 1 ? "" : "s",
                       setting.dp > 1 ? fmt::format(" (dp {})", setting.dp) : "", trial.seq_len,
                       setting.zero > 0 ? fmt::format(", ZeRO {}", setting.zero) : "", FormatBytes(trial.memory.total_bytes()),
                       trial.fits ? "fits" : "does not fit"));
  return &trials_.emplace(setting, std::move(trial)).first->second;
}

Status Trials::CheckLength(std::optional<int64_t> seq_len) const {
  import::Model copy = model_;
  import::Bindings bindings = options_.bindings;
  bindings.seq_len = seq_len;
  const Result<import::Bound> bound = import::BindSizes(&copy, bindings);
  if (!bound.ok()) return bound.error();
  return Ok();
}

}  // namespace autospc
