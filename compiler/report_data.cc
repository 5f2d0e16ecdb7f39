#include "compiler/report_data.h"
#include "runtime/base/alignment.h"
#include "runtime/package/micro_batches.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

namespace autospc::report {
namespace {

using program::StorageKind;


bool InArena(const program::ProgramT& p, const program::StorageT& s) {
  return s.arena_offset >= 0 && s.first >= 0 && s.first <= s.last && s.last < static_cast<int>(p.instructions.size());
}

int64_t Sum(const GroupBytes& bytes) { return std::accumulate(bytes.begin(), bytes.end(), int64_t{0}); }

// Arena bytes by group while each instruction runs.
std::vector<GroupBytes> AliveByInstruction(const program::ProgramT& p) {
  std::vector<GroupBytes> alive(p.instructions.size() + 1);
  for (const auto& s : p.storages) {
    if (!InArena(p, *s)) continue;
    const auto group = static_cast<size_t>(GroupOf(s->kind));
    alive[s->first][group] += Aligned(s->bytes);
    alive[s->last + 1][group] -= Aligned(s->bytes);
  }
  for (size_t i = 1; i < alive.size(); ++i) {
    for (size_t g = 0; g < kGroups; ++g) alive[i][g] += alive[i - 1][g];
  }
  alive.pop_back();
  return alive;
}

}  // namespace

Group GroupOf(StorageKind kind) {
  switch (kind) {
    case StorageKind::Parameter:
      return Group::kWeights;
    case StorageKind::Optimizer:
      return Group::kOptimizer;
    case StorageKind::Gradient:
      return Group::kGradients;
    case StorageKind::Activation:
      return Group::kActivations;
    case StorageKind::Workspace:
      return Group::kWorkspace;
    case StorageKind::Communication:
      return Group::kCommunication;
    case StorageKind::Buffer:
    case StorageKind::Constant:
    case StorageKind::Input:
      break;
  }
  return Group::kOther;
}

Memory MeasureMemory(const program::ProgramT& p, size_t max_samples, size_t max_largest) {
  Memory memory;
  memory.arena_bytes = p.arena_bytes;
  for (const auto& s : p.storages) {
    if (s->arena_offset < 0) memory.persistent[static_cast<size_t>(GroupOf(s->kind))] += s->bytes;
  }
  memory.persistent_bytes = Sum(memory.persistent);
  memory.at_peak = memory.persistent;

  const std::vector<GroupBytes> alive = AliveByInstruction(p);
  const size_t n = alive.size(), m = std::min(n, max_samples);
  for (size_t k = 0; k < m; ++k) {
    const size_t begin = k * n / m, end = (k + 1) * n / m;
    size_t most = begin;
    for (size_t i = begin; i < end; ++i) {
      if (Sum(alive[i]) > Sum(alive[most])) most = i;
    }
    memory.samples.push_back({static_cast<int>(begin), static_cast<int>(most), alive[most]});
    if (Sum(alive[most]) <= memory.live_bytes) continue;
    memory.live_bytes = Sum(alive[most]);
    memory.peak_instruction = static_cast<int>(most);
  }
  if (memory.peak_instruction < 0) return memory;

  for (size_t g = 0; g < kGroups; ++g) memory.at_peak[g] += alive[memory.peak_instruction][g];
  for (size_t i = 0; i < p.storages.size(); ++i) {
    const program::StorageT& s = *p.storages[i];
    if (InArena(p, s) && s.first <= memory.peak_instruction && memory.peak_instruction <= s.last) {
      memory.largest.push_back(static_cast<int>(i));
    }
  }
  std::stable_sort(memory.largest.begin(), memory.largest.end(),
                   [&](int a, int b) { return p.storages[a]->bytes > p.storages[b]->bytes; });
  if (memory.largest.size() > max_largest) memory.largest.resize(max_largest);
  return memory;
}

ArenaMap DrawArena(const program::ProgramT& p, size_t max) {
  ArenaMap map;
  for (size_t i = 0; i < p.storages.size(); ++i) {
    if (InArena(p, *p.storages[i]) && p.storages[i]->bytes > 0) map.storages.push_back(static_cast<int>(i));
  }
  if (map.storages.size() > max) {
    const auto area = [&](int i) {
      const program::StorageT& s = *p.storages[i];
      return static_cast<double>(s.bytes) * (s.last - s.first + 1);
    };
    std::stable_sort(map.storages.begin(), map.storages.end(), [&](int a, int b) { return area(a) > area(b); });
    for (size_t k = max; k < map.storages.size(); ++k) {
      map.largest_left_out = std::max(map.largest_left_out, p.storages[map.storages[k]]->bytes);
    }
    map.left_out = static_cast<int64_t>(map.storages.size() - max);
    map.storages.resize(max);
  }
  std::sort(map.storages.begin(), map.storages.end(),
            [&](int a, int b) { return std::tuple(p.storages[a]->first, a) < std::tuple(p.storages[b]->first, b); });
  return map;
}

std::string WithoutLayer(std::string_view path) {
  std::string out;
  size_t i = 0;
  bool number = false;  // the word begins with a digit: 1.5 has no layer
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  while (i < path.size()) {
    if (i == 0 || path[i - 1] == ' ') number = digit(path[i]);
    const bool starts = !number && digit(path[i]) && i > 0 && path[i - 1] == '.';
    size_t end = i;
    while (starts && end < path.size() && digit(path[end])) ++end;
    if (starts && (end == path.size() || path[end] == '.' || path[end] == ' ')) {
      out += '*';
      i = end;
    } else {
      out += path[i++];
    }
  }
  return out;
}

std::vector<Traffic> SumTraffic(const program::ProgramT& p) {
  std::map<std::pair<std::string, std::string>, Traffic> sums;
  const MicroBatches micro_batches = MicroBatchesOf(p);
  for (const auto& c : p.collectives) {
    const std::string why = WithoutLayer(c->why);
    const int64_t times = micro_batches.Times(c->instruction);
    Traffic& sum = sums[{c->op, why}];
    if (sum.count == 0) sum = {c->op, why, 0, 0, c->bytes, c->bytes};
    sum.count += times;
    sum.bytes += times * c->bytes;
    sum.least = std::min(sum.least, c->bytes);
    sum.most = std::max(sum.most, c->bytes);
  }
  std::vector<Traffic> list;
  for (auto& [key, sum] : sums) list.push_back(std::move(sum));
  std::stable_sort(list.begin(), list.end(), [](const Traffic& a, const Traffic& b) { return a.bytes > b.bytes; });
  return list;
}

std::vector<Gathered> SumNotes(const program::ProgramT& p) {
  std::map<std::tuple<std::string, std::string, std::string>, Gathered> sums;
  for (const auto& note : p.notes) {
    const std::string what = WithoutLayer(note->what), why = WithoutLayer(note->why);
    Gathered& sum = sums[{what, why, note->source}];
    if (sum.count == 0) sum = {what, why, note->source, 0, 0, 0};
    ++sum.count;
    sum.bytes += note->bytes;
    sum.flops += note->flops;
  }
  std::vector<Gathered> list;
  for (auto& [key, sum] : sums) list.push_back(std::move(sum));
  std::stable_sort(list.begin(), list.end(), [](const Gathered& a, const Gathered& b) { return a.bytes > b.bytes; });
  return list;
}

std::vector<bool> Frontier(const std::vector<PlanPoint>& curve) {
  std::vector<size_t> order(curve.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::tuple(curve[a].peak_bytes, curve[a].seconds) < std::tuple(curve[b].peak_bytes, curve[b].seconds);
  });
  std::vector<bool> best(curve.size(), false);
  const PlanPoint* last = nullptr;
  for (const size_t i : order) {
    if (last && curve[i].seconds >= last->seconds) continue;
    best[i] = true;
    last = &curve[i];
  }
  return best;
}

}  // namespace autospc::report
