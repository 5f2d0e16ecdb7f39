// Batches from token files: sample i is the i-th stretch of as many tokens as a row has positions, labels of the same
// stretch (or, where labels are shifted here, of the one a token later). Stretches do not overlap, none crosses from
// one file into the next, and what a file has beyond its last whole stretch is left out.
//
// A step takes the next samples of the order (sample_order.h), at every number of ranks.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/data/batch_source.h"
#include "runtime/data/contract.h"
#include "runtime/data/sample_order.h"
#include "runtime/data/token_file.h"

namespace autospc::data {

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
