// The steps of RandomGraph.
#pragma once

#include "tests/compiler/random_graph.h"

namespace autospc::testing {

inline ValueId RandomGraph::Linear(ValueId x, int64_t out, bool bias) {
  const int64_t in = b_[x].size(-1);
  const ValueId weight = Weight({out, in});
  return b_.Op("aten.linear.default", {Arg::Value(x), Arg::Value(weight), bias ? Arg::Value(Weight({out})) : Arg::None()});
}

inline ValueId RandomGraph::Sum(ValueId x, std::vector<int64_t> dims, bool keep) {
  return b_.Op("aten.sum.dim_IntList", {Arg::Value(x), Arg::Ints(dims), Arg::Bool(keep)});
}

inline ValueId RandomGraph::Mean(ValueId x, std::vector<int64_t> dims, bool keep) {
  return b_.Op("aten.mean.dim", {Arg::Value(x), Arg::Ints(dims), Arg::Bool(keep)});
}

inline ValueId RandomGraph::Pointwise(ValueId x) {
  switch (Draw(0, 6)) {
    case 0: return Unary("aten.relu.default", x);
    case 1: return b_.Op("aten.gelu.default", {Arg::Value(x), Arg::String(Chance(50) ? "none" : "tanh")});
    case 2: return Unary("aten.silu.default", x);
    case 3: return Unary("aten.tanh.default", x);
    case 4: return Unary("aten.sigmoid.default", x);
    case 5: return b_.Op("aten.pow.Tensor_Scalar", {Arg::Value(Unary("aten.tanh.default", x)), Arg::Int(2)});
    default: return b_.Op("aten.div.Tensor", {Arg::Value(x), Arg::Float(1.7)});
  }
}

inline ValueId RandomGraph::Binary(ValueId x) {
  const ValueId y = AnyLike(x);
  switch (Draw(0, 3)) {
    case 0: return Add(x, y);
    case 1: return b_.Op("aten.sub.Tensor", {Arg::Value(x), Arg::Value(y), Arg::Int(2)});
    case 2: return Mul(Unary("aten.tanh.default", x), y);
    default: return b_.Op("aten.div.Tensor", {Arg::Value(x), Arg::Value(b_.Op("aten.add.Tensor", {Arg::Value(Mul(y, y)), Arg::Float(1.0)}))});
  }
}

// A parameter broadcast over the batch, the sequence or the features.
inline ValueId RandomGraph::Table(ValueId x) {
  const int64_t rows = Rows(x), features = Features(x);
  const std::vector<std::vector<int64_t>> shapes = {{features}, {rows, features}, {1, rows, features}, {rows, 1}, {1}};
  const ValueId table = Weight(shapes[static_cast<size_t>(Draw(0, 4))], 1);
  return Chance(50) ? Add(x, table) : Mul(x, table);
}

inline ValueId RandomGraph::Normalise(ValueId x) {
  const int64_t features = Features(x);
  if (Chance(50)) {
    const bool affine = Chance(70);
    return b_.Op("aten.layer_norm.default",
                 {Arg::Value(x), Arg::Ints(std::vector<int64_t>{features}), affine ? Arg::Value(Weight({features}, 1)) : Arg::None(),
                  affine ? Arg::Value(Weight({features})) : Arg::None(), Arg::Float(1e-5)});
  }
  // An RMS norm written out; sometimes without an epsilon, so that rows of zeros would show.
  ValueId mean = Mean(b_.Op("aten.pow.Tensor_Scalar", {Arg::Value(x), Arg::Int(2)}), {-1}, true);
  if (b_[mean].min().item<double>() < 1e-3 || Chance(50)) mean = b_.Op("aten.add.Tensor", {Arg::Value(mean), Arg::Float(1e-3)});
  return Mul(Weight({features}, 1), Mul(x, Unary("aten.rsqrt.default", mean)));
}

inline ValueId RandomGraph::Softmax(ValueId x) {
  const int64_t dim = Chance(60) ? -1 : Chance(50) ? 1 : -2;
  return b_.Op(Chance(70) ? "aten.softmax.int" : "aten.log_softmax.int", {Arg::Value(x), Arg::Int(dim)});
}

inline ValueId RandomGraph::OverFeatures(ValueId x) {
  const ValueId mean = Chance(50) ? Mean(x, {-1}, true) : Sum(x, {2}, true);
  return Chance(50) ? Mul(AnyLike(x), mean) : b_.Op("aten.sub.Tensor", {Arg::Value(x), Arg::Value(mean)});
}

// A reduction over the sequence, and its result back on every row.
inline ValueId RandomGraph::OverSequence(ValueId x) {
  ValueId r = ir::kNoValue;
  switch (Draw(0, 6)) {
    case 0: r = Mean(x, {1}, true); break;
    case 1: r = Sum(x, {1}, true); break;
    case 2: r = b_.Op("aten.var.correction", {Arg::Value(x), Arg::Ints(std::vector<int64_t>{1}), Arg::Int(0), Arg::Bool(true)}); break;
    case 3: r = b_.Op("aten.logsumexp.default", {Arg::Value(x), Arg::Ints(std::vector<int64_t>{1}), Arg::Bool(true)}); break;
    case 4: r = b_.Op("aten.amax.default", {Arg::Value(x), Arg::Ints(std::vector<int64_t>{1}), Arg::Bool(true)}); break;
    case 5: r = Mean(x, {0, 1}, true); break;
    default:  // one row, the first or the last
      r = b_.Op("aten.select.int", {Arg::Value(x), Arg::Int(1), Arg::Int(Chance(50) ? 0 : -1)});
      r = b_.Op("aten.unsqueeze.default", {Arg::Value(r), Arg::Int(1)});
  }
  switch (Draw(0, 3)) {
    case 0: r = Unary("aten.tanh.default", r); break;  // what is no longer linear in the ranks' addends
    case 1: r = Linear(r, Features(x), Chance(50)); break;
    case 2: r = b_.Op("aten.mul.Tensor", {Arg::Value(r), Arg::Float(0.3)}); break;
    default: break;
  }
  return Chance(50) ? Add(x, r) : Mul(AnyLike(x), r);
}

inline ValueId RandomGraph::ThroughTranspose(ValueId x) {
  ValueId y = Transpose(x, 1, 2);
  switch (Draw(0, 2)) {
    case 0: y = b_.Op("aten.softmax.int", {Arg::Value(y), Arg::Int(1)}); break;
    case 1: y = Mul(y, Weight({Features(x), 1}, 1)); break;
    default: y = b_.Op("aten.contiguous.default", {Arg::Value(y)}); break;
  }
  return Transpose(y, Chance(50) ? 1 : -2, Chance(50) ? 2 : -1);
}

inline ValueId RandomGraph::ThroughHeads(ValueId x) {
  const int64_t rows = Rows(x), features = Features(x), heads = features % 3 == 0 ? 3 : 2;
  ValueId y = Reshape(x, {batch_, rows, heads, features / heads});
  const bool permuted = Chance(50);
  if (permuted) y = b_.Op("aten.permute.default", {Arg::Value(y), Arg::Ints(std::vector<int64_t>{0, 2, 1, 3})});
  y = Linear(y, features / heads, false);
  if (permuted) y = Transpose(y, 1, 2);
  return b_.Op("aten.reshape.default", {Arg::Value(y), Arg::Ints(std::vector<int64_t>{batch_, rows, features})});
}

inline ValueId RandomGraph::ThroughFlat(ValueId x) {
  const int64_t rows = Rows(x), features = Features(x);
  ValueId y = Reshape(x, {batch_ * rows, features});
  switch (Draw(0, 2)) {
    case 0: y = Linear(y, features, true); break;
    case 1: y = b_.Op("aten.matmul.default", {Arg::Value(y), Arg::Value(Weight({features, features}))}); break;
    default: y = b_.Op("aten.addmm.default", {Arg::Value(Weight({features})), Arg::Value(y), Arg::Value(Weight({features, features}))});
  }
  return Reshape(y, {batch_, rows, features});
}

// x[:, :-1] or x[:, 1:].
inline ValueId RandomGraph::Shorten(ValueId x) {
  const int64_t rows = Rows(x);
  if (rows < 3) return x;
  return Chance(60) ? b_.Op("aten.slice.Tensor", {Arg::Value(x), Arg::Int(1), Arg::Int(0), Arg::Int(rows - 1), Arg::Int(1)})
                    : b_.Op("aten.slice.Tensor", {Arg::Value(x), Arg::Int(1), Arg::Int(1), Arg::Int(rows), Arg::Int(1)});
}

inline ValueId RandomGraph::PadRows(ValueId x) {
  const int64_t missing = sequence_ - Rows(x);
  if (missing == 0) return x;
  if (Chance(60)) {
    const int64_t before = Draw(0, missing);
    return b_.Op("aten.constant_pad_nd.default",
                 {Arg::Value(x), Arg::Ints(std::vector<int64_t>{0, 0, before, missing - before}), Arg::Float(0.5)});
  }
  const ValueId front = b_.Op("aten.slice.Tensor", {Arg::Value(x), Arg::Int(1), Arg::Int(0), Arg::Int(missing), Arg::Int(1)});
  return b_.Op("aten.cat.default", {Arg::Values({front, x}), Arg::Int(1)});
}

inline ValueId RandomGraph::CatFeatures(ValueId x) {
  const int64_t features = Features(x);
  const ValueId both = b_.Op("aten.cat.default", {Arg::Values({x, AnyLike(x)}), Arg::Int(-1)});
  if (Chance(50)) return Linear(both, features, false);
  const std::vector<ValueId> halves = b_.Ops("aten.split.Tensor", {Arg::Value(both), Arg::Int(features), Arg::Int(2)});
  return Mul(Unary("aten.sigmoid.default", halves[0]), halves[1]);
}

// Ops that mix positions and have no rule for it: gathered, computed whole.
inline ValueId RandomGraph::WithoutRule(ValueId x) {
  switch (Draw(0, 2)) {
    case 0: return b_.Op("aten.div.Tensor", {Arg::Value(b_.Op("aten.cumsum.default", {Arg::Value(x), Arg::Int(1)})), Arg::Float(static_cast<double>(sequence_))});
    case 1: return b_.Op("aten.flip.default", {Arg::Value(x), Arg::Ints(std::vector<int64_t>{1})});
    default: return b_.Op("aten.roll.default", {Arg::Value(x), Arg::Ints(std::vector<int64_t>{1}), Arg::Ints(std::vector<int64_t>{1})});
  }
}

inline ValueId RandomGraph::Where(ValueId x) {
  const ValueId condition = b_.Op("aten.gt.Scalar", {Arg::Value(x), Arg::Float(0.1)});
  if (Chance(50)) return b_.Op("aten.where.self", {Arg::Value(condition), Arg::Value(x), Arg::Value(AnyLike(x))});
  return b_.Op("aten.masked_fill.Scalar", {Arg::Value(x), Arg::Value(condition), Arg::Float(-0.25)});
}

inline ValueId RandomGraph::AttentionOver(ValueId x) {
  using Kind = Predicate::Kind;
  const int64_t rows = Rows(x), features = Features(x);
  const int64_t heads = std::vector<int64_t>{1, 2, 3, 4, 6}[static_cast<size_t>(Draw(0, 4))];
  int64_t kv_heads = heads;
  if (heads % 2 == 0 && Chance(50)) kv_heads = heads / 2;
  else if (heads % 3 == 0 && Chance(50)) kv_heads = heads / 3;
  const int64_t dim = Draw(2, 4), value_dim = Draw(2, 4);
  const auto project = [&](ValueId from, int64_t count, int64_t length) {
    return Transpose(Reshape(Linear(from, count * length, Chance(50)), {batch_, Rows(from), count, length}), 1, 2);
  };
  const ValueId keys = AnyLike(x);
  Predicate predicate = Predicate::Causal();
  std::vector<ValueId> vectors;
  switch (Draw(0, 5)) {
    case 0: predicate = Predicate::True(); break;
    case 1: predicate = Predicate::Make(Kind::kDiff, 0, Draw(0, 3)); break;
    case 2: predicate = Predicate::Make(Kind::kDiff, -Draw(0, 3), Draw(0, 3)); break;
    case 3: predicate = Predicate::Make(Kind::kSameChunk, Draw(2, 4)); break;
    default: break;
  }
  if (rows == sequence_ && Chance(40)) {
    vectors = {Chance(50) ? valid_ : segments_};
    const Predicate more = Predicate::Make(vectors[0] == valid_ ? Kind::kKey : Kind::kSame, 0, 0, 0);
    predicate = Predicate::And({predicate, more});
  }
  const ValueId out = b_.Attention(project(x, heads, dim), project(keys, kv_heads, dim), project(keys, kv_heads, value_dim),
                                   vectors, predicate, 0.6);
  return Linear(Reshape(b_.Op("aten.contiguous.default", {Arg::Value(Transpose(out, 1, 2))}), {batch_, rows, heads * value_dim}),
                features, false);
}

// A table of exactly as many rows as there are positions, looked up by an arange.
inline ValueId RandomGraph::Positions(ValueId x) {
  const int64_t rows = Rows(x);
  ValueId at = b_.Op("aten.arange.default", {Arg::Int(rows), Arg::Type(ir::DType::kInt64)});
  if (Chance(50)) at = b_.Op("aten.unsqueeze.default", {Arg::Value(at), Arg::Int(0)});
  const ValueId table = Weight({rows, Features(x)}, 1);
  return Add(x, b_.Op("aten.embedding.default", {Arg::Value(table), Arg::Value(at)}));
}

// Products over the sequence: linear attention's x (y^T z), and an einsum.
inline ValueId RandomGraph::Mixing(ValueId x) {
  const ValueId y = AnyLike(x);
  if (Chance(50)) {
    const ValueId state = b_.Op("aten.matmul.default", {Arg::Value(Transpose(y, 1, 2)), Arg::Value(AnyLike(x))});
    const ValueId scaled = b_.Op("aten.div.Tensor", {Arg::Value(state), Arg::Float(static_cast<double>(sequence_))});
    return b_.Op("aten.matmul.default", {Arg::Value(x), Arg::Value(Chance(50) ? Unary("aten.tanh.default", scaled) : scaled)});
  }
  const ValueId state = b_.Op("aten.einsum.default", {Arg::String("bsf,bsg->bfg"), Arg::Values({x, y})});
  return Add(x, b_.Op("aten.mul.Tensor", {Arg::Value(Mean(state, {1}, true)), Arg::Float(0.1)}));
}

inline ValueId RandomGraph::Detached(ValueId x) {
  return Add(x, Mul(Unary("aten.detach.default", AnyLike(x)), Weight({Features(x)}, 1)));
}

inline ValueId RandomGraph::CrossEntropy(ValueId x) {
  const int64_t rows = Rows(x);
  ValueId logits = Linear(x, vocabulary_, false), labels = labels_;
  if (rows < sequence_) {  // the hand-written shift: logits of rows 0 … against labels from 1 on
    const int64_t first = Chance(50) ? sequence_ - rows : 0;
    labels = b_.Op("aten.slice.Tensor", {Arg::Value(labels), Arg::Int(1), Arg::Int(first), Arg::Int(first + rows), Arg::Int(1)});
  } else if (Chance(50)) {  // Hugging Face's: labels padded at the end, then shifted
    labels = b_.Op("aten.constant_pad_nd.default", {Arg::Value(labels), Arg::Ints(std::vector<int64_t>{0, 1}), Arg::Int(-100)});
    labels = b_.Op("aten.slice.Tensor", {Arg::Value(labels), Arg::Int(1), Arg::Int(1), Arg::Int(rows + 1), Arg::Int(1)});
  }
  if (Chance(70)) {
    logits = Reshape(logits, {batch_ * rows, vocabulary_});
    labels = b_.Op("aten.reshape.default", {Arg::Value(labels), Arg::Ints(std::vector<int64_t>{batch_ * rows})});
  } else {
    logits = Transpose(logits, 1, 2);
  }
  const ValueId loss = b_.Op("aten.cross_entropy_loss.default",
                             {Arg::Value(logits), Arg::Value(labels), Arg::None(), Arg::Int(Chance(60) ? 1 : 2), Arg::Int(-100),
                              Arg::Float(Chance(30) ? 0.1 : 0)});
  return b_[loss].isfinite().item<bool>() ? loss : Unary("aten.mean.default", x);
}

inline ValueId RandomGraph::LossOf(ValueId x) {
  switch (Draw(0, 6)) {
    case 0: return Unary("aten.mean.default", Mul(x, x));
    case 1: return b_.Op("aten.div.Tensor", {Arg::Value(Unary("aten.sum.default", Mul(x, AnyLike(x)))), Arg::Float(static_cast<double>(batch_ * sequence_))});
    case 2: {  // of the last position alone
      const ValueId last = b_.Op("aten.select.int", {Arg::Value(x), Arg::Int(1), Arg::Int(-1)});
      return Unary("aten.mean.default", Mul(last, last));
    }
    case 3: return Unary("aten.mean.default", Mul(Unary("aten.tanh.default", Mean(x, {1}, false)), Weight({Features(x)}, 1)));
    default: return CrossEntropy(x);
  }
}

}  // namespace autospc::testing
