#include "runtime/train/seeing.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "runtime/base/log.h"
#include "runtime/base/status_line.h"
#include "runtime/metrics/progress_bar.h"
#include "runtime/train/load.h"
#include "runtime/train/memory_probe.h"
#include "runtime/train/peak_flops.h"
#include "runtime/train/rank.h"

namespace autospc::train {
namespace {

double Now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

// Memory hardly changes from step to step: it is asked for at the first ones, at powers of two, then at every 256th.
bool MeasuresAt(int64_t step) { return step <= 2 || (step & (step - 1)) == 0 || step % 256 == 0; }

// Seconds since this process began, within a hundredth; NaN where the system does not tell.
double SecondsSinceStart() {
  std::ifstream file("/proc/self/stat");
  std::string text;
  std::getline(file, text);
  std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 2)));  // behind the name, which may hold anything
  std::string field;
  for (int i = 0; i < 20; ++i) fields >> field;  // of proc(5)'s fields the 22nd, starttime
  const double ticks = fields ? std::strtod(field.c_str(), nullptr) : NAN;
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec) - ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

Status CheckOutputs(const SeeOptions& options, bool resumed) {
  namespace fs = std::filesystem;
  for (const auto& [flag, path] : {std::pair("--metrics", options.metrics), {"--trace", options.trace}}) {
    if (path.empty()) continue;
    std::error_code error;
    const fs::path parent = fs::path(path).has_parent_path() ? fs::path(path).parent_path() : fs::path(".");
    if (!fs::is_directory(parent, error)) return Error{Code::kUsage, fmt::format("{}: its folder does not exist", flag), path, "make it first"};
    if (fs::is_directory(path, error)) return Error{Code::kUsage, fmt::format("{} names a folder", flag), path, "name a file"};
  }
  if (!options.metrics.empty() && !resumed && metrics::HoldsMetrics(options.metrics)) {
    return Error{Code::kUsage, "--metrics: the file holds the steps of another run", options.metrics,
                 "name another one, or remove it; a run that goes on from a checkpoint goes on in it"};
  }
  return Ok();
}

Result<std::unique_ptr<Seeing>> Seeing::Start(Rank* rank, int64_t last_step) {
  auto seeing = std::unique_ptr<Seeing>(new Seeing(rank, last_step));
  const SeeOptions& options = rank->options().see;
  const program::ProgramT& program = rank->program();
  seeing->planned_bytes_ = program.arena_bytes;
  for (const auto& storage : program.storages) {
    if (storage->arena_offset < 0) seeing->planned_bytes_ += storage->bytes;
  }
  const bool on_host = rank->executor().device().is_cpu();
  for (const auto& [storage, data] : on_host ? MappedStorages(rank->package(), rank->options().weights) : std::map<int, void*>()) {
    seeing->mapped_bytes_ += program.storages[storage]->bytes;
  }
  const program::DType type = ProductType(program);
  seeing->peak_flops_ = options.peak_flops > 0 ? options.peak_flops : MeasurePeakFlops(type, rank->executor().device());
  if (!rank->first()) return seeing;
  const int64_t first_step = rank->steps() + 1;
  if (!options.metrics.empty()) {
    ASSIGN_OR_RETURN(metrics::MetricsFile file, metrics::MetricsFile::Open(options.metrics, first_step));
    seeing->metrics_.emplace(std::move(file));
  }
  if (!options.tensorboard.empty()) {
    ASSIGN_OR_RETURN(metrics::EventFile file, metrics::EventFile::Create(options.tensorboard, first_step));
    seeing->events_.emplace(std::move(file));
  }
  seeing->to_launcher_ = std::getenv(metrics::kWantsProgress) != nullptr;
  seeing->to_terminal_ = !seeing->to_launcher_ && HasStatusLine();
  std::string ready = fmt::format("ready after {:.2f} s", SecondsSinceStart());
  if (seeing->peak_flops_ > 0 && program.flops > 0) {
    const std::string from = options.peak_flops > 0 ? std::string("as given")
                                                    : fmt::format("what a {} product reaches here", program::EnumNameDType(type));
    ready += fmt::format("; a rank's step is {}FLOP, and mfu against {}FLOP/s, {}", metrics::ShortNumber(program.flops),
                         metrics::ShortNumber(seeing->peak_flops_), from);
  }
  Log(LogLevel::kInfo, ready);
  return seeing;
}

Seeing::~Seeing() {
  if (to_terminal_) EndStatusLine();
}

