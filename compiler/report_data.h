// What the report shows of a program, as plain figures: counted here, written as HTML by report.cc and drawn by
// report/*.js. All bytes are a rank's; arena storages count rounded up to 64, as they lie.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/plan.h"
#include "runtime/package/program_generated.h"

namespace autospc::report {

// The kinds of program::StorageKind as people tell them apart, in the order in which the picture stacks them.
enum class Group : uint8_t { kWeights, kOptimizer, kOther, kGradients, kActivations, kWorkspace, kCommunication };
inline constexpr size_t kGroups = 7;
inline constexpr std::array<std::string_view, kGroups> kGroupNames = {
    "parameters", "optimiser", "inputs, buffers", "gradients", "activations", "workspace", "communication"};
Group GroupOf(program::StorageKind kind);
using GroupBytes = std::array<int64_t, kGroups>;

// Memory while an instruction runs. Where a program has more instructions than the picture can show, a sample stands
// for several and is the one with the most alive, so that no peak is lost.
struct Sample {
  int begin = 0;        // the first instruction that it stands for; up to the next sample's
  int instruction = 0;  // the one shown
  GroupBytes bytes{};   // of the arena
};

struct Memory {
  GroupBytes persistent{};
  GroupBytes at_peak{};  // persistent and arena
  int64_t persistent_bytes = 0;
  int64_t arena_bytes = 0;    // as planned, gaps included
  int64_t live_bytes = 0;     // of the arena, at the peak
  int peak_instruction = -1;  // -1: nothing in the arena
  std::vector<Sample> samples;
  std::vector<int> largest;  // arena storages alive at the peak, the largest first

  int64_t peak_bytes() const { return persistent_bytes + arena_bytes; }
};
Memory MeasureMemory(const program::ProgramT& program, size_t max_samples, size_t max_largest);

// Storages of the arena for the map, in order of birth: all, or the `max` with the most bytes x instructions.
struct ArenaMap {
  std::vector<int> storages;
  int64_t left_out = 0;
  int64_t largest_left_out = 0;  // bytes
};
ArenaMap DrawArena(const program::ProgramT& program, size_t max);

// Collectives of one op and reason, equal layers together: "forward of layers.*.attn".
struct Traffic {
  std::string op, why;
  int64_t count = 0, bytes = 0;
  int64_t least = 0, most = 0;  // bytes of one
};
std::vector<Traffic> SumTraffic(const program::ProgramT& program);  // the most bytes first

// Notes that differ at most in the layer's number.
struct Gathered {
  std::string what, why, source;
  int64_t count = 0, bytes = 0;
  double flops = 0;
};
std::vector<Gathered> SumNotes(const program::ProgramT& program);  // the most bytes first

// "model.layers.12.mlp" -> "model.layers.*.mlp": components of digits alone, of words that do not begin with one.
std::string WithoutLayer(std::string_view path);

// Whether no other candidate is as fast in as little memory, and better in one: one entry a point.
std::vector<bool> Frontier(const std::vector<PlanPoint>& curve);

}  // namespace autospc::report
