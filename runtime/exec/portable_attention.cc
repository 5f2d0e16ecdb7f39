// autosp.attention and its backward pass by LibTorch's ops: the online softmax of attention_forward.cc and
// attention_backward.cc, over tiles of all heads at once. Tiles that the predicate excludes by positions alone are skipped;
// in float32, or float64 for float64 operands, which 16-bit ones are widened to.
#include <ATen/ops/amax.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "runtime/exec/attention_call.h"
#include "runtime/exec/portable.h"
#include "runtime/exec/predicate_mask.h"
#include "runtime/exec/scratch.h"

namespace autospc::exec {
namespace {

constexpr double kNoScore = -std::numeric_limits<double>::infinity();

// A call's attention, tile by tile. Tensors of a tile are [B, H, rows, length], H counting query heads.
class TiledAttention {
 public:
  TiledAttention(const Call& call, const AttentionCall& attention, PortableTile tile, bool backward)
      : call_(call),
        a_(attention),
        tile_(tile),
        scratch_(call),
        vectors_(call.Tensors(backward ? 4 : 3)),
        q_(call.Tensor(backward ? 1 : 0)),
        k_(call.Tensor(backward ? 2 : 1)),
        v_(call.Tensor(backward ? 3 : 2)),
        type_(q_.scalar_type() == at::kDouble ? at::kDouble : at::kFloat) {}

  void Forward(double dropout) {
    const at::Tensor &out = call_.outputs[0], &lse = call_.outputs[1];
    const at::Tensor q_buffer = Rows(dim()), k_buffer = Keys(dim()), v_buffer = Keys(value_dim()), s_buffer = Scores();
    const at::Tensor sum_buffer = Rows(value_dim()), max_buffer = Rows(1), norm_buffer = Rows(1), top_buffer = Rows(1), safe_buffer = Rows(1);
    for (int64_t row = 0; row < rows(); row += tile_.rows) {
      const int64_t n = std::min(tile_.rows, rows() - row);
      const at::Tensor q = Load(q_, row, n, q_buffer), sum = Part(sum_buffer, n), max = Part(max_buffer, n), norm = Part(norm_buffer, n);
      at::Tensor top = Part(top_buffer, n), safe = Part(safe_buffer, n);
      sum.zero_(), norm.zero_(), max.fill_(kNoScore);
      ForKeys(row, n, [&](Interval keys, bool all) {
        at::Tensor s = Score(q, LoadHeads(k_, keys, k_buffer), row, keys, all, s_buffer);
        at::amax_out(top, s, {3}, /*keepdim=*/true);
        at::maximum_out(top, top, max);
        safe.copy_(top).masked_fill_(top.eq(kNoScore), 0);  // a row without a key yet: inf - inf is no number
        s.sub_(safe).exp_();
        max.sub_(safe).exp_();  // by how much what is there must shrink
        norm.mul_(max);
        sum.mul_(max);
        max.copy_(top);
        at::sum_out(top, s, {3}, /*keepdim=*/true);
        norm.add_(top);
        if (dropout > 0) Drop(s, row, keys, dropout);
        Matrices(sum).baddbmm_(Matrices(s), Matrices(LoadHeads(v_, keys, v_buffer)));
      });
      const at::Tensor empty = norm.eq(0);
      lse.narrow(2, row, n).copy_(max.add_(safe.copy_(norm).log_()).squeeze(3));
      norm.masked_fill_(empty, 1);
      out.narrow(2, row, n).copy_(sum.div_(norm));
    }
  }

