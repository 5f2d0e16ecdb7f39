// One element of a tensor in a mask's subgraph, as a function of the indices b, h, q, k: an integer
// expression, a predicate, or one of a few constants chosen by predicates.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "passes/canonical/linear.h"
#include "runtime/base/predicate.h"

namespace autospc::canonical {

// A vector operand of a predicate: source's elements, or whether lo <= element <= hi.
struct VectorSpec {
  ir::ValueId source = ir::kNoValue;
  int64_t lo = Predicate::kMin, hi = Predicate::kMax;
  bool per_batch = false;  // source holds one element for each batch row: repeated over positions
  bool operator==(const VectorSpec&) const = default;
};

struct Case {
  Predicate when;
  double value = 0;
};

struct Element {
  enum class Kind : uint8_t { kUnknown, kLinear, kPredicate, kCases };
  Kind kind = Kind::kUnknown;
  Linear linear;
  Predicate predicate;
  std::vector<Case> cases;  // disjoint, and one of them always holds

  static Element Unknown() { return {}; }
  static Element Of(Linear l) {
    Element e;
    if (!l.fits) return e;
    e.kind = Kind::kLinear;
    e.linear = std::move(l);
    return e;
  }
  static Element Of(Predicate p) {
    Element e;
    e.kind = Kind::kPredicate;
    e.predicate = std::move(p);
    return e;
  }
  static Element OfNumber(double value);  // an integer if it is one
  bool known() const { return kind != Kind::kUnknown; }
  std::optional<double> Constant() const;
};

// Builds predicates from elements; owns the atoms and the vector operands met.
class ElementAlgebra {
 public:
  ElementAlgebra(int64_t batch, int64_t heads, int64_t q_size, int64_t k_size) : atoms_(batch, heads, q_size, k_size) {}

  Atoms& atoms() { return atoms_; }
  const std::vector<VectorSpec>& vectors() const { return vectors_; }
  int InternVector(const VectorSpec& spec);

  // lo <= l <= hi; nothing where no predicate says it.
  std::optional<Predicate> InRange(const Linear& l, int64_t lo, int64_t hi);
  // As constants chosen by predicates; nothing for expressions that vary.
  std::optional<std::vector<Case>> AsCases(const Element& e) const;
  // As a predicate: whether it differs from zero.
  std::optional<Predicate> AsPredicate(const Element& e);
  Element Select(const Predicate& when, const Element& then, const Element& otherwise);
  Element Map(const Element& e, const std::function<double(double)>& f) const;
  Element Zip(const Element& a, const Element& b, const std::function<double(double, double)>& f) const;
  Element Compare(std::string_view relation, const Element& a, const Element& b);  // lt le gt ge eq ne

  // Comparisons of one vector's elements at q and at k have no predicate of their own. They stand as query_cmp
  // with this much added to the vector's index until ResolvePairs has replaced them.
  static constexpr int kPair = 1 << 20;
  // segments_of(a, b): whether vector a is constant only over runs in which vector b grows by one a position.
  std::optional<Predicate> ResolvePairs(const Predicate& p,
                                        const std::function<bool(int segments, int positions)>& segments_of) const;

 private:
  std::optional<Predicate> OneTerm(AtomId id, int64_t lo, int64_t hi);
  std::optional<Predicate> TwoTerms(AtomId plus, AtomId minus, int64_t lo, int64_t hi);

  Atoms atoms_;
  std::vector<VectorSpec> vectors_;
};

}  // namespace autospc::canonical
