// Batches from token files: sample i is the i-th stretch of as many tokens as a row has positions, labels of the same
// stretch (or, where labels are shifted here, of the one a token later). Stretches do not overlap, none crosses from one
// file into the next, and what a file has beyond its last whole stretch is left out.
//
// A step takes the next `rows` samples of the epoch's order, at every number of ranks. A batch may begin in one epoch
// and end in the next, so no sample is left out.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/data/batch_source.h"
#include "runtime/data/contract.h"
#include "runtime/data/permutation.h"
#include "runtime/data/token_file.h"

namespace autospc::data {

struct OrderOptions {
  bool shuffle = true;  // each epoch in an order of its own; else as the files have them
  uint64_t seed = 0;
  bool once = false;  // ends after one pass; the last batch is padded with empty rows where the loss can ignore labels,
                      // else left out
};

// Which sample comes next: the bookkeeping that all indexed data share.
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

class TokenBatches : public BatchSource {
 public:
  // kBadInput: the contract's inputs can't be filled from tokens, a file that is none or too short for one row, and,
  // with `scan`, a token beyond the embedding.
  static Result<std::unique_ptr<TokenBatches>> Open(const Contract& contract, const std::vector<std::string>& files,
                                                    std::optional<TokenType> type, const OrderOptions& order, bool scan,
                                                    const std::string& package);

  Result<BatchInfo> Next(const std::vector<InputView>& inputs) override;
  DataPosition position() const override { return order_->position(); }
  Status Seek(const DataPosition& position) override { return order_->Seek(position); }
  int64_t samples() const { return order_->samples(); }

 private:
  struct Stretch {
    const TokenFile* file = nullptr;
    int64_t begin = 0;
  };
  Stretch Find(int64_t sample) const;

  Contract contract_;
  std::vector<TokenFile> files_;
  std::vector<int64_t> first_;  // [files + 1]: the first sample of each file, and their number
  std::unique_ptr<SampleOrder> order_;
  std::vector<int64_t> tokens_;
};

}  // namespace autospc::data
