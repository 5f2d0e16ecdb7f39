#include "runtime/exec/predicate_tiles.h"

#include <algorithm>
#include <cstring>

#include "runtime/package/attention_workspace.h"

namespace autospc::exec {
namespace {

using Kind = Predicate::Kind;
constexpr int64_t kMin = Predicate::kMin;
constexpr int64_t kMax = Predicate::kMax;

int64_t FloorDiv(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0)); }

// x - bound, where an absent bound gives the opposite infinity.
int64_t MinusUpper(int64_t x, int64_t hi) { return hi == kMax ? kMin : x - hi; }
int64_t MinusLower(int64_t x, int64_t lo) { return lo == kMin ? kMax : x - lo; }

struct Range {
  int64_t min, max;  // both included
};

Range RangeOf(const PositionVector& v, Interval at) {
  Range r{v[at.begin], v[at.begin]};
  for (int64_t i = at.begin + 1; i < at.end; ++i) {
    const int64_t x = v[i];
    r.min = std::min(r.min, x);
    r.max = std::max(r.max, x);
  }
  return r;
}

// How the integers of `r` stand to [lo, hi].
TileKind Within(Range r, int64_t lo, int64_t hi) {
  if (r.max < lo || r.min > hi) return TileKind::kNone;
  return lo <= r.min && r.max <= hi ? TileKind::kAll : TileKind::kMixed;
}

TileKind NonZero(const PositionVector& v, Interval at) {
  bool any = false, all = true;
  for (int64_t i = at.begin; i < at.end; ++i) (v[i] != 0 ? any : all) = v[i] != 0;
  return all ? TileKind::kAll : any ? TileKind::kMixed : TileKind::kNone;
}

// Equality of two ranges: surely nowhere, surely everywhere, or unknown.
TileKind Equal(Range a, Range b) {
  if (a.max < b.min || b.max < a.min) return TileKind::kNone;
  return a.min == a.max && b.min == b.max ? TileKind::kAll : TileKind::kMixed;
}

TileKind Opposite(TileKind t) {
  if (t == TileKind::kMixed) return t;
  return t == TileKind::kAll ? TileKind::kNone : TileKind::kAll;
}

Interval Intersect(Interval a, Interval b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }

// [first, last] cut to k; the bounds may be infinite.
Interval Clip(int64_t first, int64_t last, Interval k) {
  return {std::max(first, k.begin), last >= k.end ? k.end : last + 1};
}

// k without the keys at either end for which `excluded` holds.
template <typename F>
Interval Trim(Interval k, F excluded) {
  while (!k.empty() && excluded(k.begin)) ++k.begin;
  while (!k.empty() && excluded(k.end - 1)) --k.end;
  return k;
}

// allowed[j] = test(v[k.begin + j]), in a loop that the compiler vectorises where the vector is dense.
template <typename F>
void TestEach(const PositionVector& v, Interval k, uint8_t* allowed, F test) {
  const int64_t n = k.end - k.begin;
  if (v.is_bool || v.stride != 1) {
    for (int64_t j = 0; j < n; ++j) allowed[j] = test(v[k.begin + j]);
    return;
  }
  const int64_t* values = static_cast<const int64_t*>(v.data) + k.begin;
  for (int64_t j = 0; j < n; ++j) allowed[j] = test(values[j]);
}

}  // namespace

TileKind ClassifyTile(const Predicate& p, Interval q, Interval k, PositionVectors vectors) {
  const int64_t q_last = q.end - 1, k_last = k.end - 1;
  switch (p.kind) {
    case Kind::kTrue: return TileKind::kAll;
    case Kind::kFalse: return TileKind::kNone;
    case Kind::kAnd:
    case Kind::kOr: {
      const TileKind unit = p.kind == Kind::kAnd ? TileKind::kAll : TileKind::kNone;
      TileKind all = unit;
      for (const Predicate& operand : p.operands) {
        const TileKind t = ClassifyTile(operand, q, k, vectors);
        if (t == Opposite(unit)) return t;
        if (t == TileKind::kMixed) all = t;
      }
      return all;
    }
    case Kind::kNot: return Opposite(ClassifyTile(p.operands.front(), q, k, vectors));
    case Kind::kDiff: return Within({q.begin - k_last, q_last - k.begin}, p.lo, p.hi);
    case Kind::kQ: return Within({q.begin, q_last}, p.lo, p.hi);
    case Kind::kK: return Within({k.begin, k_last}, p.lo, p.hi);
    case Kind::kSameChunk:
      return Equal({FloorDiv(q.begin, p.lo), FloorDiv(q_last, p.lo)}, {FloorDiv(k.begin, p.lo), FloorDiv(k_last, p.lo)});
    case Kind::kSame: return Equal(RangeOf(vectors[p.vector], q), RangeOf(vectors[p.vector], k));
    case Kind::kKey: return NonZero(vectors[p.vector], k);
    case Kind::kQuery: return NonZero(vectors[p.vector], q);
    case Kind::kKeyCmp: {
      const Range r = RangeOf(vectors[p.vector], k);
      return Within({r.min - q_last, r.max - q.begin}, p.lo, p.hi);
    }
    case Kind::kQueryCmp: {
      const Range r = RangeOf(vectors[p.vector], q);
      return Within({r.min - k_last, r.max - k.begin}, p.lo, p.hi);
    }
  }
  return TileKind::kMixed;
}

