#include "runtime/data/tensor_batches.h"

namespace autospc::data {

Result<std::unique_ptr<TensorBatches>> TensorBatches::Open(const Contract& contract,
                                                           const std::vector<std::string>& files,
                                                           const OrderOptions& order, bool scan) {
  auto source = std::unique_ptr<TensorBatches>(new TensorBatches);
  source->contract_ = contract;
  source->first_ = {0};
  for (const std::string& path : files) {
    ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path));
    ASSIGN_OR_RETURN(TensorBatch batch, TensorBatch::Make(contract, std::move(file), path, scan));
    source->first_.push_back(source->first_.back() + batch.rows());
    source->files_.push_back(std::move(batch));
  }
  source->order_ = std::make_unique<SampleOrder>(source->first_.back(), order);
  return source;
}

Result<BatchInfo> TensorBatches::Next(const std::vector<InputView>& inputs) {
  BatchInfo info;
  const int64_t rows = contract_.rows();
  const bool padded = contract_.ignore_index && CheckFillable(contract_, "").ok();
  if (order_->Ends(rows, padded)) {
    info.end = true;
    return info;
  }
  ASSIGN_OR_RETURN(const Places places, PlacesOf(contract_, inputs));
  for (int64_t row = 0; row < rows; ++row) {
    if (order_->over()) {
      info.tokens += FillRow(contract_, places, row, {});
      continue;
    }
    const int64_t sample = order_->Peek();
    const size_t file = FileOf(first_, sample);
    info.tokens += files_[file].Fill(places, sample - first_[file], row);
    order_->Advance();
  }
  return info;
}

}  // namespace autospc::data
