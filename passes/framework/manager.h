// Runs passes by name over a graph, verifies after each (in release builds too), and shows what they did.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "passes/framework/pass.h"
#include "passes/ir/graph.h"
#include "runtime/base/result.h"

namespace autospc {

struct PassManagerOptions {
  std::vector<std::string> print_after;  // names of passes or phases, or "all": the graph after them goes to `print`
  std::string dump_dir;           // made if missing; gets 00-input.ir, 01-simplify.ir, …; "": nothing is written
  bool verify_placements = true;  // also the rules of placements, once values have one
  std::function<void(std::string_view)> print;  // default: standard error
};

// One line of --time-passes.
struct PassTiming {
  std::string name;
  double milliseconds = 0;  // of the pass
  double verify_milliseconds = 0;
  int nodes = 0;  // after it
  bool changed = false;
};

class PassManager {
 public:
  // Both registry and options outlive nothing but this: the registry is referred to.
  PassManager(const PassRegistry& registry, PassManagerOptions options);

  // Runs the passes in the order given; all names are looked up first (kUsage). Where a pass fails, or leaves a
  // graph that Verify objects to (kFailed), the graph before it and the command that runs it again are written to
  // the dump folder, and the hint names the file. Without a dump folder this is done for kFailed alone, our own
  // bugs, in a new folder for temporary files; an error of the input leaves nothing behind.
  Status Run(ir::Graph& graph, PassContext& context, const std::vector<std::string>& names);

  // As Run, for a graph that may never be used: neither kept for a reproducer, nor verified, printed or dumped. Where it
  // fails, or the graph is used after all, Run or Observe say what Run would have said.
  Status RunUnseen(ir::Graph& graph, PassContext& context, const std::vector<std::string>& names);

  // What Run does after a pass, for a phase that is no pass (import, differentiation): verify, print, dump, time.
  Status Observe(const ir::Graph& graph, std::string_view phase, double milliseconds = 0, bool changed = true);

  // A line of the timings for a phase of which nobody shall see the graph yet.
  void Time(std::string_view phase, double milliseconds, const ir::Graph& graph) {
    timings_.push_back({std::string(phase), milliseconds, 0, static_cast<int>(graph.nodes().size()), true});
  }

  const std::vector<PassTiming>& timings() const { return timings_; }
  // A table for people, a line a pass and a sum.
  std::string TimingTable() const;

 private:
  Status Dump(const ir::Graph& graph, std::string_view phase);
  Error Reproduce(const ir::Graph& before, const PassContext& context, std::string_view pass, Error error) const;

  const PassRegistry& registry_;
  PassManagerOptions options_;
  std::vector<PassTiming> timings_;
  int dumped_ = 0;
};

// The flags with which autospc-opt fills a PassContext equal to this one but for constants and notes;
// defaults are left out: {"--ranks", "2"}.
std::vector<std::string> FlagsOf(const PassContext& context);

}  // namespace autospc
