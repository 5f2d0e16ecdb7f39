// A golden file as a batch, and one step compared with what it says.
#pragma once

#include <vector>

#include "runtime/base/result.h"
#include "runtime/data/batch_source.h"
#include "runtime/data/contract.h"
#include "runtime/package/golden.h"
#include "runtime/package/micro_batches.h"
#include "runtime/train/rank.h"

namespace autospc::train {

// The file's inputs, every step the same: their micro-batches in order, over and over. The golden file outlives it.
class GoldenBatch : public data::BatchSource {
 public:
  GoldenBatch(const GoldenFile& golden, const program::ProgramT& program)
      : golden_(golden), contract_(data::ContractOf(program)), micro_batches_(MicroBatchesOf(program).count) {}
  // kBadInput: the file lacks an input.
  Result<data::BatchInfo> Next(const std::vector<data::InputView>& inputs) override;
  data::DataPosition position() const override { return position_; }
  Status Seek(const data::DataPosition& position) override;

 private:
  const GoldenFile& golden_;
  data::Contract contract_;
  int64_t micro_batches_;
  data::DataPosition position_;
};

// One step whose gradients rank 0 keeps: written as a golden file (--write-golden), compared with one. 0, or 1 where it
// differs by more than --rtol. All ranks call it; rank 0 prints.
Result<int> Compare(Rank* rank, const GoldenFile& golden);

}  // namespace autospc::train
