// `autospc plan`: what a training step needs before anything runs. Every figure is of a program that the compiler made
// (all but the package is made), none is extrapolated.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "codegen/memory_report.h"
#include "compiler/driver.h"
#include "runtime/base/mesh.h"

namespace autospc {

// What a plan may vary of a compilation's options.
struct Setting {
  int ranks = 1;
  std::optional<int64_t> seq_len;  // none: the export fixes it
  int zero = 0;
  std::string recompute = "auto";
  std::string tile = "auto";
  int dp = 1;  // of the ranks, those that split the batch
  int parts = 1;  // micro-batches instead of one of --batch, together as large

  // "--ranks 8", or "--mesh dp=2,sp=4".
  std::string RanksFlag() const;
  bool operator==(const Setting&) const = default;
  bool operator<(const Setting& o) const {
    return std::tie(ranks, dp, parts, seq_len, zero, recompute, tile) <
           std::tie(o.ranks, o.dp, o.parts, o.seq_len, o.zero, o.recompute, o.tile);
  }
};

// One compilation without writing: the fastest program within the budget or, where none fits, the smallest.
struct Trial {
  Setting setting;
  int64_t seq_len = 0, batch = 0, micro_batches = 1;
  bool fits = true;
  codegen::MemoryReport memory;  // of a rank
  codegen::StepCost cost;        // of a rank and step, estimated by the machine's rates
  std::vector<PlanPoint> curve;  // candidates; those within the budget may be had by it
  std::string chosen;            // the candidate's label: "none" saves all
  std::optional<Error> why;      // kDoesNotFit, where it does not
};

// Compilations of one imported model, each setting compiled once.
class Trials {
 public:
  // `options` but for what a Setting says; its budget (0: none) decides what fits.
  Trials(import::Model model, CompileOptions options);

  // Errors as of CompileModel but kDoesNotFit. The pointer stays valid.
  Result<const Trial*> Run(const Setting& setting);
  // kBadInput where the export's range, a guard or a position table can't hold the length; kUsage where it needs one.
  Status CheckLength(std::optional<int64_t> seq_len) const;

  const CompileOptions& options() const { return options_; }
  const import::Model& model() const { return model_; }
  int count() const { return static_cast<int>(trials_.size()); }
  bool curves = false;  // weigh all candidates in each trial

 private:
  import::Model model_;
  CompileOptions options_;
  std::map<Setting, Trial> trials_;
};

// The longest sequence whose step fits, of the multiples of `step` tokens and the export's own longest.
struct Longest {
  std::optional<Trial> best;       // none: not even the shortest length tried fits
  std::optional<Trial> too_long;   // the shortest length tried that does not fit, with the smallest program of it
  int64_t step = 0;                // tokens between lengths told apart
  std::string limit;               // why the export allows no more, where that and not memory ends the search
  int trials = 0;
};
// Doubling first, then the interval between the longest that fits and the shortest that does not is narrowed to 1/128
// of the length, guided by the smallest program of a length that does not fit, whose arena grows with the length.
Result<Longest> FindLongest(Trials& trials, const Setting& setting);

// What would fit in place of `setting`, which does not: more ranks (doubled up to 64 times as many), a shorter sequence,
// ZeRO, a given batch in micro-batches, each alone, and where more ranks are not enough, ZeRO 2 with them. Where `setting` has a rule of what to recompute
// or no tiling, first the compiler's own choice, and if that is not enough, all others with it. Empty if nothing fits.
// "--ranks 8: 61.20 GiB a rank".
Result<std::vector<std::string>> WhatWouldFit(Trials& trials, Setting setting);

struct PlanRequest {
  CompileOptions options;        // ranks and sequence length aside
  std::vector<Mesh> meshes = {Mesh(1)};
  bool zero_auto = false;  // choose the level of ZeRO too
};

struct PlanRow {
  Mesh mesh;
  std::vector<Trial> settings;   // with a length given: by level of ZeRO, the cheapest that fits marked by `chosen`
  int chosen = -1;               // -1: none fits
  std::optional<Longest> longest;  // without
};

struct Plan {
  std::string model;
  std::string strategy, optimizer, machine;
  int64_t budget = 0;            // 0: none
  std::optional<int64_t> seq_len;
  std::vector<PlanRow> rows;     // by count of ranks, as given
  int cheapest = -1;             // row of the least time times ranks that fits; -1: none does
  int trials = 0;
  double seconds = 0;            // that planning took
};

// kUsage: neither a length nor a budget is given. A count that does not fit is a row, no error.
Result<Plan> MakePlan(const PlanRequest& request);

// kDoesNotFit where no count of ranks fits: the error of the smallest program of them.
Status CheckPlanFits(const Plan& plan);

// At most 100 columns; or JSON with keys "model", "strategy", "optimizer", "budget", "seq_len", "machine", "assumptions",
// "rows" ("ranks", "dp", "fits", "seq_len", "batch", "zero", "recompute", "memory", "peak", "seconds", "flops", "bytes_moved",
// "bytes_sent", "ops", "curve", "settings", "limit", "too_long", "step", "trials", "error"), "cheapest", "trials",
// "seconds". Keys are never renamed.
std::string DescribePlan(const Plan& plan, bool json);

}  // namespace autospc