  void Backward() {
    const at::Tensor &grad_out = call_.Tensor(0), &out = call_.Tensor(5), &lse = call_.Tensor(6);
    const at::Tensor q_buffer = Rows(dim()), k_buffer = Keys(dim()), v_buffer = Keys(value_dim()), g_buffer = Rows(value_dim());
    const at::Tensor p_buffer = Scores(), lse_buffer = Rows(1), delta_buffer = Rows(1), ds_buffer = Scores(), dq_buffer = Rows(dim());
    const at::Tensor dk_buffer = Keys(dim()), dv_buffer = Keys(value_dim()), product_buffer = Rows(value_dim());
    const at::Tensor dq = call_.outputs[0], dk = Sum(call_.outputs[1]), dv = Sum(call_.outputs[2]);
    const bool one_tile = tile_.keys >= k_.size(2);
    const at::Tensor weighted = one_tile ? Scores() : at::Tensor(), weight_buffer = Rows(1);
    for (int64_t row = 0; row < rows(); row += tile_.rows) {
      const int64_t n = std::min(tile_.rows, rows() - row);
      const at::Tensor q = Load(q_, row, n, q_buffer), g = Load(grad_out, row, n, g_buffer), of_lse = Part(lse_buffer, n);
      at::Tensor delta = Part(delta_buffer, n), product = Part(product_buffer, n), d_query = Part(dq_buffer, n);
      of_lse.copy_(lse.narrow(2, row, n).unsqueeze(3));
      of_lse.masked_fill_(of_lse.eq(kNoScore), -kNoScore);  // an empty row: its probabilities become 0
      if (!one_tile) {
        product.copy_(out.narrow(2, row, n)).mul_(g);
        at::sum_out(delta, product, {3}, /*keepdim=*/true);
      }
      d_query.zero_();
      ForKeys(row, n, [&](Interval keys, bool all) {
        const at::Tensor k = LoadHeads(k_, keys, k_buffer), v = LoadHeads(v_, keys, v_buffer);
        const at::Tensor p = Score(q, k, row, keys, all, p_buffer);
        p.sub_(of_lse).exp_();
        at::Tensor ds = Like(ds_buffer, p);
        at::Tensor ds_matrices = Matrices(ds);
        ds_matrices.baddbmm_(Matrices(g), Matrices(v).transpose(1, 2), 0, 1);
        if (a_.args.dropout_p > 0) Drop(ds, row, keys, a_.args.dropout_p);
        // What grad . out comes to, with the rounding of these very products and probabilities: a row of score gradients
        // adds up to zero, and what does not cancel shows in gradients that are sums of rows (a key bias has none at all).
        if (one_tile) {
          at::Tensor sums = Like(weighted, p);
          at::mul_out(sums, p, ds);
          at::sum_out(delta, sums, {3}, /*keepdim=*/true);
          at::Tensor weight = Part(weight_buffer, n);
          at::sum_out(weight, p, {3}, /*keepdim=*/true);
          delta.div_(weight.masked_fill_(weight.eq(0), 1));
        }
        ds.sub_(delta).mul_(p).mul_(a_.args.scale);
        if (dq.defined()) Matrices(d_query).baddbmm_(ds_matrices, Matrices(k));
        if (dk.defined()) AddHeads(ds, q, keys, dk_buffer, dk);
        if (!dv.defined()) return;
        if (a_.args.dropout_p > 0) Drop(p, row, keys, a_.args.dropout_p);
        AddHeads(p, g, keys, dv_buffer, dv);
      });
      if (dq.defined()) dq.narrow(2, row, n).copy_(d_query);
    }
    for (size_t i = 1; i < 3; ++i) {
      const at::Tensor& sum = i == 1 ? dk : dv;
      if (sum.defined() && !sum.is_same(call_.outputs[i])) call_.outputs[i].copy_(sum);
    }
  }

 private:
  int64_t batch() const { return q_.size(0); }
  int64_t heads() const { return q_.size(1); }
  int64_t rows() const { return q_.size(2); }
  int64_t dim() const { return q_.size(3); }
  int64_t value_dim() const { return v_.size(3); }

  at::Tensor Rows(int64_t length) { return scratch_.Take({batch() * heads() * tile_.rows * length}, type_); }
  at::Tensor Keys(int64_t length) { return scratch_.Take({batch() * heads() * tile_.keys * length}, type_); }
  at::Tensor Scores() { return Rows(tile_.keys); }
  // The first n rows' worth of a buffer, as a contiguous tensor.
  at::Tensor Part(const at::Tensor& buffer, int64_t n) const {
    const int64_t length = buffer.numel() / (batch() * heads() * tile_.rows);
    return buffer.narrow(0, 0, batch() * heads() * n * length).view({batch(), heads(), n, length});
  }
  static at::Tensor Like(const at::Tensor& buffer, const at::Tensor& t) { return buffer.narrow(0, 0, t.numel()).view(t.sizes()); }
  static at::Tensor Matrices(const at::Tensor& t) { return t.view({-1, t.size(2), t.size(3)}); }