Status Seeing::MeasureMemory(int64_t step) {
  if (!MeasuresAt(step)) return Ok();
  ASSIGN_OR_RETURN(const ProcessMemory memory, ReadProcessMemory());
  struct Shared {
    int64_t planned = 0, measured = 0;
  };
  // Resident pages of files are code, libraries and data; the mapped weights alone are in the plan. On a GPU it is the most
  // that LibTorch's allocator there gave out in the step.
  const c10::Device device = rank_->executor().device();
  const Shared mine{planned_bytes_, device.is_cpu() ? memory.anonymous - AnonymousAtStart() + mapped_bytes_ : exec::UseOf(device).peak};
  std::vector<Shared> all(static_cast<size_t>(rank_->communicator().size()));
  RETURN_IF_ERROR(rank_->communicator().AllGather(&mine, all.data(), sizeof(Shared)));
  for (const Shared& shared : all) {
    most_planned_ = std::max(most_planned_, shared.planned);
    most_measured_ = std::max(most_measured_, shared.measured);
  }
  return Ok();
}

Status Seeing::OnStep(const StepRecord& record) {
  RETURN_IF_ERROR(MeasureMemory(record.step));
  if (!rank_->first()) return Ok();
  metrics::StepMetrics m;
  m.step = record.step;
  m.loss = record.loss;
  m.grad_norm = record.grad_norm;
  m.lr = record.lr;
  m.tokens = record.tokens;
  m.seconds = record.seconds;
  m.data_seconds = record.data_seconds;
  m.outputs = record.outputs;
  if (peak_flops_ > 0 && rank_->program().flops > 0) {
    m.mfu = rank_->program().flops / (record.seconds + record.data_seconds) / peak_flops_;
  }
  m.planned_bytes = most_planned_;
  m.measured_bytes = most_measured_;
  const metrics::Scalars fields = metrics::StepFields(m);
  Print(rank_->options().json ? metrics::JsonLine(m.step, fields) : metrics::StepLine(m, last_step_) + "\n");
  Record(m.step, fields, "train");
  Progress(m);
  return Ok();
}

Status Seeing::OnEval(const EvalRecord& record) {
  if (!rank_->first()) return Ok();
  const metrics::EvalMetrics m{record.step, record.loss, record.perplexity, record.batches, record.tokens, record.seconds};
  const metrics::Scalars fields = metrics::EvalFields(m);
  Print(rank_->options().json ? metrics::JsonLine(m.step, fields) : metrics::EvalLine(m, last_step_) + "\n");
  Record(m.step, fields, "eval");
  return Ok();
}

Status Seeing::OnEnd() {
  if (to_terminal_) EndStatusLine();
  return Ok();
}

void Seeing::Print(const std::string& line) const {
  std::fflush(stdout);
  WriteAbove(STDOUT_FILENO, line);
}

void Seeing::Record(int64_t step, const metrics::Scalars& fields, const char* group) {
  const double now = Now();
  const auto give_up = [](const Status& status) {
    Error error = status.error();
    Log(LogLevel::kWarning, fmt::format("{} ({}): no further steps are written to it", error.what, error.where));
  };
  if (metrics_) {
    metrics::Scalars timed = fields;
    timed.emplace_back("time", now);
    if (const Status status = metrics_->Write(step, timed); !status.ok()) {
      give_up(status);
      metrics_.reset();
    }
  }
  if (events_) {
    metrics::Scalars tagged = fields;
    for (auto& [name, value] : tagged) name = fmt::format("{}/{}", group, name);
    if (const Status status = events_->Write(step, now, tagged); !status.ok()) {
      give_up(status);
      events_.reset();
    }
  }
}

void Seeing::Progress(const metrics::StepMetrics& m) {
  if (!to_launcher_ && !to_terminal_) return;
  const double seconds = m.seconds + m.data_seconds;
  seconds_ = seconds_ == 0 ? seconds : 0.9 * seconds_ + 0.1 * seconds;
  const metrics::ProgressState state{m.step, last_step_, m.loss, m.tokens > 0 ? m.tokens_per_second() : 0,
                                     seconds_ * static_cast<double>(last_step_ - m.step)};
  if (to_launcher_) {
    WriteAbove(STDERR_FILENO, metrics::EncodeProgress(state));
  } else {
    SetStatusLine([state](int columns) { return metrics::BarText(state, columns, ColorAllowed()); });
  }
}

}  // namespace autospc::train
