#include "codegen/pairs.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace autospc::codegen {
namespace {

using Kind = Predicate::Kind;
using Intervals = std::vector<std::pair<int64_t, int64_t>>;  // half open, disjoint, ascending

Intervals Intersect(const Intervals& a, const Intervals& b) {
  Intervals out;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const int64_t lo = std::max(a[i].first, b[j].first), hi = std::min(a[i].second, b[j].second);
    if (lo < hi) out.emplace_back(lo, hi);
    a[i].second < b[j].second ? ++i : ++j;
  }
  return out;
}

Intervals Unite(Intervals a, const Intervals& b) {
  a.insert(a.end(), b.begin(), b.end());
  std::sort(a.begin(), a.end());
  Intervals out;
  for (const auto& [lo, hi] : a) {
    if (!out.empty() && lo <= out.back().second) {
      out.back().second = std::max(out.back().second, hi);
    } else {
      out.emplace_back(lo, hi);
    }
  }
  return out;
}

Intervals Complement(const Intervals& a, int64_t k_len) {
  Intervals out;
  int64_t at = 0;
  for (const auto& [lo, hi] : a) {
    if (at < lo) out.emplace_back(at, lo);
    at = hi;
  }
  if (at < k_len) out.emplace_back(at, k_len);
  return out;
}

// Keys allowed to query position q. `negated`: the complement is wanted, so that unknown stays allowed.
Intervals Allowed(const Predicate& p, int64_t q, int64_t k_len, bool negated) {
  auto clip = [&](int64_t lo, int64_t hi) {  // keys in [lo, hi], inclusive
    lo = std::max<int64_t>(lo, 0);
    hi = std::min(hi, k_len - 1);
    const Intervals keys = lo <= hi ? Intervals{{lo, hi + 1}} : Intervals{};
    return negated ? Complement(keys, k_len) : keys;
  };
  auto all_if = [&](bool holds) { return clip(0, holds ? k_len - 1 : -1); };
  switch (p.kind) {
    case Kind::kTrue: return all_if(true);
    case Kind::kFalse: return all_if(false);
    case Kind::kDiff:  // lo <= q - k <= hi
      return clip(p.hi == Predicate::kMax ? 0 : q - p.hi, p.lo == Predicate::kMin ? k_len - 1 : q - p.lo);
    case Kind::kQ: return all_if(p.lo <= q && q <= p.hi);
    case Kind::kK: return clip(p.lo, p.hi);
    case Kind::kSameChunk: return clip(q / p.lo * p.lo, q / p.lo * p.lo + p.lo - 1);
    case Kind::kNot: return Allowed(p.operands[0], q, k_len, !negated);
    case Kind::kAnd:
    case Kind::kOr: {
      const bool intersect = (p.kind == Kind::kAnd) != negated;  // De Morgan
      Intervals keys = intersect && k_len > 0 ? Intervals{{0, k_len}} : Intervals{};
      for (const Predicate& operand : p.operands) {
        const Intervals more = Allowed(operand, q, k_len, negated);
        keys = intersect ? Intersect(keys, more) : Unite(std::move(keys), more);
      }
      return keys;
    }
    case Kind::kSame: case Kind::kKey: case Kind::kQuery: case Kind::kKeyCmp: case Kind::kQueryCmp: break;
  }
  return k_len > 0 ? Intervals{{0, k_len}} : Intervals{};
}

}  // namespace

int64_t CountAllowed(const Predicate& predicate, int64_t q_first, int64_t q_len, int64_t q_valid, int64_t k_len) {
  int64_t count = 0, row = 0;
  int64_t row_position = -1;  // padding rows repeat the last one
  for (int64_t i = 0; i < q_len; ++i) {
    const int64_t q = std::min(q_first + i, q_valid - 1);
    if (q != row_position) {
      row = 0;
      for (const auto& [lo, hi] : Allowed(predicate, q, k_len, false)) row += hi - lo;
      row_position = q;
    }
    count += row;
  }
  return count;
}

}  // namespace autospc::codegen
