// Attention masks as predicates over a query position q and a key position k: what is allowed.
// They replace [S, S] tensors. Text form, which attention ops carry:
//   true | false | and(P, P, …) | or(P, P, …) | not(P)
//   diff(lo, hi)          lo <= q - k <= hi; either bound may be * (none)
//   q(lo, hi), k(lo, hi)  lo <= position <= hi, * for none
//   same_chunk(c)         floor(q / c) == floor(k / c)
//   same(i)               vectors[i][b, q] == vectors[i][b, k]  (packed segments)
//   key(i)                vectors[i][b, k] != 0                 (key padding)
//   query(i)              vectors[i][b, q] != 0
//   key_cmp(i, lo, hi)    lo <= vectors[i][b, k] - q <= hi, and query_cmp(i, lo, hi): lo <= vectors[i][b, q] - k <= hi
// Causal is diff(0, *); a window of w keys up to and with the query itself diff(0, w-1).
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace autospc {

struct Predicate {
  enum class Kind : uint8_t {
    kTrue,
    kFalse,
    kAnd,
    kOr,
    kNot,
    kDiff,
    kQ,
    kK,
    kSameChunk,
    kSame,
    kKey,
    kQuery,
    kKeyCmp,
    kQueryCmp
  };
  static constexpr int64_t kMin = std::numeric_limits<int64_t>::min();  // "*" as a lower bound
  static constexpr int64_t kMax = std::numeric_limits<int64_t>::max();  // "*" as an upper bound

  Kind kind = Kind::kTrue;
  int64_t lo = kMin, hi = kMax;  // bounds; kSameChunk: lo = c
  int vector = -1;
  std::vector<Predicate> operands;

  static Predicate True() { return {}; }
  static Predicate False() { return Make(Kind::kFalse); }
  static Predicate Make(Kind kind, int64_t lo = kMin, int64_t hi = kMax, int vector = -1) {
    return {kind, lo, hi, vector, {}};
  }
  static Predicate Causal() { return Make(Kind::kDiff, 0, kMax); }
  static Predicate And(std::vector<Predicate> operands);  // flattened and simplified; deterministic
  static Predicate Or(std::vector<Predicate> operands);
  static Predicate Not(Predicate operand);

  bool operator==(const Predicate&) const = default;
  std::string ToString() const;
  // Reads ToString's form; the result is simplified as by And, Or and Not. kBadInput with the column.
  static Result<Predicate> Parse(std::string_view text);
};

// vectors[i][b, position] for the batch row at hand; a bool is 0 or 1.
using VectorAt = std::function<int64_t(int vector, int64_t position)>;

// Whether query position q may attend to key position k. `at` is called only for predicates over vectors.
bool Holds(const Predicate& predicate, int64_t q, int64_t k, const VectorAt& at = {});

// Whether `a` implies `b` at every (q, k), whatever the vectors hold. False means "not proved".
bool Implies(const Predicate& a, const Predicate& b);

// The highest vector index used plus one; 0 if none is.
int VectorCount(const Predicate& predicate);

}  // namespace autospc