  static at::Tensor Load(const at::Tensor& x, int64_t row, int64_t n, const at::Tensor& buffer) {
    const at::Tensor rows = x.narrow(2, row, n);
    const at::Tensor tile = Like(buffer, rows);
    tile.copy_(rows);
    return tile;
  }

  // Rows of keys or values once for each query head that reads them.
  at::Tensor LoadHeads(const at::Tensor& x, Interval keys, const at::Tensor& buffer) const {
    const int64_t n = keys.end - keys.begin;
    const at::Tensor rows = x.narrow(2, keys.begin, n);
    const at::Tensor tile = buffer.narrow(0, 0, batch() * heads() * n * x.size(3)).view({batch(), heads(), n, x.size(3)});
    if (const int64_t group = EvenGroup(x.size(1)); group > 0) {
      tile.view({batch(), x.size(1), group, n, x.size(3)}).copy_(rows.unsqueeze(2));
    } else {
      for (int64_t h = 0; h < heads(); ++h) tile.select(1, h).copy_(rows.select(1, a_.kv_heads[h]));
    }
    return tile;
  }

  // How many query heads in a row read each kv head, in their order; 0 where it is otherwise.
  int64_t EvenGroup(int64_t kv_heads) const {
    const int64_t group = heads() / kv_heads;
    if (group * kv_heads != heads()) return 0;
    for (int64_t h = 0; h < heads(); ++h) {
      if (a_.kv_heads[h] != h / group) return 0;
    }
    return group;
  }

  int64_t Position(int64_t row) const { return std::min(a_.args.q_start + row, a_.args.q_valid - 1); }
  at::Tensor Positions(int64_t row, int64_t n) const {
    const auto options = at::TensorOptions(q_.device()).dtype(at::kLong);
    return at::arange(a_.args.q_start + row, a_.args.q_start + row + n, options).clamp_max_(a_.args.q_valid - 1);
  }

  // visit(keys, whether all rows see all of them) for the tiles of keys that rows [row, row + n) may see.
  template <typename Visit>
  void ForKeys(int64_t row, int64_t n, const Visit& visit) const {
    const Interval q{Position(row), Position(row + n - 1) + 1};
    for (int64_t key = 0; key < k_.size(2); key += tile_.keys) {
      const Interval keys = AllowedWithoutVectors(a_.predicate, q, {key, std::min(k_.size(2), key + tile_.keys)});
      if (!keys.empty()) visit(keys, AllowsAllWithoutVectors(a_.predicate, q, keys));
    }
  }

  // scale * q k^T, -inf where the predicate excludes: [B, H, rows, keys].
  at::Tensor Score(const at::Tensor& q, const at::Tensor& k, int64_t row, Interval keys, bool all, const at::Tensor& buffer) const {
    const int64_t n = keys.end - keys.begin;
    const at::Tensor s = buffer.narrow(0, 0, batch() * heads() * q.size(2) * n).view({batch(), heads(), q.size(2), n});
    Matrices(s).baddbmm_(Matrices(q), Matrices(k).transpose(1, 2), 0, a_.args.scale);
    if (!all) s.masked_fill_(AllowedPairs(a_.predicate, Positions(row, q.size(2)), keys, vectors_).logical_not_(), kNoScore);
    return s;
  }

  // Each probability is kept, and grows by 1 / (1 - p), or becomes 0: some rows of a head at a time, whose numbers bound the
  // scratch.
  void Drop(const at::Tensor& s, int64_t row, Interval keys, double p) const {
    const at::Tensor positions = Positions(row, s.size(2)).unsqueeze(1);
    const at::Tensor at_keys = at::arange(keys.begin, keys.end, positions.options()).unsqueeze(0);
    const int64_t step = std::clamp<int64_t>(kUniformsAtATime / at_keys.numel(), 1, s.size(2));
    s.mul_(1 / (1 - p));
    for (int64_t b = 0; b < batch(); ++b) {
      const int64_t global = a_.args.batch > 0 ? std::min(a_.args.batch_start + b, a_.args.batch - 1) : b;
      for (int64_t h = 0; h < heads(); ++h) {
        const int64_t first = (global * a_.args.heads + a_.global_heads[h]) * a_.args.q_valid;
        for (int64_t r = 0; r < s.size(2); r += step) {
          const int64_t n = std::min(step, s.size(2) - r);
          const at::Tensor index = positions.narrow(0, r, n).add(first).mul_(k_.size(2)).add(at_keys);
          const at::Tensor dropped = UniformAt(call_.context->seed, a_.args.site, index.view({-1})).lt(static_cast<float>(p));
          s.select(0, b).select(0, h).narrow(0, r, n).masked_fill_(dropped.view(index.sizes()), 0);
        }
      }
    }
  }

