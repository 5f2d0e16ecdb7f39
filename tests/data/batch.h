// A program's inputs without a program: contracts and the memory that a source fills.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "runtime/data/batch_source.h"
#include "runtime/data/contract.h"
#include "runtime/package/dtype.h"

namespace autospc::data {

using program::DType;

inline InputSpec Spec(const std::string& name, Role role, std::vector<int64_t> sizes, DType dtype = DType::Int64,
                      int64_t limit = 0) {
  const int seq_dim = sizes.empty() ? -1 : static_cast<int>(sizes.size()) - 1;
  return {name, dtype, std::move(sizes), seq_dim, role, limit};
}

// input_ids and labels of rows x length, ids below 1000.
inline Contract Causal(int64_t rows, int64_t length, Labels labels, std::optional<int64_t> ignore = -100) {
  Contract contract;
  contract.inputs = {Spec("input_ids", Role::kTokens, {rows, length}, DType::Int64, 1000),
                     Spec("labels", Role::kLabels, {rows, length}, DType::Int64, 1000)};
  contract.labels = labels;
  contract.ignore_index = ignore;
  return contract;
}

class Memory {
 public:
  explicit Memory(const Contract& contract) {
    for (const InputSpec& input : contract.inputs) {
      const int64_t bytes = *CheckedNumel(input.sizes) * ByteSize(input.dtype);
      bytes_.emplace_back(static_cast<size_t>(bytes), std::byte{0x5A});  // a place that is left out shows
      views_.push_back({input.name, input.dtype, input.sizes, input.seq_dim, bytes_.back().data(), {}});
    }
  }
  const std::vector<InputView>& views() const { return views_; }
  // All elements of an input.
  std::vector<double> Get(const std::string& name) const {
    std::vector<double> values;
    for (const InputView& view : views_) {
      if (view.name != name) continue;
      for (int64_t i = 0; i < *CheckedNumel(view.sizes); ++i)
        values.push_back(LoadAsDouble(view.dtype, static_cast<const std::byte*>(view.data) + i * ByteSize(view.dtype)));
    }
    return values;
  }

 private:
  std::vector<std::vector<std::byte>> bytes_;
  std::vector<InputView> views_;
};

}  // namespace autospc::data
