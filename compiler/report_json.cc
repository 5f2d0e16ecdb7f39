#include "compiler/report_json.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>

namespace autospc::report {
namespace {

using nlohmann::json;

constexpr int64_t kUnit = 64;

// Each text once.
class Strings {
 public:
  int Index(const std::string& text) {
    const auto [it, is_new] = index_.try_emplace(text, static_cast<int>(list_.size()));
    if (is_new) list_.push_back(text);
    return it->second;
  }
  json Take() { return std::move(list_); }

 private:
  std::map<std::string, int> index_;
  json list_ = json::array();
};

json Differences(const std::vector<int64_t>& values) {
  json out = json::array();
  int64_t last = 0;
  for (const int64_t value : values) {
    out.push_back(value - last);
    last = value;
  }
  return out;
}

json Samples(const program::ProgramT& p, const Memory& memory, Strings* strings) {
  std::vector<int64_t> begin;
  std::array<std::vector<int64_t>, kGroups> bytes;
  json at = json::array(), op = json::array(), source = json::array(), phase = json::array();
  for (const Sample& sample : memory.samples) {
    const program::InstructionT& instruction = *p.instructions[sample.instruction];
    begin.push_back(sample.begin);
    at.push_back(sample.instruction - sample.begin);
    op.push_back(strings->Index(instruction.op));
    const bool known = instruction.source >= 0 && instruction.source < static_cast<int>(p.sources.size());
    source.push_back(strings->Index(known ? p.sources[instruction.source] : ""));
    phase.push_back(static_cast<int>(instruction.phase));
    for (size_t g = 0; g < kGroups; ++g) bytes[g].push_back(sample.bytes[g] / kUnit);
  }
  json series = json::array();
  for (size_t g = 0; g < kGroups; ++g) {
    const bool empty = std::all_of(bytes[g].begin(), bytes[g].end(), [](int64_t b) { return b == 0; });
    series.push_back(empty ? json::array() : Differences(bytes[g]));
  }
  return {
      {"begin", Differences(begin)}, {"at", at}, {"op", op}, {"source", source}, {"phase", phase}, {"bytes", series}};
}

json Rectangles(const program::ProgramT& p, const ArenaMap& map, Strings* strings) {
  json out;
  std::vector<int64_t> first;
  for (const char* column : {"group", "bytes", "offset", "length", "name", "source"}) out[column] = json::array();
  for (const int i : map.storages) {
    const program::StorageT& s = *p.storages[i];
    first.push_back(s.first);
    out["group"].push_back(static_cast<int>(GroupOf(s.kind)));
    out["bytes"].push_back(s.bytes);
    out["offset"].push_back(s.arena_offset / kUnit);
    out["length"].push_back(s.last - s.first + 1);
    out["name"].push_back(s.name);
    out["source"].push_back(strings->Index(s.source));
  }
  out["first"] = Differences(first);
  return out;
}

json Curve(const std::vector<PlanPoint>& curve) {
  const std::vector<bool> best = Frontier(curve);
  json out = json::array();
  for (size_t i = 0; i < curve.size(); ++i) {
    const PlanPoint& point = curve[i];
    const bool rule =
        point.label == "none" || point.label == "full" || point.label == "layers" || point.label == "autosp";
    out.push_back({{"label", point.label},
                   {"peak", point.peak_bytes},
                   {"seconds", point.seconds},
                   {"again", point.recompute_seconds},
                   {"chosen", point.chosen},
                   {"rule", rule},
                   {"best", static_cast<bool>(best[i])}});
  }
  return out;
}

}  // namespace

json Data(const program::ProgramT& p, const std::vector<PlanPoint>& curve, int64_t budget, const Memory& memory,
          const ArenaMap& map) {
  Strings strings;
  json data;
  data["instructions"] = p.instructions.size();
  data["groups"] = kGroupNames;
  data["persistent"] = memory.persistent;
  data["arena"] = memory.arena_bytes;
  data["budget"] = budget;
  data["peak"] = memory.peak_instruction;
  data["samples"] = Samples(p, memory, &strings);
  data["map"] = Rectangles(p, map, &strings);
  data["curve"] = Curve(curve);
  data["strings"] = strings.Take();
  return data;
}

}  // namespace autospc::report