  // Where the gradient of keys or values adds up: in the result, or for 16-bit ones in float32 beside it.
  at::Tensor Sum(const at::Tensor& result) {
    if (!result.defined()) return result;
    const at::Tensor sum = result.scalar_type() == type_ ? result : scratch_.Take(result.sizes(), type_);
    sum.zero_();
    return sum;
  }

  // sum[kv head] += by_query^T queries, over the query heads that read it, in their order.
  void AddHeads(const at::Tensor& by_query, const at::Tensor& queries, Interval keys, const at::Tensor& buffer, const at::Tensor& sum) const {
    const int64_t n = keys.end - keys.begin, length = queries.size(3), kv_heads = sum.size(1);
    const at::Tensor product = buffer.narrow(0, 0, batch() * heads() * n * length).view({batch(), heads(), n, length});
    Matrices(product).baddbmm_(Matrices(by_query).transpose(1, 2), Matrices(queries), 0, 1);
    const at::Tensor rows = sum.narrow(2, keys.begin, n);
    if (const int64_t group = EvenGroup(kv_heads); group > 0) {
      const at::Tensor grouped = product.view({batch(), kv_heads, group, n, length});
      for (int64_t g = 0; g < group; ++g) rows.add_(grouped.select(2, g));
    } else {
      for (int64_t h = 0; h < heads(); ++h) rows.select(1, a_.kv_heads[h]).add_(product.select(1, h));
    }
  }

  const Call& call_;
  const AttentionCall& a_;
  const PortableTile tile_;
  CallScratch scratch_;
  const std::vector<at::Tensor>& vectors_;
  const at::Tensor &q_, &k_, &v_;
  const at::ScalarType type_;
};

Result<PortableTile> TileOf(const Call& call, const AttentionCall& attention, bool backward) {
  const AttentionShape shape = backward ? ShapeOf(attention.args) : ShapeOf(static_cast<const AttentionArgs&>(attention.args));
  const PortableTile tile = FittingPortableTile(shape, backward, static_cast<int64_t>(call.workspace.size()));
  if (tile.rows > 0) return tile;
  return Misshapen(call, fmt::format("a workspace of {} bytes holds no tile", call.workspace.size()));
}

Result<Kernel> MakePortableAttention(const Call& call) {
  ASSIGN_OR_RETURN(const auto attention, ResolveAttention(call));
  ASSIGN_OR_RETURN(const PortableTile tile, TileOf(call, *attention, false));
  return Kernel([c = &call, attention, tile]() -> Status {
    PortableAttentionForward(*c, *attention, tile, c->context->dropout ? attention->args.dropout_p : 0);
    return Ok();
  });
}

Result<Kernel> MakePortableAttentionBackward(const Call& call) {
  ASSIGN_OR_RETURN(const auto attention, ResolveAttentionBackward(call));
  ASSIGN_OR_RETURN(const PortableTile tile, TileOf(call, *attention, true));
  return Kernel([c = &call, attention, tile]() -> Status {
    PortableAttentionBackward(*c, *attention, tile);
    return Ok();
  });
}

}  // namespace

void PortableAttentionForward(const Call& call, const AttentionCall& attention, PortableTile tile, double dropout) {
  TiledAttention(call, attention, tile, false).Forward(dropout);
}

void PortableAttentionBackward(const Call& call, const AttentionCall& attention, PortableTile tile) {
  TiledAttention(call, attention, tile, true).Backward();
}

void AddPortableAttentionKernels(KernelTable* table) {
  table->Add("autosp.attention", &MakePortableAttention);
  table->Add("autosp.attention_backward", &MakePortableAttentionBackward);
}

}  // namespace autospc::exec
