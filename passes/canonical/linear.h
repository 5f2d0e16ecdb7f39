// Integer expressions over index variables: what one element of a computed integer tensor is, as a function
// of where it stands. Linear combinations of atoms; an atom is an index variable, the floored quotient or the
// absolute value of such an expression, or an element of a per-position vector that is only known at run time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "passes/ir/graph.h"

namespace autospc::canonical {

using AtomId = int;

struct Linear {
  // The largest number in one: no position or size comes near it, and sums of two are far from the ends of 64 bits.
  static constexpr int64_t kLargest = int64_t{1} << 60;

  std::map<AtomId, int64_t> terms;  // no zero coefficients
  int64_t constant = 0;
  bool fits = true;  // false: a number beyond that was met, so that nothing is known

  Linear(int64_t value = 0) : fits(-kLargest <= value && value <= kLargest) {  // implicit: constants are expressions
    if (fits) constant = value;
  }
  static Linear Of(AtomId atom) {
    Linear l;
    l.terms[atom] = 1;
    return l;
  }
  bool is_const() const { return terms.empty(); }
  // The atom if this is one atom times one plus zero; -1 otherwise.
  AtomId AsAtom() const {
    return constant == 0 && terms.size() == 1 && terms.begin()->second == 1 ? terms.begin()->first : -1;
  }
  Linear& Add(const Linear& other, int64_t times = 1);
  Linear Times(int64_t factor) const;
  bool operator==(const Linear&) const = default;
  bool operator<(const Linear& other) const {
    return constant != other.constant ? constant < other.constant : terms < other.terms;
  }
};

inline Linear operator+(Linear a, const Linear& b) { return a.Add(b); }
inline Linear operator-(Linear a, const Linear& b) { return a.Add(b, -1); }

struct Atom {
  enum class Kind : uint8_t { kIndex, kFloor, kAbs, kVector };
  Kind kind = Kind::kIndex;
  int64_t size = 1;  // kIndex: it runs over [0, size)
  Linear inner;      // kFloor: floor(inner / divisor); kAbs: |inner|
  int64_t divisor = 1;
  ir::ValueId source = ir::kNoValue;  // kVector: source[b, position], or source[b] if position is -1
  AtomId position = -1;
  bool operator==(const Atom&) const = default;
};

// Bounds of an expression, inclusive; kUnbounded in absolute value where nothing is known.
struct Range {
  static constexpr int64_t kUnbounded = int64_t{1} << 60;
  int64_t lo = -kUnbounded, hi = kUnbounded;
  bool Within(int64_t a, int64_t b) const { return a <= lo && hi <= b; }
};

int64_t FloorQuotient(int64_t a, int64_t b);  // b > 0
// The integer that a double is, where it is one and tells it from its neighbours.
std::optional<int64_t> AsInteger(double value);

// The atoms of one interpretation. The first four are the indices of [B, H, Sq, Sk].
class Atoms {
 public:
  static constexpr AtomId kBatch = 0, kHead = 1, kQuery = 2, kKey = 3;
  Atoms(int64_t batch, int64_t heads, int64_t q_size, int64_t k_size);

  const Atom& at(AtomId id) const { return atoms_[id]; }
  AtomId NewIndex(int64_t size);
  AtomId Intern(const Atom& atom);  // equal atoms share an id
  Range RangeOf(const Linear& l) const;
  Linear FloorDiv(const Linear& l, int64_t divisor);  // divisor > 0
  Linear Mod(const Linear& l, int64_t divisor);       // result in [0, divisor)
  Linear Abs(const Linear& l);

 private:
  std::vector<Atom> atoms_;
};

}  // namespace autospc::canonical
