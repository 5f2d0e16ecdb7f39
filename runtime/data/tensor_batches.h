// Batches from safetensors files: their rows are the samples, taken in the epoch's order as those of token files are.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/data/batch_source.h"
#include "runtime/data/sample_order.h"
#include "runtime/data/tensor_batch.h"

namespace autospc::data {

class TensorBatches : public BatchSource {
 public:
  // kBadInput as of TensorBatch, with the file's name.
  static Result<std::unique_ptr<TensorBatches>> Open(const Contract& contract, const std::vector<std::string>& files,
                                                     const OrderOptions& order, bool scan);

  Result<BatchInfo> Next(const std::vector<InputView>& inputs) override;
  DataPosition position() const override { return order_->position(); }
  Status Seek(const DataPosition& position) override { return order_->Seek(position); }
  int64_t samples() const { return order_->samples(); }

 private:
  Contract contract_;
  std::vector<TensorBatch> files_;
  std::vector<int64_t> first_;  // [files + 1]: the first sample of each file, and their number
  std::unique_ptr<SampleOrder> order_;
};

}  // namespace autospc::data
