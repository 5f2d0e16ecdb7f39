// What a pass is, what it may know, and the registry that finds it by name.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "passes/ir/graph.h"
#include "runtime/base/mesh.h"

namespace autospc {

// A line of the report: what was gathered, computed whole or left as an explicit mask, and its cost.
struct Note {
  std::string what;
  std::string why;
  std::string source;
  int64_t bytes = 0;
  double flops = 0;
};

// The raw bytes (little endian, contiguous, row-major) of a parameter, buffer or constant input, by the
// input's name. kBadInput where the export holds no data for it.
using ConstantReader = std::function<Result<std::vector<uint8_t>>(const std::string& name)>;

// Options and facts shared by the passes of one compilation, and what they report.
struct PassContext {
  int ranks = 1;
  int dp = 1;                        // of the ranks: those that split the batch; ranks / dp split the sequence
  std::string strategy = "ulysses";  // or "allgather-kv"
  bool strict = false;
  std::string optimizer = "none";    // or "sgd", "adamw"
  std::string dtype;                 // "bf16": what need not be float32 (passes/precision); empty: as exported
  int micro_batches = 1;             // a step's (passes/step/micro_batches.h); a batch is one of them
  double clip_norm = 0;              // 0: no clipping
  double weight_decay = -1;          // < 0: the optimiser's default
  std::vector<std::string> no_decay; // patterns of parameters that have none (passes/step/decay.h)
  int64_t bucket_bytes = 0;          // gradients reduced together; 0: an eighth of all, within 1 and 25 MiB
  int64_t chosen_bucket_bytes = 0;   // what that came to
  int64_t memory_budget = 0;         // bytes a rank, persistent storages included; 0: no limit
  std::string recompute = "auto";    // or "none", "full", "layers", "autosp": the rules that others use, for comparison
  std::string tile = "auto";         // or "off"
  int tile_level = 0;                // how far the pass tile goes, 0 … 3 (passes/tile/tile.h)
  int zero = 0;                      // 1: optimiser states and master weights sharded, 2: gradients too; -1: as the budget asks
  ConstantReader constants;          // may be empty: nothing can be read
  std::vector<Note> notes;

  Mesh mesh() const { return Mesh(ranks / dp, dp); }
};

// Whether the graph changed, or why it can't be compiled.
using PassFn = std::function<Result<bool>(ir::Graph&, PassContext&)>;

struct PassInfo {
  std::string name;     // "recognise-attention"
  std::string summary;  // one line for --help
  PassFn run;
};

class PassRegistry {
 public:
  void Add(PassInfo info);  // a duplicate name is our own bug: aborts
  const PassInfo* Find(std::string_view name) const;
  const std::vector<PassInfo>& all() const { return passes_; }  // in order of registration

 private:
  std::vector<PassInfo> passes_;
};

}  // namespace autospc
