// Checkpoints where the forward pass is narrow: it is cut into segments, what crosses a border is saved, and the inside
// of each segment runs again when the backward pass comes to it.
#pragma once

#include <cstdint>
#include <vector>

#include "passes/recompute/problem.h"

namespace autospc::recompute {

class Segments {
 public:
  explicit Segments(const Problem& problem);  // which outlives it

  // Bytes of what the forward pass makes and the backward pass reads.
  int64_t backward_bytes() const { return backward_bytes_; }

  // keep[s] for each storage: those that cross a border. A segment holds at most `inside` bytes that the backward pass reads
  // (more where one item makes more); of the borders that leave it at least half of that, the one which the fewest bytes
  // of its own cross, the last of those that tie. Layers and tiles show themselves by that, whatever their modules are called.
  // (Chen et al., "Training Deep Nets with Sublinear Memory Cost", whose budget per segment this is.)
  std::vector<bool> KeepBorders(int64_t inside) const;

 private:
  const Problem& problem_;
  std::vector<int> last_forward_;     // by storage: the last forward item that reads it, -1 if none does
  std::vector<int64_t> read_bytes_;   // by forward item: of what it makes and the backward pass reads
  int64_t backward_bytes_ = 0;
};

}  // namespace autospc::recompute
