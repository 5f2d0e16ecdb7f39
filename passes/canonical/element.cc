#include "passes/canonical/element.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace autospc::canonical {
namespace {

using Kind = Predicate::Kind;
constexpr int64_t kMin = Predicate::kMin, kMax = Predicate::kMax;
constexpr size_t kMostCases = 16;  // more constants than that are no mask

int64_t CeilQuotient(int64_t a, int64_t b) { return -FloorQuotient(-a, b); }
int64_t Shift(int64_t bound, int64_t by) { return bound == kMin || bound == kMax ? bound : bound + by; }
int64_t Negated(int64_t bound) { return bound == kMin ? kMax : bound == kMax ? kMin : -bound; }

bool SameNumber(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// Cases of one value become one; impossible ones go.
std::vector<Case> Merge(std::vector<Case> cases) {
  std::vector<Case> merged;
  for (Case& c : cases) {
    if (c.when.kind == Kind::kFalse) continue;
    const auto same =
        std::find_if(merged.begin(), merged.end(), [&](const Case& m) { return SameNumber(m.value, c.value); });
    if (same == merged.end()) {
      merged.push_back(std::move(c));
    } else {
      same->when = Predicate::Or({std::move(same->when), std::move(c.when)});
    }
  }
  return merged;
}

Element FromCases(std::vector<Case> cases) {
  cases = Merge(std::move(cases));
  if (cases.empty() || cases.size() > kMostCases) return Element::Unknown();
  if (cases.size() == 1) return Element::OfNumber(cases.front().value);
  Element e;
  e.kind = Element::Kind::kCases;
  e.cases = std::move(cases);
  return e;
}

}  // namespace

Element Element::OfNumber(double value) {
  if (const auto integer = AsInteger(value)) return Of(Linear(*integer));
  Element e;
  e.kind = Kind::kCases;
  e.cases = {{Predicate::True(), value}};
  return e;
}

std::optional<double> Element::Constant() const {
  if (kind == Kind::kLinear && linear.is_const()) return static_cast<double>(linear.constant);
  if (kind == Kind::kCases && cases.size() == 1) return cases.front().value;
  if (kind == Kind::kPredicate && predicate.kind == Predicate::Kind::kTrue) return 1;
  if (kind == Kind::kPredicate && predicate.kind == Predicate::Kind::kFalse) return 0;
  return std::nullopt;
}

int ElementAlgebra::InternVector(const VectorSpec& spec) {
  const auto found = std::find(vectors_.begin(), vectors_.end(), spec);
  if (found != vectors_.end()) return static_cast<int>(found - vectors_.begin());
  vectors_.push_back(spec);
  return static_cast<int>(vectors_.size()) - 1;
}

std::optional<Predicate> ElementAlgebra::InRange(const Linear& l, int64_t lo, int64_t hi) {
  const Range range = atoms_.RangeOf(l);
  if (range.lo > -Range::kUnbounded && range.hi < Range::kUnbounded) {
    if ((lo == kMin || lo <= range.lo) && (hi == kMax || range.hi <= hi)) return Predicate::True();
    if ((hi != kMax && range.lo > hi) || (lo != kMin && range.hi < lo)) return Predicate::False();
  }
  lo = Shift(lo, -l.constant);
  hi = Shift(hi, -l.constant);
  if (lo > hi) return Predicate::False();
  if (lo == kMin && hi == kMax) return Predicate::True();
  // Divide by the common factor.
  int64_t factor = 0;
  for (const auto& [atom, coefficient] : l.terms) factor = std::gcd(factor, coefficient);
  if (lo != kMin) lo = CeilQuotient(lo, factor);
  if (hi != kMax) hi = FloorQuotient(hi, factor);
  if (lo > hi) return Predicate::False();
  std::vector<AtomId> plus, minus;
  for (const auto& [atom, coefficient] : l.terms) {
    if (coefficient == factor) {
      plus.push_back(atom);
    } else if (coefficient == -factor) {
      minus.push_back(atom);
    } else {
      return std::nullopt;
    }
  }
  if (plus.size() == 1 && minus.empty()) return OneTerm(plus[0], lo, hi);
  if (plus.empty() && minus.size() == 1) return OneTerm(minus[0], Negated(hi), Negated(lo));
  if (plus.size() == 1 && minus.size() == 1) return TwoTerms(plus[0], minus[0], lo, hi);
  return std::nullopt;
}

std::optional<Predicate> ElementAlgebra::OneTerm(AtomId id, int64_t lo, int64_t hi) {
  const Atom atom = atoms_.at(id);
  switch (atom.kind) {
    case Atom::Kind::kIndex:
      if (id == Atoms::kQuery) return Predicate::Make(Kind::kQ, lo, hi);
      if (id == Atoms::kKey) return Predicate::Make(Kind::kK, lo, hi);
      return std::nullopt;
    case Atom::Kind::kFloor:
      return InRange(atom.inner, lo == kMin ? kMin : lo * atom.divisor,
                     hi == kMax ? kMax : hi * atom.divisor + atom.divisor - 1);
    case Atom::Kind::kAbs: {
      if (hi < 0) return Predicate::False();
      auto inside = hi == kMax ? Predicate::True() : InRange(atom.inner, -hi, hi);
      auto core = lo <= 0 ? Predicate::False() : InRange(atom.inner, -(lo - 1), lo - 1);
      if (!inside || !core) return std::nullopt;
      return Predicate::And({*inside, Predicate::Not(*core)});
    }
    case Atom::Kind::kVector: {
      VectorSpec spec{atom.source, lo, hi, atom.position < 0};
      const bool is_zero = lo == 0 && hi == 0;  // key() itself compares with zero
      if (is_zero) spec.lo = kMin, spec.hi = kMax;
      const Kind kind = atom.position == Atoms::kKey ? Kind::kKey : Kind::kQuery;
      const Predicate p = Predicate::Make(kind, kMin, kMax, InternVector(spec));
      return is_zero ? Predicate::Not(p) : p;
    }
  }
  return std::nullopt;
}

// lo <= plus - minus <= hi.
std::optional<Predicate> ElementAlgebra::TwoTerms(AtomId plus, AtomId minus, int64_t lo, int64_t hi) {
  const Atom a = atoms_.at(plus), b = atoms_.at(minus);
  if (plus == Atoms::kQuery && minus == Atoms::kKey) return Predicate::Make(Kind::kDiff, lo, hi);
  if (plus == Atoms::kKey && minus == Atoms::kQuery) return Predicate::Make(Kind::kDiff, Negated(hi), Negated(lo));

  if (a.kind == Atom::Kind::kFloor && b.kind == Atom::Kind::kFloor && a.divisor == b.divisor) {
    const AtomId first = a.inner.AsAtom(), second = b.inner.AsAtom();
    if (first == Atoms::kKey && second == Atoms::kQuery) return TwoTerms(minus, plus, Negated(hi), Negated(lo));
    if (first != Atoms::kQuery || second != Atoms::kKey) return std::nullopt;
    const Predicate same = Predicate::Make(Kind::kSameChunk, a.divisor);
    const Predicate at_least_0 = Predicate::Or({Predicate::Make(Kind::kDiff, 0, kMax), same});
    const Predicate at_most_0 = Predicate::Or({Predicate::Make(Kind::kDiff, kMin, 0), same});
    Predicate lower, upper;
    if (lo == 0)
      lower = at_least_0;
    else if (lo == 1)
      lower = Predicate::Not(at_most_0);
    else if (lo != kMin)
      return std::nullopt;
    if (hi == 0)
      upper = at_most_0;
    else if (hi == -1)
      upper = Predicate::Not(at_least_0);
    else if (hi != kMax)
      return std::nullopt;
    if (lo == 0 && hi == 0) return same;
    return Predicate::And({lower, upper});
  }

  // vector - index, or index - vector.
  if (b.kind == Atom::Kind::kVector && a.kind == Atom::Kind::kIndex)
    return TwoTerms(minus, plus, Negated(hi), Negated(lo));
  if (a.kind == Atom::Kind::kVector && b.kind == Atom::Kind::kIndex) {
    const VectorSpec spec{a.source, kMin, kMax, a.position < 0};
    if (minus == Atoms::kQuery && a.position != Atoms::kQuery) {
      return Predicate::Make(Kind::kKeyCmp, lo, hi, InternVector(spec));
    }
    if (minus == Atoms::kKey && a.position != Atoms::kKey) {
      return Predicate::Make(Kind::kQueryCmp, lo, hi, InternVector(spec));
    }
    return std::nullopt;
  }

  if (a.kind == Atom::Kind::kVector && b.kind == Atom::Kind::kVector && a.source == b.source) {
    if (a.position == Atoms::kKey && b.position == Atoms::kQuery)
      return TwoTerms(minus, plus, Negated(hi), Negated(lo));
    if (a.position != Atoms::kQuery || b.position != Atoms::kKey) return std::nullopt;
    const int vector = InternVector({a.source, kMin, kMax, false});
    if (lo == 0 && hi == 0) return Predicate::Make(Kind::kSame, kMin, kMax, vector);
    return Predicate::Make(Kind::kQueryCmp, lo, hi, kPair + vector);
  }
  return std::nullopt;
}

std::optional<std::vector<Case>> ElementAlgebra::AsCases(const Element& e) const {
  if (const auto constant = e.Constant()) return std::vector<Case>{{Predicate::True(), *constant}};
  if (e.kind == Element::Kind::kCases) return e.cases;
  if (e.kind == Element::Kind::kPredicate) {
    return std::vector<Case>{{e.predicate, 1}, {Predicate::Not(e.predicate), 0}};
  }
  return std::nullopt;
}

std::optional<Predicate> ElementAlgebra::AsPredicate(const Element& e) {
  if (e.kind == Element::Kind::kPredicate) return e.predicate;
  if (e.kind == Element::Kind::kLinear) {
    const auto zero = InRange(e.linear, 0, 0);
    if (!zero) return std::nullopt;
    return Predicate::Not(*zero);
  }
  const auto cases = AsCases(e);
  if (!cases) return std::nullopt;
  std::vector<Predicate> nonzero;
  for (const Case& c : *cases) {
    if (c.value != 0) nonzero.push_back(c.when);
  }
  return Predicate::Or(std::move(nonzero));
}

Element ElementAlgebra::Select(const Predicate& when, const Element& then, const Element& otherwise) {
  if (when.kind == Kind::kTrue) return then;
  if (when.kind == Kind::kFalse) return otherwise;
  if (then.kind == Element::Kind::kLinear && otherwise.kind == Element::Kind::kLinear &&
      then.linear == otherwise.linear) {
    return then;
  }
  const auto a = AsCases(then), b = AsCases(otherwise);
  if (!a || !b) return Element::Unknown();
  std::vector<Case> cases;
  for (const Case& c : *a) cases.push_back({Predicate::And({when, c.when}), c.value});
  for (const Case& c : *b) cases.push_back({Predicate::And({Predicate::Not(when), c.when}), c.value});
  return FromCases(std::move(cases));
}

Element ElementAlgebra::Map(const Element& e, const std::function<double(double)>& f) const {
  auto cases = AsCases(e);
  if (!cases) return Element::Unknown();
  for (Case& c : *cases) c.value = f(c.value);
  return FromCases(std::move(*cases));
}

Element ElementAlgebra::Zip(const Element& a, const Element& b, const std::function<double(double, double)>& f) const {
  const auto x = AsCases(a), y = AsCases(b);
  if (!x || !y || x->size() * y->size() > kMostCases * kMostCases) return Element::Unknown();
  std::vector<Case> cases;
  for (const Case& c : *x) {
    for (const Case& d : *y) cases.push_back({Predicate::And({c.when, d.when}), f(c.value, d.value)});
  }
  return FromCases(std::move(cases));
}

Element ElementAlgebra::Compare(std::string_view relation, const Element& a, const Element& b) {
  if (!a.known() || !b.known()) return Element::Unknown();
  if (a.kind == Element::Kind::kLinear && b.kind == Element::Kind::kLinear) {
    const Linear d = a.linear - b.linear;
    std::optional<Predicate> p;
    if (relation == "lt") p = InRange(d, kMin, -1);
    if (relation == "le") p = InRange(d, kMin, 0);
    if (relation == "gt") p = InRange(d, 1, kMax);
    if (relation == "ge") p = InRange(d, 0, kMax);
    if (relation == "eq" || relation == "ne") p = InRange(d, 0, 0);
    if (!p) return Element::Unknown();
    return Element::Of(relation == "ne" ? Predicate::Not(*p) : *p);
  }
  const Element zipped = Zip(a, b, [&](double x, double y) -> double {
    if (relation == "lt") return x < y;
    if (relation == "le") return x <= y;
    if (relation == "gt") return x > y;
    if (relation == "ge") return x >= y;
    return relation == "eq" ? x == y : x != y;
  });
  const auto p = AsPredicate(zipped);
  if (zipped.known() && p) return Element::Of(*p);
  // An index against a constant that is no integer (k < 2.5).
  const Element& varying = a.kind == Element::Kind::kLinear ? a : b;
  const auto constant = (&varying == &a ? b : a).Constant();
  if (varying.kind != Element::Kind::kLinear || !constant || std::isnan(*constant)) return Element::Unknown();
  const bool below = std::isinf(*constant) ? *constant > 0 : true;
  if (std::isinf(*constant)) {
    const bool less = &varying == &a ? below : !below;  // a < b at every index
    if (relation == "eq" || relation == "ne")
      return Element::Of(relation == "ne" ? Predicate::True() : Predicate::False());
    const bool holds = (relation == "lt" || relation == "le") == less;
    return Element::Of(holds ? Predicate::True() : Predicate::False());
  }
  if (std::abs(*constant) > 1e15) return Element::Unknown();
  const auto floor = static_cast<int64_t>(std::floor(*constant));
  if (relation == "eq" || relation == "ne")
    return Element::Of(relation == "ne" ? Predicate::True() : Predicate::False());
  const bool less = (relation == "lt" || relation == "le") == (&varying == &a);
  const auto range = less ? InRange(varying.linear, kMin, floor) : InRange(varying.linear, floor + 1, kMax);
  return range ? Element::Of(*range) : Element::Unknown();
}

std::optional<Predicate> ElementAlgebra::ResolvePairs(
    const Predicate& root, const std::function<bool(int segments, int positions)>& segments_of) const {
  std::vector<int> same;  // vectors known to be equal at q and k where we stand
  const auto resolve = [&](const auto& self, const Predicate& p) -> std::optional<Predicate> {
    if (p.kind == Kind::kQueryCmp && p.vector >= kPair) {
      for (const int segments : same) {
        // In one segment positions grow by one a step, so their difference is the index difference.
        if (segments_of(segments, p.vector - kPair)) return Predicate::Make(Kind::kDiff, p.lo, p.hi);
      }
      return std::nullopt;
    }
    if (p.kind != Kind::kAnd && p.kind != Kind::kOr) return p;
    const size_t before = same.size();
    if (p.kind == Kind::kAnd) {
      for (const Predicate& o : p.operands) {
        if (o.kind == Kind::kSame) same.push_back(o.vector);
      }
    }
    std::vector<Predicate> operands;
    bool ok = true;
    for (const Predicate& o : p.operands) {
      auto resolved = self(self, o);
      ok = ok && resolved.has_value();
      if (ok) operands.push_back(std::move(*resolved));
    }
    same.resize(before);
    if (!ok) return std::nullopt;
    return p.kind == Kind::kAnd ? Predicate::And(std::move(operands)) : Predicate::Or(std::move(operands));
  };
  return resolve(resolve, root);
}

}  // namespace autospc::canonical
