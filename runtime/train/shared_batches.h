// A stream has one reader: rank 0 takes each batch from it and hands it to the others.
#pragma once

#include <memory>

#include "runtime/data/batch_source.h"
#include "runtime/dist/communicator.h"

namespace autospc::train {

class SharedBatches : public data::BatchSource {
 public:
  // `source`: on rank 0, none on the others. The communicator outlives it.
  SharedBatches(std::unique_ptr<data::BatchSource> source, Communicator* communicator)
      : source_(std::move(source)), communicator_(communicator) {}

  // Rank 0's error is every rank's, so that none waits for a batch that does not come.
  Result<data::BatchInfo> Next(const std::vector<data::InputView>& inputs) override;
  data::DataPosition position() const override { return position_; }
  Status Seek(const data::DataPosition& position) override;

 private:
  std::unique_ptr<data::BatchSource> source_;
  Communicator* communicator_;
  data::DataPosition position_;
};

}  // namespace autospc::train
