// The data of constant inputs (buffers, lifted constants), and the structure found in it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "passes/canonical/match.h"
#include "passes/framework/pass.h"
#include "runtime/base/predicate.h"

namespace autospc::canonical {

class Constants {
 public:
  // Both outlive this.
  Constants(const Graph& graph, const ConstantReader& reader) : graph_(graph), reader_(reader) {}

  // Whether v is an input whose data stays as it is in the file: no parameter, no buffer that the step writes.
  bool IsConstant(ValueId v) const;
  // The element at a row-major offset, as a double (exact for integers below 2^53). Nothing where the file
  // holds no data of it.
  std::optional<double> Read(ValueId v, int64_t offset);

 private:
  const std::vector<uint8_t>* Bytes(ValueId v);

  const Graph& graph_;
  const ConstantReader& reader_;
  std::map<ValueId, std::optional<std::vector<uint8_t>>> bytes_;
};

// A predicate over q in [0, q_size), k in [0, k_size) that equals `at` at every entry, if one of the usual
// structures does: constant, band (causal, window), chunks, prefix, block-causal, key or query ranges, and
// their complements. Every entry is checked.
std::optional<Predicate> FitPredicate(int64_t q_size, int64_t k_size, const std::function<bool(int64_t, int64_t)>& at);

}  // namespace autospc::canonical
