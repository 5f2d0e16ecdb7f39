#include "runtime/package/portable_workspace.h"

#include <algorithm>

#include "runtime/base/alignment.h"
#include "runtime/package/kernels.h"

namespace autospc {
namespace {

using program::DType;
using PortableMetas = std::vector<TensorMeta>;

constexpr int64_t kMostScores = int64_t{1} << 24;  // of a tile, over all heads

int64_t WideBytes(DType dtype) { return std::max<int64_t>(ElementBytes(dtype), 4); }

PortableTile Halved(PortableTile tile) {
  (tile.rows == 1 || tile.keys > 2 * tile.rows ? tile.keys : tile.rows) /= 2;
  return tile;
}

// As many buffers of stretches of rows, of at most kPortableSpan elements where a row is not longer.
int64_t StretchBuffers(int64_t numel, int64_t rows, int64_t bytes, int64_t buffers) {
  const int64_t length = rows > 0 ? std::min(numel, std::max(kPortableSpan, numel / rows)) : numel;
  return buffers * Aligned(length * bytes);
}

int64_t UpdateWorkspace(const PortableMetas& operands, int64_t buffers) {
  const TensorMeta& p = operands[0];
  return StretchBuffers(p.numel(), p.sizes.empty() ? 1 : p.sizes[0], WideBytes(p.dtype), buffers);
}

// Stretches of rows in three buffers, four columns, and four rows as long as `weight` would be.
int64_t NormWorkspace(const TensorMeta& x, int64_t rows, const PortableMetas& results) {
  rows = std::max<int64_t>(rows, 1);
  const int64_t n = x.numel() / rows, bytes = WideBytes(x.dtype);
  const int64_t step = std::clamp<int64_t>(kPortableSpan / std::max<int64_t>(n, 1), 1, rows);
  int64_t scratch = 3 * Aligned(step * n * bytes) + 4 * Aligned(step * bytes) + 4 * Aligned(n * bytes);
  for (const TensorMeta& t : results) scratch += t.is_contiguous() ? 0 : Aligned(t.bytes());
  return scratch;
}

}  // namespace

int64_t PortableAttentionBytes(const AttentionShape& s, PortableTile tile, bool backward) {
  const int64_t element = std::max<int64_t>(s.element_size, 4), heads = s.batch * s.q_heads;
  const auto buffer = [&](int64_t rows, int64_t length) { return Aligned(heads * rows * length * element); };
  int64_t bytes = buffer(tile.rows, s.dim) + buffer(tile.keys, s.dim) + buffer(tile.keys, s.value_dim) +
                  buffer(tile.rows, s.value_dim) + buffer(tile.rows, tile.keys) + 4 * buffer(tile.rows, 1);
  if (!backward) return bytes;
  if (tile.keys >= s.k_len) bytes += buffer(tile.rows, tile.keys);
  bytes += buffer(tile.rows, tile.keys) + buffer(tile.rows, s.dim) + buffer(tile.keys, s.dim) + buffer(tile.keys, s.value_dim) +
           buffer(tile.rows, s.value_dim);
  if (s.element_size < 4) {
    const int64_t keys = s.batch * s.kv_heads * s.k_len;
    bytes += Aligned(keys * s.dim * element) + Aligned(keys * s.value_dim * element);
  }
  return bytes;
}

PortableTile PlannedPortableTile(const AttentionShape& s) {
  PortableTile tile{std::clamp<int64_t>(s.q_len, 1, 1024), std::clamp<int64_t>(s.k_len, 1, 2048)};
  while (s.batch * s.q_heads * tile.rows * tile.keys > kMostScores && tile.rows * tile.keys > 1) tile = Halved(tile);
  return tile;
}

PortableTile FittingPortableTile(const AttentionShape& s, bool backward, int64_t bytes) {
  PortableTile tile = PlannedPortableTile(s);
  while (PortableAttentionBytes(s, tile, backward) > bytes) {
    if (tile.rows * tile.keys <= 1) return {};
    tile = Halved(tile);
  }
  return tile;
}

int64_t PortableWorkspace(std::string_view op, const PortableMetas& operands, const PortableMetas& results) {
  if (op.starts_with("autosp.attention")) {
    const bool backward = op == "autosp.attention_backward";
    const AttentionShape shape = AttentionShapeOf(operands, backward);
    return PortableAttentionBytes(shape, PlannedPortableTile(shape), backward);
  }
  if (op == "autosp.dropout") return Aligned(operands[0].numel());
  if (op.starts_with("autosp.adamw")) return UpdateWorkspace(operands, 6);
  if (op.starts_with("autosp.sgd")) return UpdateWorkspace(operands, 2);
  if (op == "autosp.grad_norm" || op == "autosp.sum_of_squares") {
    int64_t longest = 1;
    for (const TensorMeta& t : operands) longest = std::max(longest, t.numel());
    return Aligned(std::min(longest, kPortableSpan) * 8) + Aligned(8);
  }
  if (op == "aten.native_layer_norm.default") return NormWorkspace(operands[0], results.size() > 1 ? results[1].numel() : 1, results);
  if (op == "aten.native_layer_norm_backward.default" && operands.size() > 2) return NormWorkspace(operands[1], operands[2].numel(), results);
  if (op == "aten.embedding_dense_backward.default" && !results.empty() && results[0].sizes.size() == 2) {
    const int64_t rows = results[0].sizes[0], width = results[0].sizes[1];
    const int64_t step = std::clamp<int64_t>(kPortableSpan / std::max<int64_t>(rows, 1), 1, std::max<int64_t>(width, 1));
    return Aligned(rows * step * WideBytes(results[0].dtype));
  }
  return 0;
}

}  // namespace autospc
