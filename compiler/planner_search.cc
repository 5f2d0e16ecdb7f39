#include <algorithm>

#include "compiler/planner.h"
#include "runtime/base/bytes.h"
#include "runtime/package/micro_batches.h"

namespace autospc {
namespace {

constexpr int64_t kLeast = 64;            // tokens of the shortest length tried
constexpr int64_t kFirst = 1024;          // where doubling begins, if the export allows it
constexpr int64_t kMost = int64_t{1} << 40;
constexpr int kResolution = 128;          // the answer is within this part of its length
constexpr int kMoreRanks = 64;

// The lengths of an export that a search goes over: multiples of `grain` that every rank holds equal rows of, and the
// longest that the export allows.
struct Lengths {
  int64_t grain = kLeast;
  int64_t most = 0;   // the longest; 0: none of them
  std::string limit;  // why not more; empty: nothing but kMost
  bool fixed = false; // by the export
};

Result<Lengths> FindLengths(const Trials& trials, int ranks) {
  Lengths lengths;
  if (trials.CheckLength(std::nullopt).ok()) {
    lengths.fixed = true;
    lengths.limit = "the export fixes the length; export with a dynamic sequence for others";
    return lengths;
  }
  lengths.grain = (kLeast + ranks - 1) / ranks * ranks;
  const auto allowed = [&](int64_t multiple) { return trials.CheckLength(multiple * lengths.grain).ok(); };
  if (trials.CheckLength(kMost / lengths.grain * lengths.grain).ok()) {
    lengths.most = kMost / lengths.grain * lengths.grain;
    return lengths;
  }
  int64_t low = 0, high = kMost / lengths.grain;  // low is allowed (or 0), high is not
  for (int64_t n = 1; n < high; n *= 2) {  // the first multiples may lie below the export's least
    if (allowed(n)) low = n;
    else if (low > 0) { high = n; break; }
  }
  while (low > 0 && high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (allowed(middle) ? low : high) = middle;
  }
  // Within the last grain, token by token. Without any multiple: the longest below the first.
  int64_t length = low * lengths.grain, beyond = length + lengths.grain;
  if (low == 0) {
    for (int64_t s = lengths.grain - 1; s > 0 && length == 0; --s) {
      if (trials.CheckLength(s).ok()) length = s, beyond = s + 1;
    }
  }
  while (length > 0 && beyond - length > 1) {
    const int64_t middle = length + (beyond - length) / 2;
    (trials.CheckLength(middle).ok() ? length : beyond) = middle;
  }
  const Status why = trials.CheckLength(length > 0 ? length + 1 : lengths.grain);
  if (!why.ok()) lengths.limit = why.error().what;
  if (length == 0) return Error{why.error()};
  lengths.most = length;
  return lengths;
}

// Of the candidates that were weighed.
int64_t SmallestArena(const Trial& trial) {
  int64_t least = trial.memory.arena_bytes;
  for (const PlanPoint& point : trial.curve) least = std::min(least, point.arena_bytes);
  return least;
}

}  // namespace

Result<Longest> FindLongest(Trials& trials, const Setting& setting) {
  const int before = trials.count();
  ASSIGN_OR_RETURN(const Lengths lengths, FindLengths(trials, setting.ranks / setting.dp));
  Longest longest;
  longest.step = lengths.grain;
  const Trial* fits = nullptr;
  const Trial* fails = nullptr;
  const auto run = [&](std::optional<int64_t> seq_len) -> Status {
    Setting with = setting;
    with.seq_len = seq_len;
    ASSIGN_OR_RETURN(const Trial* trial, trials.Run(with));
    (trial->fits ? fits : fails) = trial;
    return Ok();
  };
  const auto down = [&](double length) {
    const int64_t n = static_cast<int64_t>(std::min(length, static_cast<double>(lengths.most))) / lengths.grain * lengths.grain;
    return std::max(std::min(lengths.grain, lengths.most), n);
  };
  const auto finish = [&] {
    if (fits) longest.best = *fits;
    if (fails) longest.too_long = *fails;
    if (fits && (lengths.fixed || fits->seq_len == lengths.most)) longest.limit = lengths.limit;
    longest.trials = trials.count() - before;
    return longest;
  };
  if (lengths.fixed) {
    RETURN_IF_ERROR(run(std::nullopt));
    return finish();
  }

  // Doubling and more, until one does not fit; if the first does not, back to the shortest.
  RETURN_IF_ERROR(run(down(kFirst)));
  if (!fits && fails->seq_len > down(0)) RETURN_IF_ERROR(run(down(0)));
  if (!fits) return finish();
  while (!fails && fits->seq_len < lengths.most) {
    // The arena grows about with the length. Where candidates were weighed, the smallest of them says how far it can; else
    // what is saved can be traded for time: aim beyond the budget.
    const int64_t budget = trials.options().context.memory_budget;
    const double room = static_cast<double>(budget - fits->memory.persistent_bytes) /
                        static_cast<double>(std::max<int64_t>(SmallestArena(*fits), 1));
    const double times = fits->curve.size() > 1 ? std::clamp(room, 1 + 2.0 / kResolution, 32.0) : std::clamp(4 * room, 2.0, 32.0);
    int64_t next = std::max(down(static_cast<double>(fits->seq_len) * times), down(static_cast<double>(fits->seq_len + lengths.grain)));
    if (next > lengths.most / 2 && times >= 2) next = lengths.most;
    RETURN_IF_ERROR(run(next));
  }

  // Between one that fits and one that does not. The smallest program's arena is about in proportion to the length, so
  // that of the shortest failure says where the budget ends: try on either side of it, else the middle.
  int aims = 0;
  while (fails) {
    const int64_t low = fits->seq_len, high = fails->seq_len;
    longest.step = std::max(lengths.grain, low / kResolution / lengths.grain * lengths.grain);
    if (high - low <= longest.step) break;
    const codegen::MemoryReport& memory = fails->memory;
    const double part = static_cast<double>(trials.options().context.memory_budget - memory.persistent_bytes) /
                        static_cast<double>(std::max<int64_t>(memory.arena_bytes, 1));
    const int64_t estimate = down(static_cast<double>(high) * part);
    int64_t next = estimate;
    if (next <= low) next = low + longest.step;  // it fits up to there already: is the next one too much?
    if (++aims > 6 || next >= high) next = down(static_cast<double>(low + (high - low) / 2));
    if (next <= low) next = low + lengths.grain;
    RETURN_IF_ERROR(run(next));
  }
  return finish();
}

Result<std::vector<std::string>> WhatWouldFit(Trials& trials, Setting setting) {
  std::vector<std::string> remedies;
  std::string prefix;  // flags that every further way has too
  const auto attempt = [&](const Setting& other, const std::string& flags) -> Result<bool> {
    const Result<const Trial*> trial = trials.Run(other);
    // A count of ranks or a level of ZeRO that this model can't be compiled for is no remedy, and no reason to stop.
    if (!trial.ok()) {
      if (trial.error().code == Code::kFailed) return trial.error();
      return false;
    }
    if (!(*trial)->fits) return false;
    remedies.push_back(fmt::format("{}{}: {} a rank", prefix, flags, FormatBytes((*trial)->memory.total_bytes())));
    return true;
  };

  if (setting.recompute != "auto" || setting.tile != "auto") {
    std::string flags = setting.recompute != "auto" ? "--recompute auto" : "";
    if (setting.tile != "auto") flags += flags.empty() ? "--tile auto" : " --tile auto";
    Setting free = setting;
    free.recompute = "auto", free.tile = "auto";
    ASSIGN_OR_RETURN(const bool enough, attempt(free, flags));
    if (!enough) setting = free, prefix = flags + " ";
  }
  if (setting.ranks > 1) {
    for (int zero = std::max(setting.zero, 0) + 1; zero <= 2; ++zero) {
      Setting sharded = setting;
      sharded.zero = zero;
      ASSIGN_OR_RETURN(const bool enough, attempt(sharded, fmt::format("--zero {}", zero)));
      if (enough) break;
    }
  }
  // Weights and, without ZeRO, the optimizer's states are the same for any count of ranks and any length.
  ASSIGN_OR_RETURN(const Trial* const here, trials.Run(setting));
  const auto& kinds = here->memory.by_kind;
  const int64_t budget = trials.options().context.memory_budget;
  const int64_t weights = kinds[static_cast<size_t>(program::StorageKind::Parameter)];
  const bool stays = weights + kinds[static_cast<size_t>(program::StorageKind::Optimizer)] > budget;
  // The same step, a part of its batch at a time.
  const int64_t batch = trials.options().bindings.batch.value_or(1), micro_batches = trials.options().context.micro_batches;
  bool parts_help = stays;
  for (int64_t parts = 2; parts <= batch && !parts_help; ++parts) {
    if (batch % parts != 0 || parts * micro_batches > kMaxMicroBatches) continue;
    Setting smaller = setting;
    smaller.parts = static_cast<int>(parts);
    ASSIGN_OR_RETURN(parts_help, attempt(smaller, fmt::format("--batch {} --accumulate {}", batch / parts, parts * micro_batches)));
  }
  bool ranks_help = false;
  for (int64_t times = 2; times <= kMoreRanks && !ranks_help && !(stays && setting.zero == 0); times *= 2) {
    Setting more = setting;
    more.ranks = static_cast<int>(setting.ranks * times);
    ASSIGN_OR_RETURN(ranks_help, attempt(more, more.RanksFlag()));
  }
  if (setting.seq_len && !stays) {
    ASSIGN_OR_RETURN(const Longest longest, FindLongest(trials, setting));
    if (longest.best) {
      remedies.push_back(fmt::format("{}--seq-len {}: {} a rank, the longest within {} tokens", prefix, longest.best->seq_len,
                                     FormatBytes(longest.best->memory.total_bytes()), longest.step));
    }
  }
  bool both = !ranks_help && weights <= budget;
  for (int64_t times = 2; times <= kMoreRanks && both && setting.zero < 2; times *= 2) {
    Setting more = setting;
    more.ranks = static_cast<int>(setting.ranks * times);
    more.zero = 2;
    ASSIGN_OR_RETURN(const bool enough, attempt(more, more.RanksFlag() + " --zero 2"));
    both = !enough;
  }
  return remedies;
}

}  // namespace autospc
