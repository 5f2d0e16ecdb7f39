// autosp-run's one function: starts a job's ranks, or is one of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/data/open.h"
#include "runtime/train/job.h"
#include "runtime/train/checkpoint_options.h"
#include "runtime/train/learning_rate.h"
#include "runtime/train/load.h"
#include "runtime/train/see_options.h"

namespace autospc::train {

struct RunOptions {
  std::string package;
  JobOptions job;
  std::string golden;      // compared with, or the batch of every step
  data::DataOptions data;  // --data: where batches come from instead
  double rtol = 1e-5;
  data::DataOptions eval;                    // --eval-data: evaluated on, in order
  int64_t eval_every = 0, eval_batches = 0;  // 0: at the end alone; all of it
  std::string write_golden;                  // a golden file made from this run
  int64_t steps = 0;                         // > 0: optimiser steps, no comparison
  LearningRate learning_rate;
  WeightOptions weights;
  CheckpointOptions checkpoint;
  std::string save_weights;  // --save-weights: a folder, made at the end
  int64_t max_shard_bytes = int64_t{5} * 1000 * 1000 * 1000;
  uint64_t seed = 0;  // of dropout and of the order of data
  std::string device = "cpu";
  int threads = 0;                     // of a rank; 0: the cores shared out among this machine's ranks
  bool measure_memory = false;         // print planned and measured peaks
  bool limit_data = false;             // RLIMIT_DATA at what the plan needs and 32 MiB, before the first step
  bool json = false;                   // the report as one JSON line on stdout
  bool time_ops = false;               // seconds by op on stderr
  SeeOptions see;
  std::vector<std::string> arguments;  // as given, for the ranks that are started
};

// 0, or 1 where the comparison failed; an error for all else.
Result<int> Run(const RunOptions& options);

}  // namespace autospc::train
