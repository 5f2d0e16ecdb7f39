// Scratch of the kernels that are made of LibTorch's ops (runtime/exec, the portable set): what a package for a GPU plans
// for its instructions. The kernels cut it themselves; what LibTorch's own ops allocate inside comes from its allocator on
// the device and is no part of the plan.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/package/attention_workspace.h"

namespace autospc {

struct TensorMeta;  // runtime/package/kernels.h

// Elements that a kernel widens or makes at a time, where it does not work in place.
inline constexpr int64_t kPortableSpan = int64_t{1} << 21;

// A tile of the score matrix of all heads at once: queries by keys.
struct PortableTile {
  int64_t rows = 0, keys = 0;
  bool operator==(const PortableTile&) const = default;
};

// Bytes of an attention's scratch with such a tile, a multiple of 64. The backward pass of 16-bit operands also holds the
// gradients of keys and values in float32, which grows with the length as they do.
int64_t PortableAttentionBytes(const AttentionShape& shape, PortableTile tile, bool backward);
// The tile that the plan provides for: up to 1,024 queries by 2,048 keys, and 16 Mi scores (64 MiB in float32) over all heads.
PortableTile PlannedPortableTile(const AttentionShape& shape);
// The largest of those that halve it whose scratch fits into so many bytes; {0, 0} if none does.
PortableTile FittingPortableTile(const AttentionShape& shape, bool backward, int64_t bytes);

// Bytes of one instruction, from its operands and results in schema order, lists flattened, None left out. 0 for most.
int64_t PortableWorkspace(std::string_view op, const std::vector<TensorMeta>& operands,
                          const std::vector<TensorMeta>& results);

}  // namespace autospc
