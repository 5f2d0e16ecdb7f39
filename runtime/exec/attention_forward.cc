#include <cmath>
#include <limits>

#include "runtime/exec/attention_tiles.h"

namespace autospc::exec {
namespace {

template <typename T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();

// One tile of queries of one head against all its keys, by the online softmax.
template <typename T>
class ForwardTile {
 public:
  ForwardTile(const AttentionArgs& args, int64_t slice)
      : args_(args),
        keys_(args.k.sizes[2]),
        dim_(args.q.sizes[3]),
        value_dim_(args.v.sizes[3]),
        tile_keys_(std::min(kAttentionKeyTile, keys_)) {
    const AttentionShape shape = ShapeOf(args);
    Scratch scratch(args.workspace.data() + slice * AttentionForwardSliceBytes(shape));
    const int64_t rows = std::min(kAttentionQueryTile, args.q.sizes[2]);
    scores_ = scratch.Rows<T>(rows, tile_keys_);
    sum_of_values_ = scratch.Rows<T>(rows, value_dim_);
    max_ = scratch.Column<T>(rows);
    sum_ = scratch.Column<T>(rows);
    factor_ = scratch.Column<T>(rows);
    if (!shape.direct) {
      q_buffer_ = scratch.Rows<T>(rows, dim_);
      k_buffer_ = scratch.Rows<T>(tile_keys_, dim_);
      v_buffer_ = scratch.Rows<T>(tile_keys_, value_dim_);
    }
  }

  void Run(int64_t b, int64_t head, int64_t row) {
    const int64_t rows = std::min(kAttentionQueryTile, args_.q.sizes[2] - row);
    const HeadMask mask(args_, b, head);
    std::fill(max_, max_ + rows, -kInfinity<T>);
    std::fill(sum_, sum_ + rows, T(0));
    const Matrix<const T> q = LoadTile(args_.q, args_.dtype, b, head, row, rows, q_buffer_);
    bool any = false;
    for (int64_t key = 0; key < keys_; key += kAttentionKeyTile) {
      TileKind kind;
      const Interval k = mask.Keys(row, rows, {key, std::min(keys_, key + kAttentionKeyTile)}, &kind);
      if (k.empty()) continue;
      Accumulate(mask, b, head, row, rows, q, k, kind, !any);
      any = true;
    }
    Finish(b, head, row, rows, any);
  }

 private:
  void Accumulate(const HeadMask& mask, int64_t b, int64_t head, int64_t row, int64_t rows, Matrix<const T> q,
                  Interval keys, TileKind kind, bool first) {
    const AttentionRows<T>& loops = RowLoops<T>();
    const int64_t kv_head = args_.kv_heads[static_cast<size_t>(head)];
    const int64_t n = keys.end - keys.begin, padded = PadRow(n, kRowPadding<T>);
    const Matrix<const T> k = LoadTile(args_.k, args_.dtype, b, kv_head, keys.begin, n, k_buffer_);
    Gemm<T>(false, true, rows, n, dim_, static_cast<T>(args_.scale), q, k, 0, scores_);
    for (int64_t r = 0; r < rows && n < padded; ++r) {
      T* s = scores_.data + r * scores_.ld;
      std::fill(s + n, s + padded, -kInfinity<T>);
    }
    if (kind == TileKind::kMixed) mask.Apply(scores_, row, rows, keys);
    loops.softmax(scores_.data, scores_.ld, rows, padded, max_, sum_, factor_);
    if (args_.dropout_p > 0) mask.Drop(scores_, row, rows, keys);
    if (!first) loops.scale(sum_of_values_.data, sum_of_values_.ld, rows, sum_of_values_.ld, factor_);
    const Matrix<const T> v = LoadTile(args_.v, args_.dtype, b, kv_head, keys.begin, n, v_buffer_);
    Gemm<T>(false, false, rows, value_dim_, n, 1, {scores_.data, scores_.ld}, v, first ? 0 : 1, sum_of_values_);
  }

  void Finish(int64_t b, int64_t head, int64_t row, int64_t rows, bool any) {
    T* lse = static_cast<T*>(args_.lse) + (b * args_.q.sizes[1] + head) * args_.q.sizes[2] + row;
    for (int64_t r = 0; r < rows; ++r) {
      lse[r] = max_[r] == -kInfinity<T> ? -kInfinity<T> : max_[r] + std::log(sum_[r]);
      T* o = sum_of_values_.data + r * sum_of_values_.ld;
      if (!any || max_[r] == -kInfinity<T>) {
        std::fill(o, o + value_dim_, T(0));
      } else {
        const T inverse = 1 / sum_[r];
        for (int64_t j = 0; j < value_dim_; ++j) o[j] *= inverse;
      }
    }
    StoreTile<T>({sum_of_values_.data, sum_of_values_.ld}, args_.out, args_.dtype, b, head, row, rows);
  }

  const AttentionArgs& args_;
  const int64_t keys_, dim_, value_dim_, tile_keys_;
  Matrix<T> scores_, sum_of_values_, q_buffer_, k_buffer_, v_buffer_;
  T *max_ = nullptr, *sum_ = nullptr, *factor_ = nullptr;
};

template <typename T>
void Forward(const AttentionArgs& args) {
  const int64_t batch = args.q.sizes[0], heads = args.q.sizes[1], rows = args.q.sizes[2];
  const int64_t tiles = (rows + kAttentionQueryTile - 1) / kAttentionQueryTile;
  const int64_t slices = static_cast<int64_t>(args.workspace.size()) / AttentionForwardSliceBytes(ShapeOf(args));
  ForEachTask(batch * heads * tiles, slices, [&](int64_t index, int64_t slice) {
    // Tiles outermost, so that the highest, taken first, have the most work under a causal mask.
    const int64_t tile = index / (batch * heads), b = index / heads % batch, head = index % heads;
    ForwardTile<T>(args, slice).Run(b, head, tile * kAttentionQueryTile);
  });
}

}  // namespace

void AttentionForward(const AttentionArgs& args) {
  if (args.dtype == c10::ScalarType::Double) {
    Forward<double>(args);
  } else {
    Forward<float>(args);
  }
}

}  // namespace autospc::exec
