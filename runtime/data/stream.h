// Batches from a FIFO or standard input, written by anybody's loader. What stands in the stream is told by how it
// begins:
//
//   safetensors   one file after the other, a step's batch each (or more rows: then they serve several steps)
//   llm.c         a header and its tokens, one file after the other (`cat shards/*.bin`)
//   bare tokens   of --token-dtype; anything else
//
// Tokens are taken in order, row by row; where labels are shifted, a row's last token begins the next row too. The
// order is the writer's: no shuffling, no epochs, and a resumed run goes on where its writer does.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/data/batch_source.h"
#include "runtime/data/contract.h"
#include "runtime/data/tensor_batch.h"
#include "runtime/data/token_file.h"

namespace autospc::data {

// "-", a FIFO, a socket or a device that is read as a stream.
bool IsStream(const std::string& path);

class StreamBatches : public BatchSource {
 public:
  // Opens the stream, which waits for a FIFO's writer.
  static Result<std::unique_ptr<StreamBatches>> Open(const Contract& contract, const std::string& path,
                                                     std::optional<TokenType> type, const std::string& package);
  ~StreamBatches() override;

  // kBadInput: no batch at all, a file that is cut off or contradicts itself, a token beyond the embedding.
  Result<BatchInfo> Next(const std::vector<InputView>& inputs) override;
  DataPosition position() const override { return position_; }
  Status Seek(const DataPosition& position) override;

 private:
  StreamBatches(const Contract& contract, std::string name, std::string package, std::optional<TokenType> type, int fd);
  // Bytes until there are `count` of them in the buffer or the stream is over.
  Status Fill(size_t count);
  std::span<const std::byte> Ahead() const { return {buffer_.data() + start_, buffer_.size() - start_}; }
  void Drop(size_t count) { start_ += count; }
  Error Bad(std::string what, std::string hint) const;
  Status Begin();                          // tells the kind, once
  Status NextTensors();                    // the next safetensors message
  Result<bool> NextTokens(int64_t count);  // appends to pending_; false: the stream is over before

  Contract contract_;
  std::string name_, package_;
  std::optional<TokenType> type_;  // as asked for
  TokenType token_type_;           // of the tokens being read
  int fd_ = -1;
  bool over_ = false, begun_ = false, tensors_ = false, headers_ = false;
  std::vector<std::byte> buffer_;
  size_t start_ = 0;
  std::vector<int64_t> pending_;      // tokens that no row has taken
  int64_t left_ = 0;                  // of the llm.c file being read
  std::optional<TensorBatch> batch_;  // the message being taken from, from row row_ on
  int64_t row_ = 0;
  DataPosition position_;
};

}  // namespace autospc::data
