#include <limits>

#include <ATen/Parallel.h>

#include "runtime/exec/attention_tiles.h"

namespace autospc::exec {
namespace {

template <typename T>
Matrix<const T> Const(Matrix<T> m) {
  return {m.data, m.ld};
}

template <typename T>
void Zero(Matrix<T> m, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) std::fill(m.data + r * m.ld, m.data + r * m.ld + columns, T(0));
}

// Where a tile's gradient adds up: where it lies, or in a buffer that is stored when the tile is done. Zero at first.
template <typename T>
class Accumulator {
 public:
  Accumulator(const AttentionBackwardArgs& args, const AttentionView& view, int64_t b, int64_t h, int64_t row,
              int64_t rows, bool direct, Matrix<T> buffer)
      : args_(args), view_(view), b_(b), h_(h), row_(row), rows_(rows) {
    if (!wanted()) return;
    sum_ = direct ? Place<T>(view, b, h, row) : buffer;
    Zero(sum_, rows, view.sizes[3]);
  }

  bool wanted() const { return view_.data != nullptr; }
  // From row `first` of the tile on.
  Matrix<T> rows(int64_t first) const { return {sum_.data + first * sum_.ld, sum_.ld}; }
  void Store() const {
    if (wanted()) StoreTile(Const(sum_), view_, args_.dtype, b_, h_, row_, rows_);
  }

 private:
  const AttentionBackwardArgs& args_;
  const AttentionView& view_;
  const int64_t b_, h_, row_, rows_;
  Matrix<T> sum_;
};

// Walks over tiles of the score matrix, recomputing probabilities from the log-sum-exp. A tile's gradients come
// from the same products in the same order whether it is visited for dk and dv, for dq, or for all three.
template <typename T>
class BackwardTiles {
 public:
  BackwardTiles(const AttentionBackwardArgs& args, int64_t slice)
      : args_(args),
        direct_(ShapeOf(args).direct),
        heads_(args.q.sizes[1]),
        rows_(args.q.sizes[2]),
        keys_(args.k.sizes[2]),
        dim_(args.q.sizes[3]),
        value_dim_(args.v.sizes[3]) {
    Scratch scratch(args.workspace.data() + slice * AttentionBackwardSliceBytes(ShapeOf(args)));
    const int64_t rows = std::min(kAttentionQueryTile, rows_), keys = std::min(kAttentionKeyTile, keys_);
    p_ = scratch.Rows<T>(rows, keys);
    ds_ = scratch.Rows<T>(rows, keys);
    lse_ = scratch.Column<T>(rows);
    delta_ = scratch.Column<T>(rows);
    if (direct_) return;
    for (Matrix<T>* m : {&q_buffer_, &dq_buffer_}) *m = scratch.Rows<T>(rows, dim_);
    for (Matrix<T>* m : {&k_buffer_, &dk_buffer_}) *m = scratch.Rows<T>(keys, dim_);
    for (Matrix<T>* m : {&v_buffer_, &dv_buffer_}) *m = scratch.Rows<T>(keys, value_dim_);
    for (Matrix<T>* m : {&grad_buffer_, &out_buffer_}) *m = scratch.Rows<T>(rows, value_dim_);
  }

  // dk and dv of all tiles of a kv head, and dq of the query heads that read it, for direct operands.
  void RunGroup(int64_t b, int64_t kv_head) {
    for (int64_t head = 0; head < heads_; ++head) {
      if (Reads(head, kv_head)) Zero(Place<T>(args_.dq, b, head, 0), rows_, dim_);
    }
    for (int64_t key = 0; key < keys_; key += kAttentionKeyTile) RunKeys(b, kv_head, key, true);
  }

