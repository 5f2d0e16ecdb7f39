#include "runtime/exec/predicate_mask.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>

namespace autospc::exec {
namespace {

using MaskKind = Predicate::Kind;

bool ReadsVector(const Predicate& p) { return VectorCount(p) > 0; }

// `p` with what reads vectors replaced by true, where that can only allow more.
Predicate MorePairs(const Predicate& p) {
  if (!ReadsVector(p)) return p;
  if (p.kind != MaskKind::kAnd && p.kind != MaskKind::kOr) return Predicate::True();
  std::vector<Predicate> operands;
  for (const Predicate& operand : p.operands) operands.push_back(MorePairs(operand));
  return p.kind == MaskKind::kAnd ? Predicate::And(std::move(operands)) : Predicate::Or(std::move(operands));
}

// lo <= x <= hi.
at::Tensor WithinBounds(const at::Tensor& x, int64_t lo, int64_t hi) {
  if (lo == Predicate::kMin) return x.le(hi);
  return hi == Predicate::kMax ? x.ge(lo) : x.ge(lo).logical_and_(x.le(hi));
}

class PairMask {
 public:
  PairMask(const at::Tensor& q, Interval k, const std::vector<at::Tensor>& vectors)
      : rows_(q), keys_(k), q_(q.view({1, 1, -1, 1})),
        k_(at::arange(k.begin, k.end, q.options()).view({1, 1, 1, -1})), vectors_(vectors) {}

  at::Tensor Of(const Predicate& p) const {
    switch (p.kind) {
      case MaskKind::kTrue: return Constant(true);
      case MaskKind::kFalse: return Constant(false);
      case MaskKind::kAnd:
      case MaskKind::kOr: {
        at::Tensor mask = Of(p.operands.front());
        for (size_t i = 1; i < p.operands.size(); ++i) {
          const at::Tensor other = Of(p.operands[i]);
          mask = p.kind == MaskKind::kAnd ? mask.logical_and(other) : mask.logical_or(other);
        }
        return mask;
      }
      case MaskKind::kNot: return Of(p.operands.front()).logical_not();
      case MaskKind::kDiff: return WithinBounds(q_.sub(k_), p.lo, p.hi);
      case MaskKind::kQ: return WithinBounds(q_, p.lo, p.hi);
      case MaskKind::kK: return WithinBounds(k_, p.lo, p.hi);
      case MaskKind::kSameChunk: return q_.div(p.lo, "floor").eq(k_.div(p.lo, "floor"));
      case MaskKind::kSame: return AtQueries(p.vector).eq(AtKeys(p.vector));
      case MaskKind::kKey: return AtKeys(p.vector).ne(0);
      case MaskKind::kQuery: return AtQueries(p.vector).ne(0);
      case MaskKind::kKeyCmp: return WithinBounds(AtKeys(p.vector).sub(q_), p.lo, p.hi);
      case MaskKind::kQueryCmp: return WithinBounds(AtQueries(p.vector).sub(k_), p.lo, p.hi);
    }
    return Constant(false);
  }

 private:
  at::Tensor Constant(bool value) const { return at::full({1, 1, 1, 1}, value, q_.options().dtype(at::kBool)); }
  // int64 [B or 1, 1, R, 1] and [B or 1, 1, 1, K].
  at::Tensor AtQueries(int vector) const {
    return vectors_[vector].index_select(1, rows_).to(at::kLong).unsqueeze(1).unsqueeze(3);
  }
  at::Tensor AtKeys(int vector) const {
    return vectors_[vector].narrow(1, keys_.begin, keys_.end - keys_.begin).to(at::kLong).unsqueeze(1).unsqueeze(2);
  }

  const at::Tensor rows_;
  const Interval keys_;
  const at::Tensor q_, k_;
  const std::vector<at::Tensor>& vectors_;
};

}  // namespace

at::Tensor AllowedPairs(const Predicate& predicate, const at::Tensor& q, Interval k, const std::vector<at::Tensor>& vectors) {
  return PairMask(q, k, vectors).Of(predicate);
}

Interval AllowedWithoutVectors(const Predicate& predicate, Interval q, Interval k) {
  const Predicate more = MorePairs(predicate);
  if (ClassifyTile(more, q, k, {}) == TileKind::kNone) return {k.begin, k.begin};
  return AllowedHull(more, q, k, {});
}

bool AllowsAllWithoutVectors(const Predicate& predicate, Interval q, Interval k) {
  return !ReadsVector(predicate) && ClassifyTile(predicate, q, k, {}) == TileKind::kAll;
}

}  // namespace autospc::exec
