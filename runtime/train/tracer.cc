#include "runtime/train/tracer.h"

#include <array>
#include <chrono>
#include <cstring>
#include <fstream>

#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "runtime/train/rank.h"

namespace autospc::train {
namespace {

constexpr int kRounds = 24;  // of exchanged clocks, before and after the steps

int64_t Now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The same on ranks that share a machine, and with it a clock.
std::array<char, 64> MachineId() {
  std::array<char, 64> id{};
  std::ifstream("/proc/sys/kernel/random/boot_id").read(id.data(), id.size() - 1);
  return id;
}

}  // namespace

Result<std::unique_ptr<Tracer>> Tracer::Start(Rank* rank, const std::string& path, int64_t first, int64_t last) {
  const int64_t done = rank->steps();
  auto tracer = std::unique_ptr<Tracer>(new Tracer(rank, path, done + first, done + last));
  // Taken now, so that the steps do not wait for memory: an instruction once a micro-batch, and what a step reads.
  const auto times = static_cast<size_t>(rank->micro_batches() * (last - first + 1));
  tracer->spans_.reserve((rank->program().instructions.size() + 1) * times);
  tracer->clocks_.resize(static_cast<size_t>(rank->communicator().size()));
  RETURN_IF_ERROR(tracer->ReadClocks());
  rank->executor().AddObserver(tracer.get());
  return tracer;
}

Status Tracer::ReadClocks() {
  const auto ranks = static_cast<size_t>(rank_->communicator().size());
  std::vector<metrics::ClockReading> all(ranks);
  for (int round = 0; round < kRounds; ++round) {
    metrics::ClockReading mine{Now(), 0};
    RETURN_IF_ERROR(rank_->communicator().AllGather(&mine, all.data(), sizeof(mine)));
    mine.received = Now();
    RETURN_IF_ERROR(rank_->communicator().AllGather(&mine, all.data(), sizeof(mine)));
    for (size_t r = 0; r < ranks; ++r) clocks_[r].push_back(all[r]);
  }
  return Ok();
}

void Tracer::Before(size_t instruction) {
  const int64_t step = rank_->steps() + 1;
  if (step < first_ || step > last_) return;
  spans_.push_back({step, static_cast<int64_t>(instruction), Now(), 0});
}

void Tracer::After(size_t instruction) {
  const int64_t step = rank_->steps() + 1;
  if (step < first_ || step > last_) return;
  spans_.back().end = Now();
}

Status Tracer::OnStep(const StepRecord& record) {
  if (record.step < first_ || record.step > last_ || spans_.size() == step_begin_) return Ok();
  const int64_t begin = spans_[step_begin_].start;
  // Before the first micro-batch; the others' data are gaps.
  const double seconds = record.data_seconds / static_cast<double>(rank_->micro_batches());
  const metrics::Span data{record.step, metrics::Span::kData, begin - static_cast<int64_t>(1e9 * seconds), begin};
  spans_.insert(spans_.begin() + static_cast<int64_t>(step_begin_), data);
  step_begin_ = spans_.size();
  return record.step == last_ ? Write() : Ok();
}

Status Tracer::Write() {
  written_ = true;
  if (spans_.empty()) {
    if (rank_->first()) Log(LogLevel::kWarning, fmt::format("{} is not written: no step from {} to {} was taken", path_, first_, last_));
    return Ok();
  }
  RETURN_IF_ERROR(ReadClocks());
  Communicator& communicator = rank_->communicator();
  const auto ranks = static_cast<size_t>(communicator.size());
  const std::array<char, 64> id = MachineId();
  std::vector<std::array<char, 64>> ids(ranks);
  RETURN_IF_ERROR(communicator.AllGather(id.data(), ids.data(), sizeof(id)));
  std::vector<metrics::Span> all(spans_.size() * ranks);
  RETURN_IF_ERROR(communicator.AllGather(spans_.data(), all.data(), static_cast<int64_t>(spans_.size() * sizeof(metrics::Span))));
  if (!rank_->first()) return Ok();
  const std::vector<metrics::ClockOffset> offsets = metrics::AlignClocks(clocks_);
  std::vector<metrics::RankTrace> traces(ranks);
  for (size_t r = 0; r < ranks; ++r) {
    const bool same = ids[r] == ids[0] && ids[r][0] != '\0';
    traces[r].clock_offset = same ? 0 : offsets[r].nanoseconds;
    traces[r].clock_error = same ? 0 : offsets[r].error;
    traces[r].spans.assign(all.begin() + static_cast<int64_t>(r * spans_.size()),
                           all.begin() + static_cast<int64_t>((r + 1) * spans_.size()));
  }
  RETURN_IF_ERROR(WriteFileAtomically(path_, metrics::TraceJson(rank_->program(), traces), /*durable=*/false));
  Log(LogLevel::kInfo, fmt::format("wrote {}: steps {} to {} of {} ranks; open it at ui.perfetto.dev", path_,
                                   spans_.front().step, spans_.back().step, ranks));
  return Ok();
}

}  // namespace autospc::train
