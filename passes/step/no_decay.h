// Which parameters weight decay leaves alone (--no-decay).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/base/result.h"

namespace autospc::step {

// Of all parameters of fewer than two dims, as a pattern: biases and the weights of norms.
inline constexpr char kVectors[] = "vectors";

class NoDecay {
 public:
  // Patterns are those of a shell over a parameter's whole name ("*.bias", "model.embed_tokens.*", "[ab]?.weight"), or
  // kVectors.
  explicit NoDecay(std::vector<std::string> patterns) : patterns_(std::move(patterns)), used_(patterns_.size(), false) {}

  // Whether one of the names matches.
  bool Matches(const std::vector<std::string>& names, int dims);

  // kBadInput where a pattern has matched nothing that was asked for; `names`: some, for the hint.
  Status CheckAllUsed(const std::vector<std::string>& names) const;

 private:
  std::vector<std::string> patterns_;
  std::vector<bool> used_;
};

}  // namespace autospc::step
