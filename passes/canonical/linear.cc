#include "passes/canonical/linear.h"

#include <algorithm>
#include <cmath>

namespace autospc::canonical {

int64_t FloorQuotient(int64_t a, int64_t b) { return a / b - (a % b < 0); }

std::optional<int64_t> AsInteger(double value) {
  if (std::nearbyint(value) == value && std::abs(value) < 9e15) return static_cast<int64_t>(value);
  return std::nullopt;
}

Linear& Linear::Add(const Linear& other, int64_t times) {
  fits = fits && other.fits;
  const auto add = [&](int64_t* mine, int64_t theirs) {
    int64_t product = 0, sum = 0;
    const bool beyond = __builtin_mul_overflow(theirs, times, &product) || __builtin_add_overflow(*mine, product, &sum);
    fits = fits && !beyond && -kLargest <= sum && sum <= kLargest;
    *mine = fits ? sum : 0;
  };
  add(&constant, other.constant);
  for (const auto& [atom, coefficient] : other.terms) {
    int64_t& mine = terms[atom];
    add(&mine, coefficient);
    if (mine == 0) terms.erase(atom);
  }
  return *this;
}

Linear Linear::Times(int64_t factor) const {
  Linear product;
  return factor == 0 ? product : product.Add(*this, factor);
}

Atoms::Atoms(int64_t batch, int64_t heads, int64_t q_size, int64_t k_size) {
  for (const int64_t size : {batch, heads, q_size, k_size}) NewIndex(size);
}

AtomId Atoms::NewIndex(int64_t size) {
  Atom atom;
  atom.size = size;
  atoms_.push_back(std::move(atom));
  return static_cast<AtomId>(atoms_.size()) - 1;
}

AtomId Atoms::Intern(const Atom& atom) {
  const auto found = std::find(atoms_.begin(), atoms_.end(), atom);
  if (found != atoms_.end()) return static_cast<AtomId>(found - atoms_.begin());
  atoms_.push_back(atom);
  return static_cast<AtomId>(atoms_.size()) - 1;
}

Range Atoms::RangeOf(const Linear& l) const {
  Range sum{l.constant, l.constant};
  for (const auto& [id, coefficient] : l.terms) {
    const Atom& atom = atoms_[id];
    Range r;
    switch (atom.kind) {
      case Atom::Kind::kIndex:
        r = {0, atom.size - 1};
        break;
      case Atom::Kind::kFloor: {
        const Range inner = RangeOf(atom.inner);
        r = {FloorQuotient(inner.lo, atom.divisor), FloorQuotient(inner.hi, atom.divisor)};
        break;
      }
      case Atom::Kind::kAbs: {
        const Range inner = RangeOf(atom.inner);
        r = {0, std::max(-inner.lo, inner.hi)};
        break;
      }
      case Atom::Kind::kVector:
        break;
    }
    // In wide arithmetic: coefficients and bounds may both be large.
    const auto clamp = [](__int128 x) {
      return static_cast<int64_t>(std::clamp<__int128>(x, -Range::kUnbounded, Range::kUnbounded));
    };
    const __int128 a = static_cast<__int128>(coefficient) * r.lo, b = static_cast<__int128>(coefficient) * r.hi;
    const bool open_lo = sum.lo <= -Range::kUnbounded, open_hi = sum.hi >= Range::kUnbounded;
    sum.lo = open_lo ? -Range::kUnbounded : clamp(sum.lo + std::min(a, b));
    sum.hi = open_hi ? Range::kUnbounded : clamp(sum.hi + std::max(a, b));
  }
  return sum;
}

Linear Atoms::FloorDiv(const Linear& l, int64_t divisor) {
  if (divisor == 1) return l;
  // l = divisor * whole + rest, and floor(l / divisor) = whole + floor(rest / divisor).
  Linear whole(FloorQuotient(l.constant, divisor)), rest(l.constant - divisor * FloorQuotient(l.constant, divisor));
  for (const auto& [atom, coefficient] : l.terms) {
    if (coefficient % divisor == 0) {
      whole.terms[atom] = coefficient / divisor;
    } else {
      rest.terms[atom] = coefficient;
    }
  }
  const Range range = RangeOf(rest);
  const int64_t lo = FloorQuotient(range.lo, divisor), hi = FloorQuotient(range.hi, divisor);
  if (lo == hi) return whole + Linear(lo);
  Atom atom;
  atom.kind = Atom::Kind::kFloor;
  atom.inner = std::move(rest);
  atom.divisor = divisor;
  return whole + Linear::Of(Intern(atom));
}

Linear Atoms::Mod(const Linear& l, int64_t divisor) { return l - FloorDiv(l, divisor).Times(divisor); }

Linear Atoms::Abs(const Linear& l) {
  const Range range = RangeOf(l);
  if (range.lo >= 0) return l;
  if (range.hi <= 0) return l.Times(-1);
  // |x| and |-x| are one atom.
  Linear inner = l.terms.begin()->second < 0 ? l.Times(-1) : l;
  Atom atom;
  atom.kind = Atom::Kind::kAbs;
  atom.inner = std::move(inner);
  return Linear::Of(Intern(atom));
}

}  // namespace autospc::canonical
