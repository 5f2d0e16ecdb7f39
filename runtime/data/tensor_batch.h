// One safetensors file (or message of a stream) of rows: tensors named as the model's inputs, `NAME` or `in.NAME`,
// their dim of the batch as long as the file has rows, their sequence as long as the package's or shorter. Other
// tensors are left alone.
//
// Inputs that it leaves out are made of its tokens: labels (shifted where the model does not), a mask, positions, token
// types. What a row lacks in length is padding: ignored labels, mask 0.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/data/contract.h"
#include "runtime/package/safetensors.h"

namespace autospc::data {

class TensorBatch {
 public:
  // kBadInput: it fills not all inputs, or not of their sizes and types; rows shorter than the package's where the loss
  // can ignore no label; with `scan`, a token beyond the embedding or a label that is no class.
  static Result<TensorBatch> Make(const Contract& contract, SafetensorsFile file, const std::string& where, bool scan);

  int64_t rows() const { return rows_; }
  // Fills row `to` of the inputs from row `from`; returns its valid labels as FillRow does.
  int64_t Fill(const Places& places, int64_t from, int64_t to) const;

 private:
  // An input that the file holds. Its elements beside the batch lie as [before, length, after], both in the file and in
  // the program.
  struct Column {
    size_t input = 0;  // in the contract
    const std::byte* data = nullptr;
    program::DType dtype = program::DType::Int64;
    int64_t length = 1;                             // of the sequence in the file
    int64_t file_row = 0, row = 0;                  // elements between rows
    std::vector<std::pair<int64_t, int64_t>> runs;  // first elements of a row's runs along the sequence: file, program
    int64_t file_step = 1, step = 1;                // elements between neighbours along the sequence
  };

  Status Add(size_t input, const SafetensorsEntry& entry);
  Status CheckRoles() const;
  Status Scan() const;
  int64_t Integer(const Column& column, int64_t row, int64_t t) const;
  const Column* Find(Role role) const;
  Error Bad(std::string what, std::string hint) const {
    return {Code::kBadInput, std::move(what), where_, std::move(hint)};
  }

  Contract contract_;
  SafetensorsFile file_;
  std::string where_;
  std::vector<Column> columns_;
  bool derives_ = false;  // shifted labels of the tokens
  int64_t rows_ = -1;
};

}  // namespace autospc::data
