// Where a training step's batch comes from, and where in the data a run is.
//
// A source fills a program's inputs with the next global batch: the same rows at every number of ranks. No LibTorch
// here: an input is a name, a type, sizes and bytes.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/package/program_generated.h"

namespace autospc::data {

// Where the next batch begins. Seek(position()) continues exactly, at any number of ranks: it is what a checkpoint
// keeps of the data.
struct DataPosition {
  int64_t epoch = 0;   // passes over the data that are over
  int64_t sample = 0;  // samples of this epoch that are taken
  uint64_t seed = 0;   // of the order of samples
  bool operator==(const DataPosition&) const = default;
};

// {"epoch":0,"sample":12,"seed":7}, and back. kBadInput: not that.
std::string ToJson(const DataPosition& position);
Result<DataPosition> ParseDataPosition(std::string_view json);

// The part of an input that a rank's program reads: rows [row_begin, row_end) and of those positions [begin, end). A
// source may leave the rest as it is.
struct Slice {
  int64_t row_begin = 0, row_end = std::numeric_limits<int64_t>::max();
  int64_t begin = 0, end = std::numeric_limits<int64_t>::max();
};

// An input of the program and its place: the whole global batch's tensor, contiguous, row-major.
struct InputView {
  std::string name;
  program::DType dtype = program::DType::Int64;
  std::vector<int64_t> sizes;
  int seq_dim = -1;  // -1: it has no sequence
  void* data = nullptr;
  Slice slice;
};

struct BatchInfo {
  int64_t tokens = 0;  // valid labels of the global batch, or its positions where the model has no labels
  bool end = false;    // the data is over (a stream); nothing was filled
};

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // Fills every input, or what its slice says of it. Each rank calls it as often as the others. Errors as the data has
  // them: kBadInput, and what a communicator says where ranks hand data on.
  virtual Result<BatchInfo> Next(const std::vector<InputView>& inputs) = 0;
  virtual DataPosition position() const = 0;
  virtual Status Seek(const DataPosition& position) = 0;
};

}  // namespace autospc::data
