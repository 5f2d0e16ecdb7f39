#include "runtime/data/token_batches.h"

namespace autospc::data {
namespace {

// Every id of a file has a row in the embedding and a class in the loss.
Status Scan(const TokenFile& file, const Contract& contract) {
  const InputSpec* const tightest = contract.Tightest();
  if (tightest == nullptr) return Ok();
  const std::optional<int64_t> at = file.FindOutside(tightest->limit);
  if (!at) return Ok();
  int64_t id = 0;
  file.Read(*at, 1, &id);
  return Error{Code::kBadInput, fmt::format("token {} of the file is {}, and {}", *at, id, LimitText(*tightest)),
               file.path(),
               fmt::format("is the file of {} tokens (--token-dtype), and made with this model's tokenizer?",
                           TokenName(file.type()))};
}

}  // namespace

Result<std::unique_ptr<TokenBatches>> TokenBatches::Open(const Contract& contract,
                                                         const std::vector<std::string>& files,
                                                         std::optional<TokenType> type, const OrderOptions& order,
                                                         bool scan, const std::string& package) {
  RETURN_IF_ERROR(CheckFillable(contract, package));
  auto source = std::unique_ptr<TokenBatches>(new TokenBatches);
  source->contract_ = contract;
  const int64_t length = contract.length(), needed = contract.tokens_a_row();
  source->tokens_.resize(static_cast<size_t>(needed));
  source->first_ = {0};
  for (const std::string& path : files) {
    ASSIGN_OR_RETURN(TokenFile file, TokenFile::Open(path, type));
    if (file.size() < needed) {
      return Error{Code::kBadInput,
                   fmt::format("the file has {} tokens, and a sample of this package needs {}", file.size(), needed),
                   path, fmt::format("give a longer file, or compile with a --seq-len below {}", length)};
    }
    if (scan) RETURN_IF_ERROR(Scan(file, contract));
    source->first_.push_back(source->first_.back() + (file.size() - (needed - length)) / length);
    source->files_.push_back(std::move(file));
  }
  source->order_ = std::make_unique<SampleOrder>(source->first_.back(), order);
  return source;
}

TokenBatches::Stretch TokenBatches::Find(int64_t sample) const {
  const size_t file = FileOf(first_, sample);
  return {&files_[file], (sample - first_[file]) * contract_.length()};
}

Result<BatchInfo> TokenBatches::Next(const std::vector<InputView>& inputs) {
  BatchInfo info;
  const int64_t rows = contract_.rows();
  if (order_->Ends(rows, contract_.ignore_index.has_value())) {
    info.end = true;
    return info;
  }
  ASSIGN_OR_RETURN(const Places places, PlacesOf(contract_, inputs));
  for (int64_t row = 0; row < rows; ++row) {
    if (order_->over()) {
      info.tokens += FillRow(contract_, places, row, {});
      continue;
    }
    const Stretch at = Find(order_->Peek());
    at.file->Read(at.begin, static_cast<int64_t>(tokens_.size()), tokens_.data());
    info.tokens += FillRow(contract_, places, row, tokens_);
    order_->Advance();
  }
  // The next batch is read in while this one is trained on.
  for (int64_t row = 0; row < rows && !order_->over(); ++row) {
    const Stretch at = Find(order_->Peek(row));
    at.file->WillNeed(at.begin, static_cast<int64_t>(tokens_.size()));
  }
  return info;
}

}  // namespace autospc::data