  // dk and dv of one tile of keys.
  void RunKeys(int64_t b, int64_t kv_head, int64_t key, bool with_dq) {
    LoadKeys(b, kv_head, key);
    const int64_t n = key_tile_.end - key_tile_.begin;
    const Accumulator<T> dk(args_, args_.dk, b, kv_head, key, n, direct_, dk_buffer_);
    const Accumulator<T> dv(args_, args_.dv, b, kv_head, key, n, direct_, dv_buffer_);
    for (int64_t head = 0; head < heads_; ++head) {
      if (!Reads(head, kv_head)) continue;
      const HeadMask mask(args_, b, head);
      for (int64_t row = 0; row < rows_; row += kAttentionQueryTile) {
        TileKind kind;
        const int64_t rows = std::min(kAttentionQueryTile, rows_ - row);
        const Interval keys = mask.Keys(row, rows, key_tile_, &kind);
        if (keys.empty()) continue;
        LoadQueries(b, head, row, rows);
        Recompute(mask, row, rows, keys, kind);
        if (with_dq) AddToQueries(rows, keys, Place<T>(args_.dq, b, head, row));
        if (dk.wanted()) AddToKeys(rows, keys, ds_, q_, dim_, dk.rows(keys.begin - key));
        if (!dv.wanted()) continue;
        if (args_.dropout_p > 0) mask.Drop(p_, row, rows, keys);
        AddToKeys(rows, keys, p_, grad_, value_dim_, dv.rows(keys.begin - key));
      }
    }
    dk.Store();
    dv.Store();
  }

  // dq of one tile of queries.
  void RunQueries(int64_t b, int64_t head, int64_t row) {
    const int64_t rows = std::min(kAttentionQueryTile, rows_ - row);
    const HeadMask mask(args_, b, head);
    LoadQueries(b, head, row, rows);
    const Accumulator<T> dq(args_, args_.dq, b, head, row, rows, direct_, dq_buffer_);
    for (int64_t key = 0; key < keys_; key += kAttentionKeyTile) {
      TileKind kind;
      const Interval keys = mask.Keys(row, rows, {key, std::min(keys_, key + kAttentionKeyTile)}, &kind);
      if (keys.empty()) continue;
      LoadKeys(b, args_.kv_heads[static_cast<size_t>(head)], key);
      Recompute(mask, row, rows, keys, kind);
      AddToQueries(rows, keys, dq.rows(0));
    }
    dq.Store();
  }

 private:
  bool Reads(int64_t head, int64_t kv_head) const { return args_.kv_heads[static_cast<size_t>(head)] == kv_head; }

  void LoadKeys(int64_t b, int64_t kv_head, int64_t key) {
    key_tile_ = {key, std::min(keys_, key + kAttentionKeyTile)};
    const int64_t n = key_tile_.end - key_tile_.begin;
    k_ = LoadTile(args_.k, args_.dtype, b, kv_head, key, n, k_buffer_);
    v_ = LoadTile(args_.v, args_.dtype, b, kv_head, key, n, v_buffer_);
  }

  void LoadQueries(int64_t b, int64_t head, int64_t row, int64_t rows) {
    q_ = LoadTile(args_.q, args_.dtype, b, head, row, rows, q_buffer_);
    grad_ = LoadTile(args_.grad_out, args_.dtype, b, head, row, rows, grad_buffer_);
    const Matrix<const T> out = LoadTile(args_.out, args_.dtype, b, head, row, rows, out_buffer_);
    RowLoops<T>().dot(grad_.data, grad_.ld, out.data, out.ld, rows, value_dim_, delta_);
    constexpr T kInfinity = std::numeric_limits<T>::infinity();
    const T* lse = static_cast<const T*>(args_.lse) + (b * heads_ + head) * rows_ + row;
    // An empty row has -inf; +inf makes its probabilities 0.
    for (int64_t r = 0; r < rows; ++r) lse_[r] = lse[r] == -kInfinity ? kInfinity : lse[r];
  }

  Matrix<const T> KeyRows(Matrix<const T> tile, Interval keys) const {
    return {tile.data + (keys.begin - key_tile_.begin) * tile.ld, tile.ld};
  }

