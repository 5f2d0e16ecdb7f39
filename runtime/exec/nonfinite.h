// Looks for NaN and infinity in tensors; those of another device are copied to the host for it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace autospc::exec {

struct NonFinite {
  int64_t nan = 0, inf = 0;  // how many
  int64_t elements = 0;
  std::vector<int64_t> first;  // index of the first one, in the order of indices
  bool any() const { return nan + inf > 0; }
};

// Quick: one sweep over the bits. False for tensors that are not floating.
struct Kinds {
  bool nan = false, inf = false;
};
Kinds FindNonFinite(const at::Tensor& t);
// Slow, for what was found: counts and the first one's place.
NonFinite CountNonFinite(const at::Tensor& t);

}  // namespace autospc::exec
