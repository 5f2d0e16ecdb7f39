// Two interpreters that know nothing of how schedules are made. One runs a graph on digests instead of numbers: a
// storage holds a digest of the op that wrote it and of all that this op read, so two graphs compute the same if their
// outputs hold the same. The other walks a schedule and says what is wrong with it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "passes/ir/graph.h"
#include "passes/memory/storage.h"
#include "passes/recompute/schedule.h"

namespace autospc::recompute::testing {

class DigestRun {
 public:
  explicit DigestRun(const ir::Graph& graph) : graph_(graph) {
    for (const ir::GraphInput& in : graph.inputs) held_[in.value] = Mix(1, in.name);
    for (const ir::NodeId id : graph.nodes()) Run(graph.node(id));
  }

  // By output name and kind, as at the end of the step; an output that was never computed holds 0.
  std::map<std::string, uint64_t> Outputs() const {
    std::map<std::string, uint64_t> outputs;
    for (const ir::GraphOutput& out : graph_.outputs) outputs[out.name + std::to_string(static_cast<int>(out.kind))] = Of(out.value);
    return outputs;
  }
  int instructions() const { return instructions_; }

 private:
  static uint64_t Mix(uint64_t h, uint64_t x) {
    h ^= x + 0x9e3779b97f4a7c15 + (h << 6) + (h >> 2);
    h *= 0xff51afd7ed558ccd;
    return h ^ (h >> 33);
  }
  static uint64_t Mix(uint64_t h, const std::string& s) {
    for (const char c : s) h = Mix(h, static_cast<uint64_t>(static_cast<unsigned char>(c)));
    return h;
  }

  // What a use of `v` sees: its storage's digest, through its views.
  uint64_t Of(ir::ValueId v) const {
    const ir::Value& value = graph_.value(v);
    if (value.base == ir::kNoValue) {
      const auto it = held_.find(v);
      return it == held_.end() ? 0 : it->second;
    }
    uint64_t h = Mix(Of(value.base), static_cast<uint64_t>(value.byte_offset));
    for (const auto* dims : {&value.sizes, &value.strides}) {
      for (const ir::Expr& e : *dims) h = Mix(h, static_cast<uint64_t>(e.value()));
    }
    return h;
  }

  void Run(const ir::Node& node) {
    if (!memory::IsInstruction(graph_, node)) return;
    ++instructions_;
    uint64_t h = Mix(7, node.op);
    for (const ir::Arg& a : node.args) {
      h = Mix(h, static_cast<uint64_t>(a.kind));
      if (a.is_value()) h = Mix(h, Of(a.value));
      for (const ir::ValueId v : a.values) h = Mix(h, v == ir::kNoValue ? 0 : Of(v));
      if (a.kind == ir::Arg::Kind::kInt) h = Mix(h, static_cast<uint64_t>(a.int_value()));
      if (a.kind == ir::Arg::Kind::kFloat) h = Mix(h, std::to_string(a.f));
      h = Mix(h, a.s);
    }
    uint64_t which = 0;
    for (const ir::ValueId v : memory::WrittenOperands(node)) held_[memory::Root(graph_, v)] = Mix(h, ++which);
    for (const ir::ValueId v : node.results) {
      if (graph_.value(v).base == ir::kNoValue) held_[v] = Mix(h, ++which);
    }
  }

