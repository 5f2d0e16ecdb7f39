#include "runtime/train/snapshot.h"

#include <ATen/ops/from_blob.h>

namespace autospc::train {

Result<Snapshot> Snapshot::Make(const checkpoint::Layout& layout, exec::Executor* executor) {
  const std::vector<checkpoint::Slice> slices = layout.SlicesOf(executor->context().rank);
  Snapshot snapshot;
  ASSIGN_OR_RETURN(snapshot.memory_, exec::Region::Map(checkpoint::SnapshotBytes(slices), "the copy for checkpoints"));
  for (int64_t i = 0; i < snapshot.memory_.bytes(); i += 4096) snapshot.memory_.data()[i] = std::byte{0};
  for (const checkpoint::Slice& slice : slices) {
    if (slice.bytes == 0) continue;
    at::Tensor from = executor->tensor(layout.tensors[slice.saved].tensor);
    // Of a block the last rank may have less than it is long.
    if (layout.tensors[slice.saved].block > 0) from = from.narrow(0, 0, slice.end - slice.begin);
    at::Tensor to = at::from_blob(snapshot.memory_.data() + slice.offset, from.sizes(),
                                  at::TensorOptions().dtype(from.scalar_type()));
    snapshot.copies_.emplace_back(std::move(to), std::move(from));
  }
  return snapshot;
}

void Snapshot::Take() {
  for (auto& [to, from] : copies_) to.copy_(from);
}

}  // namespace autospc::train