  // p_ and ds_: the probabilities, before dropout, and the gradient of the unscaled scores.
  void Recompute(const HeadMask& mask, int64_t row, int64_t rows, Interval keys, TileKind kind) {
    const AttentionRows<T>& loops = RowLoops<T>();
    const int64_t n = keys.end - keys.begin, padded = PadRow(n, kRowPadding<T>);
    Gemm<T>(false, true, rows, n, dim_, static_cast<T>(args_.scale), q_, KeyRows(k_, keys), 0, p_);
    if (kind == TileKind::kMixed) mask.Apply(p_, row, rows, keys);
    loops.probability(p_.data, p_.ld, rows, padded, lse_);  // what the padding becomes is never read
    Gemm<T>(false, true, rows, n, value_dim_, 1, grad_, KeyRows(v_, keys), 0, ds_);
    if (args_.dropout_p > 0) mask.Drop(ds_, row, rows, keys);
    // What grad . out comes to, but with the rounding of these very products: a row of score gradients adds up to
    // zero, and what does not cancel shows in gradients that are sums of rows (a key bias has none at all).
    if (keys_ <= kAttentionKeyTile) loops.weighted_mean(p_.data, ds_.data, ds_.ld, rows, n, delta_);
    loops.score_gradient(p_.data, ds_.data, ds_.ld, rows, padded, delta_, static_cast<T>(args_.scale));
  }

  void AddToQueries(int64_t rows, Interval keys, Matrix<T> dq) const {
    Gemm<T>(false, false, rows, dim_, keys.end - keys.begin, 1, Const(ds_), KeyRows(k_, keys), 1, dq);
  }

  // sum += by_query^T * queries
  void AddToKeys(int64_t rows, Interval keys, Matrix<T> by_query, Matrix<const T> queries, int64_t length,
                 Matrix<T> sum) const {
    Gemm<T>(true, false, keys.end - keys.begin, length, rows, 1, Const(by_query), queries, 1, sum);
  }

  const AttentionBackwardArgs& args_;
  const bool direct_;
  const int64_t heads_, rows_, keys_, dim_, value_dim_;
  Matrix<T> p_, ds_;
  T *lse_ = nullptr, *delta_ = nullptr;
  Matrix<T> q_buffer_, k_buffer_, v_buffer_, grad_buffer_, out_buffer_, dq_buffer_, dk_buffer_, dv_buffer_;
  // The tiles at hand.
  Matrix<const T> q_, k_, v_, grad_;
  Interval key_tile_;
};

template <typename T>
void Backward(const AttentionBackwardArgs& args) {
  const AttentionShape shape = ShapeOf(args);
  const int64_t slices = static_cast<int64_t>(args.workspace.size()) / AttentionBackwardSliceBytes(shape);
  const int64_t threads = std::min(slices, static_cast<int64_t>(at::get_num_threads()));
  const int64_t groups = shape.batch * shape.kv_heads;
  const int64_t query_tiles = (shape.q_len + kAttentionQueryTile - 1) / kAttentionQueryTile;
  const int64_t key_tiles = (shape.k_len + kAttentionKeyTile - 1) / kAttentionKeyTile;
  // One walk over a group's tiles takes 5 products a tile, but there may be too few groups to keep all threads at
  // work; two walks, for dk and dv and for dq, take 7 and divide into tiles.
  const int64_t rounds = (groups + threads - 1) / threads;
  const bool for_keys = args.dk.data != nullptr || args.dv.data != nullptr, for_queries = args.dq.data != nullptr;
  if (shape.direct && for_keys && for_queries && 5 * rounds * threads <= 7 * groups) {
    ForEachTask(groups, slices, [&](int64_t i, int64_t slice) {
      BackwardTiles<T>(args, slice).RunGroup(i / shape.kv_heads, i % shape.kv_heads);
    });
    return;
  }
  ForEachTask(for_keys ? groups * key_tiles : 0, slices, [&](int64_t i, int64_t slice) {
    // Tiles outermost and backwards: the lowest keys, seen by most queries under a causal mask, go first.
    const int64_t tile = key_tiles - 1 - i / groups;
    BackwardTiles<T>(args, slice)
        .RunKeys(i / shape.kv_heads % shape.batch, i % shape.kv_heads, tile * kAttentionKeyTile, false);
  });
  const int64_t heads = shape.batch * shape.q_heads;
  ForEachTask(for_queries ? heads * query_tiles : 0, slices, [&](int64_t i, int64_t slice) {
    BackwardTiles<T>(args, slice)
        .RunQueries(i / shape.q_heads % shape.batch, i % shape.q_heads, i / heads * kAttentionQueryTile);
  });
}

}  // namespace

void AttentionBackward(const AttentionBackwardArgs& args) {
  if (args.dtype == c10::ScalarType::Double) {
    Backward<double>(args);
  } else {
    Backward<float>(args);
  }
}

}  // namespace autospc::exec