  const ir::Graph& graph_;
  std::map<ir::ValueId, uint64_t> held_;  // by root value
  int instructions_ = 0;
};

// Bytes alive at each step, counted copy by copy.
inline std::vector<int64_t> CountLiveBytes(const Problem& problem, const Schedule& schedule) {
  const int n = static_cast<int>(schedule.steps.size());
  std::vector<int> last(schedule.store_of.size(), -1);
  for (int i = 0; i < n; ++i) {
    for (const int c : MakesOf(problem, schedule.steps[i])) last[c] = i;
    for (const int c : schedule.ReadsOf(problem, schedule.steps[i])) last[c] = i;
  }
  std::vector<int64_t> live(n, 0);
  for (int i = 0; i < n; ++i) {
    const Step& step = schedule.steps[i];
    const Item& item = problem.items[step.item];
    live[i] += item.scratch;
    std::map<int, bool> taken;
    for (size_t m = 0; m < item.makes.size(); ++m) {
      const int copy = step.makes + static_cast<int>(m);
      bool over = false;
      for (const auto& [make, read] : item.in_place) {
        const int operand = schedule.ReadsOf(problem, step)[read];
        if (over || make != static_cast<int>(m) || last[operand] != i || taken[operand]) continue;
        over = taken[operand] = true;
      }
      for (int at = over ? i + 1 : i; at <= last[copy]; ++at) live[at] += problem.stores[item.makes[m]].bytes;
    }
  }
  return live;
}

// Each thing that is wrong with a schedule of `problem`.
inline std::vector<std::string> Faults(const Problem& problem, const Schedule& schedule) {
  std::vector<std::string> faults;
  const auto fault = [&](size_t step, const std::string& what) { faults.push_back("step " + std::to_string(step) + ": " + what); };
  std::vector<int> ran(problem.items.size(), -1);
  std::vector<bool> made(schedule.store_of.size(), false);
  double seconds = 0, again = 0;
  for (size_t i = 0; i < schedule.steps.size(); ++i) {
    const Step& step = schedule.steps[i];
    const Item& item = problem.items[step.item];
    const auto reads = schedule.ReadsOf(problem, step);
    for (size_t k = 0; k < reads.size(); ++k) {
      if (!made[reads[k]]) fault(i, "reads copy " + std::to_string(reads[k]) + ", which is not made yet");
      if (schedule.store_of[reads[k]] != item.reads[k]) fault(i, "reads a copy of another storage");
      if (problem.stores[item.reads[k]].fixed && reads[k] != item.reads[k]) fault(i, "reads a repetition of what is fixed");
    }
    size_t m = 0;
    for (const int c : MakesOf(problem, step)) {
      if (made[c]) fault(i, "makes copy " + std::to_string(c) + " a second time");
      if (schedule.store_of[c] != item.makes[m]) fault(i, "makes a copy of another storage");
      if ((c < static_cast<int>(problem.stores.size())) == step.again) fault(i, "a repetition's copy and a first run's are mixed up");
      made[c] = true;
      ++m;
    }
    seconds += item.seconds;
    if (step.again) {
      again += item.seconds;
      if (!item.repeatable) fault(i, "repeats what can't run again");
      if (item.before < static_cast<int>(problem.items.size()) && ran[item.before] >= 0) fault(i, "repeats behind what overwrites its operand");
      continue;
    }
    if (ran[step.item] >= 0) fault(i, "runs an item a second time as if it were the first");
    ran[step.item] = static_cast<int>(i);
  }
  for (size_t i = 0; i < ran.size(); ++i) {
    if (ran[i] < 0) faults.push_back("item " + std::to_string(i) + " never runs");
  }
  for (const auto& [a, b] : problem.hazards) {
    if (ran[a] >= ran[b]) faults.push_back("items " + std::to_string(a) + " and " + std::to_string(b) + " are out of order");
  }
  const auto near = [](double a, double b) { return a - b < 1e-12 && b - a < 1e-12; };
  if (!near(seconds, schedule.seconds) || !near(again, schedule.again_seconds)) faults.push_back("the seconds are wrong");
  int64_t peak = 0;
  for (const int64_t bytes : CountLiveBytes(problem, schedule)) peak = std::max(peak, bytes);
  if (peak != schedule.peak) faults.push_back("the peak is " + std::to_string(peak) + ", not " + std::to_string(schedule.peak));
  return faults;
}

}  // namespace autospc::recompute::testing