Interval AllowedHull(const Predicate& p, Interval q, Interval k, PositionVectors vectors) {
  switch (p.kind) {
    case Kind::kFalse: return {k.begin, k.begin};
    case Kind::kAnd:
      for (const Predicate& operand : p.operands) {
        if (k.empty()) return k;
        k = Intersect(k, AllowedHull(operand, q, k, vectors));
      }
      return k;
    case Kind::kOr: {
      Interval hull{k.end, k.begin};
      for (const Predicate& operand : p.operands) {
        const Interval h = AllowedHull(operand, q, k, vectors);
        if (!h.empty()) hull = {std::min(hull.begin, h.begin), std::max(hull.end, h.end)};
      }
      return hull;
    }
    case Kind::kDiff: return Clip(MinusUpper(q.begin, p.hi), MinusLower(q.end - 1, p.lo), k);
    case Kind::kK: return Clip(p.lo, p.hi, k);
    case Kind::kSameChunk:
      return Clip(FloorDiv(q.begin, p.lo) * p.lo, FloorDiv(q.end - 1, p.lo) * p.lo + p.lo - 1, k);
    case Kind::kSame: {
      const PositionVector& v = vectors[p.vector];
      const Range r = RangeOf(v, q);
      return Trim(k, [&](int64_t i) { return v[i] < r.min || v[i] > r.max; });
    }
    case Kind::kKey: {
      const PositionVector& v = vectors[p.vector];
      return Trim(k, [&](int64_t i) { return v[i] == 0; });
    }
    case Kind::kQueryCmp: {
      const Range r = RangeOf(vectors[p.vector], q);
      return Clip(MinusUpper(r.min, p.hi), MinusLower(r.max, p.lo), k);
    }
    case Kind::kTrue:
    case Kind::kNot:
    case Kind::kQ:
    case Kind::kQuery:
    case Kind::kKeyCmp: break;
  }
  return k;
}

std::optional<Interval> AllowedInterval(const Predicate& p, int64_t q, Interval k, PositionVectors vectors) {
  const Interval none{k.begin, k.begin};
  const auto all_if = [&](bool holds) { return holds ? k : none; };
  switch (p.kind) {
    case Kind::kTrue: return k;
    case Kind::kFalse: return none;
    case Kind::kAnd: {
      for (const Predicate& operand : p.operands) {
        const std::optional<Interval> i = AllowedInterval(operand, q, k, vectors);
        if (!i) return std::nullopt;
        k = *i;
        if (k.empty()) return none;
      }
      return k;
    }
    case Kind::kOr: {
      Interval hull = none;
      for (const Predicate& operand : p.operands) {
        const std::optional<Interval> i = AllowedInterval(operand, q, k, vectors);
        if (!i) return std::nullopt;
        if (i->empty()) continue;
        if (hull.empty()) {
          hull = *i;
        } else if (i->begin > hull.end || hull.begin > i->end) {
          return std::nullopt;  // two pieces with a gap between them
        } else {
          hull = {std::min(hull.begin, i->begin), std::max(hull.end, i->end)};
        }
      }
      return hull;
    }
    case Kind::kNot: {
      const std::optional<Interval> i = AllowedInterval(p.operands.front(), q, k, vectors);
      if (!i) return std::nullopt;
      if (i->empty()) return k;
      if (i->begin == k.begin) return Interval{i->end, k.end};
      if (i->end == k.end) return Interval{k.begin, i->begin};
      return std::nullopt;
    }
    case Kind::kQ: return all_if(p.lo <= q && q <= p.hi);
    case Kind::kQuery: return all_if(vectors[p.vector][q] != 0);
    case Kind::kDiff:
    case Kind::kK:
    case Kind::kSameChunk:
    case Kind::kQueryCmp: {
      const Interval i = AllowedHull(p, {q, q + 1}, k, vectors);  // exact for one query
      return i.empty() ? none : i;
    }
    case Kind::kSame:
    case Kind::kKey:
    case Kind::kKeyCmp: break;
  }
  return std::nullopt;
}

void AllowedRow(const Predicate& p, int64_t q, Interval k, PositionVectors vectors, uint8_t* allowed) {
  const int64_t n = k.end - k.begin;
  if (const std::optional<Interval> i = AllowedInterval(p, q, k, vectors)) {
    std::memset(allowed, 0, static_cast<size_t>(n));
    if (!i->empty()) std::memset(allowed + (i->begin - k.begin), 1, static_cast<size_t>(i->end - i->begin));
    return;
  }
  switch (p.kind) {
    case Kind::kAnd:
    case Kind::kOr: {
      uint8_t operand[kAttentionKeyTile];
      AllowedRow(p.operands.front(), q, k, vectors, allowed);
      for (size_t o = 1; o < p.operands.size(); ++o) {
        AllowedRow(p.operands[o], q, k, vectors, operand);
        if (p.kind == Kind::kAnd) {
          for (int64_t j = 0; j < n; ++j) allowed[j] &= operand[j];
        } else {
          for (int64_t j = 0; j < n; ++j) allowed[j] |= operand[j];
        }
      }
      return;
    }
    case Kind::kNot:
      AllowedRow(p.operands.front(), q, k, vectors, allowed);
      for (int64_t j = 0; j < n; ++j) allowed[j] ^= 1;
      return;
    case Kind::kSame: {
      const int64_t mine = vectors[p.vector][q];
      TestEach(vectors[p.vector], k, allowed, [mine](int64_t x) { return x == mine; });
      return;
    }
    case Kind::kKey:
      TestEach(vectors[p.vector], k, allowed, [](int64_t x) { return x != 0; });
      return;
    default:  // kKeyCmp; every other kind is an interval for one query
      TestEach(vectors[p.vector], k, allowed,
               [q, lo = p.lo, hi = p.hi](int64_t x) { return lo <= x - q && x - q <= hi; });
      return;
  }
}

}  // namespace autospc::exec
