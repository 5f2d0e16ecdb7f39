#include "runtime/data/sample_order.h"

namespace autospc::data {

SampleOrder::SampleOrder(int64_t samples, const OrderOptions& options) : samples_(samples), options_(options) {
  position_.seed = options.seed;
}

int64_t SampleOrder::Peek(int64_t ahead) const {
  const int64_t epoch = position_.epoch + (position_.sample + ahead) / samples_;
  const int64_t index = (position_.sample + ahead) % samples_;
  return options_.shuffle ? Permutation(samples_, EpochSeed(position_.seed, epoch))(index) : index;
}

void SampleOrder::Advance() {
  if (++position_.sample < samples_) return;
  position_.sample = 0;
  ++position_.epoch;
}

Status SampleOrder::Seek(const DataPosition& position) {
  if (position.epoch < 0 || position.sample < 0 || position.sample >= samples_) {
    return Error{Code::kBadInput,
                 fmt::format("the data position is sample {} of an epoch, and this data has {} samples",
                             position.sample, samples_),
                 "", "continue with the data that the run began with"};
  }
  position_ = position;
  return Ok();
}

}  // namespace autospc::data
