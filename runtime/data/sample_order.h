// Which sample comes next: the bookkeeping that all data shares whose samples have numbers.
//
// A step takes the next samples of the epoch's order, as many as a batch has rows. A batch may begin in one epoch and
// end in the next, so no sample is left out.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/data/batch_source.h"
#include "runtime/data/permutation.h"

namespace autospc::data {

// The file that holds a sample. `first` [files + 1]: the first sample of each file, and their number.
inline size_t FileOf(const std::vector<int64_t>& first, int64_t sample) {
  return static_cast<size_t>(std::upper_bound(first.begin(), first.end(), sample) - first.begin()) - 1;
}

struct OrderOptions {
  bool shuffle = true;  // each epoch in an order of its own; else as the files have them
  uint64_t seed = 0;
  bool once = false;  // ends after one pass; the last batch is padded with empty rows where the loss can ignore labels,
                      // else left out
};

class SampleOrder {
 public:
  SampleOrder(int64_t samples, const OrderOptions& options);
  int64_t samples() const { return samples_; }
  bool over() const { return options_.once && position_.epoch > 0; }
  // Whether no batch of so many rows is left. `padded`: rows may be empty.
  bool Ends(int64_t rows, bool padded) const {
    return over() || (options_.once && !padded && samples_ - position_.sample < rows);
  }
  int64_t Peek(int64_t ahead = 0) const;  // the sample that comes `ahead` after the next
  void Advance();
  const DataPosition& position() const { return position_; }
  // kBadInput: a sample that this data does not have.
  Status Seek(const DataPosition& position);

 private:
  int64_t samples_;
  OrderOptions options_;
  DataPosition position_;
};

}  // namespace autospc::data
