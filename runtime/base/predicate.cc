#include "runtime/base/predicate.h"

#include <algorithm>
#include <charconv>
#include <tuple>

namespace autospc {
namespace {

using Kind = Predicate::Kind;
constexpr int64_t kMin = Predicate::kMin;
constexpr int64_t kMax = Predicate::kMax;

// Kinds that say "an integer of (q, k, vectors) lies in [lo, hi]": what can be intersected and merged.
bool IsRange(Kind kind) {
  return kind == Kind::kDiff || kind == Kind::kQ || kind == Kind::kK || kind == Kind::kKeyCmp ||
         kind == Kind::kQueryCmp;
}

bool SameQuantity(const Predicate& a, const Predicate& b) {
  return a.kind == b.kind && IsRange(a.kind) && a.vector == b.vector;
}

bool Less(const Predicate& a, const Predicate& b) {
  const auto key = [](const Predicate& p) { return std::tuple(p.kind, p.vector, p.lo, p.hi); };
  if (key(a) != key(b)) return key(a) < key(b);
  return std::lexicographical_compare(a.operands.begin(), a.operands.end(), b.operands.begin(), b.operands.end(), Less);
}

// An atom in its one canonical form.
Predicate Normalise(Predicate p) {
  if (IsRange(p.kind)) {
    if (p.lo > p.hi) return Predicate::False();
    if (p.lo == kMin && p.hi == kMax) return Predicate::True();
  }
  if (p.kind == Kind::kSameChunk && p.lo == 1) return Predicate::Make(Kind::kDiff, 0, 0);
  return p;
}

void Flatten(Kind kind, std::vector<Predicate> from, std::vector<Predicate>* to) {
  for (Predicate& p : from) {
    if (p.kind == kind) {
      Flatten(kind, std::move(p.operands), to);
    } else {
      to->push_back(Normalise(std::move(p)));
    }
  }
}

Predicate Group(Kind kind, std::vector<Predicate> operands) {
  Predicate p = Predicate::Make(kind);
  p.operands = std::move(operands);
  return p;
}

// And and Or are the same up to duality: `unit` is what changes nothing, `zero` what decides all.
Predicate Combine(Kind kind, std::vector<Predicate> operands) {
  const bool is_and = kind == Kind::kAnd;
  const Kind unit = is_and ? Kind::kTrue : Kind::kFalse, zero = is_and ? Kind::kFalse : Kind::kTrue;
  std::vector<Predicate> all;
  Flatten(kind, std::move(operands), &all);
  std::sort(all.begin(), all.end(), Less);

  std::vector<Predicate> kept;
  for (Predicate& p : all) {
    if (p.kind == unit) continue;
    if (p.kind == zero) return Predicate::Make(zero);
    // Sorted, so ranges of one quantity stand together, by their lower bounds.
    if (!kept.empty() && SameQuantity(kept.back(), p)) {
      Predicate& last = kept.back();
      if (is_and) {
        last = Normalise(Predicate::Make(p.kind, std::max(last.lo, p.lo), std::min(last.hi, p.hi), p.vector));
        if (last.kind == Kind::kFalse) return last;
        continue;
      }
      if (last.hi == kMax || p.lo == kMin || p.lo <= last.hi + 1) {
        last = Normalise(Predicate::Make(p.kind, last.lo, std::max(last.hi, p.hi), p.vector));
        if (last.kind == Kind::kTrue) return last;
        continue;
      }
    }
    kept.push_back(std::move(p));
  }

  // Absorption: an operand of an and that another implies adds nothing; dually for or.
  for (size_t i = 0; i < kept.size();) {
    bool absorbed = false;
    for (size_t j = 0; j < kept.size() && !absorbed; ++j) {
      if (i == j) continue;
      absorbed = is_and ? Implies(kept[j], kept[i]) : Implies(kept[i], kept[j]);
    }
    if (absorbed) {
      kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
  // p and not p; p or not p.
  for (size_t i = 0; i < kept.size(); ++i) {
    const Predicate opposite = Predicate::Not(kept[i]);
    for (size_t j = 0; j < kept.size(); ++j) {
      if (i == j) continue;
      if (is_and ? Implies(kept[j], opposite) : Implies(opposite, kept[j])) return Predicate::Make(zero);
    }
  }
  if (kept.empty()) return Predicate::Make(unit);
  if (kept.size() == 1) return std::move(kept.front());
  return Group(kind, std::move(kept));
}

std::string Bound(int64_t value) { return value == kMin || value == kMax ? "*" : fmt::format("{}", value); }

std::string Join(const std::vector<Predicate>& operands) {
  std::string text;
  for (const Predicate& p : operands) text += (text.empty() ? "" : ", ") + p.ToString();
  return text;
}

// Recursive descent over the text form.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<Predicate> ParseAll() {
    ASSIGN_OR_RETURN(Predicate p, ParseOne(0));
    SkipSpace();
    if (at_ != text_.size()) return Fail("text after the predicate");
    return p;
  }

 private:
  static constexpr int kMaxDepth = 64;                   // nesting; bounds the stack on hostile input
  static constexpr int64_t kLargest = int64_t{1} << 62;  // of a number, in absolute value

  Error Fail(std::string_view why) const {
    return {Code::kBadInput, fmt::format("predicate \"{}\": {}", text_.substr(0, 200), why),
            fmt::format("column {}", at_ + 1), "the forms are listed in runtime/base/predicate.h"};
  }

  void SkipSpace() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }

  bool Eat(char c) {
    SkipSpace();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  Result<int64_t> Number(int64_t star) {
    if (star != 0 && Eat('*')) return star;
    SkipSpace();
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc() || value > kLargest || value < -kLargest) return Fail("a number is expected");
    at_ = static_cast<size_t>(end - text_.data());
    return value;
  }

  Result<int64_t> VectorIndex() {
    ASSIGN_OR_RETURN(const int64_t index, Number(0));
    if (index < 0 || index > 1 << 20) return Fail("a vector index is from 0 on");
    return index;
  }

  Status Bounds(Predicate* p) {
    ASSIGN_OR_RETURN(p->lo, Number(kMin));
    if (!Eat(',')) return Fail("\",\" is expected");
    ASSIGN_OR_RETURN(p->hi, Number(kMax));
    return Ok();
  }

  Result<Predicate> ParseOne(int depth) {
    if (depth > kMaxDepth) return Fail("nested too deeply");
    SkipSpace();
    const size_t start = at_;
    while (at_ < text_.size() && ((text_[at_] >= 'a' && text_[at_] <= 'z') || text_[at_] == '_')) ++at_;
    const std::string_view word = text_.substr(start, at_ - start);
    if (word == "true") return Predicate::True();
    if (word == "false") return Predicate::False();
    if (!Eat('(')) return Fail("\"(\" is expected");

    Predicate p;
    if (word == "and" || word == "or" || word == "not") {
      std::vector<Predicate> operands;
      do {
        ASSIGN_OR_RETURN(Predicate operand, ParseOne(depth + 1));
        operands.push_back(std::move(operand));
      } while (word != "not" && Eat(','));
      p = word == "and"  ? Predicate::And(std::move(operands))
          : word == "or" ? Predicate::Or(std::move(operands))
                         : Predicate::Not(std::move(operands.front()));
    } else if (word == "diff" || word == "q" || word == "k") {
      p.kind = word == "diff" ? Kind::kDiff : word == "q" ? Kind::kQ : Kind::kK;
      RETURN_IF_ERROR(Bounds(&p));
    } else if (word == "same_chunk") {
      p.kind = Kind::kSameChunk;
      ASSIGN_OR_RETURN(p.lo, Number(0));
      if (p.lo < 1) return Fail("a chunk has at least one position");
    } else if (word == "same" || word == "key" || word == "query") {
      p.kind = word == "same" ? Kind::kSame : word == "key" ? Kind::kKey : Kind::kQuery;
      ASSIGN_OR_RETURN(const int64_t index, VectorIndex());
      p.vector = static_cast<int>(index);
    } else if (word == "key_cmp" || word == "query_cmp") {
      p.kind = word == "key_cmp" ? Kind::kKeyCmp : Kind::kQueryCmp;
      ASSIGN_OR_RETURN(const int64_t index, VectorIndex());
      p.vector = static_cast<int>(index);
      if (!Eat(',')) return Fail("\",\" is expected");
      RETURN_IF_ERROR(Bounds(&p));
    } else {
      return Fail(fmt::format("\"{}\" is no predicate", word));
    }
    if (!Eat(')')) return Fail("\")\" is expected");
    return Normalise(std::move(p));
  }

  std::string_view text_;
  size_t at_ = 0;
};

int64_t FloorDiv(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0)); }

}  // namespace

Predicate Predicate::And(std::vector<Predicate> operands) { return Combine(Kind::kAnd, std::move(operands)); }
Predicate Predicate::Or(std::vector<Predicate> operands) { return Combine(Kind::kOr, std::move(operands)); }

Predicate Predicate::Not(Predicate operand) {
  Predicate p = Normalise(std::move(operand));
  switch (p.kind) {
    case Kind::kTrue:
      return False();
    case Kind::kFalse:
      return True();
    case Kind::kNot:
      return std::move(p.operands.front());
    case Kind::kAnd:
    case Kind::kOr: {
      const bool was_and = p.kind == Kind::kAnd;
      std::vector<Predicate> negated;
      for (Predicate& o : p.operands) negated.push_back(Not(std::move(o)));
      return was_and ? Or(std::move(negated)) : And(std::move(negated));
    }
    default:
      break;
  }
  if (!IsRange(p.kind)) return Group(Kind::kNot, {std::move(p)});
  // Outside a range: below it or above it. Normalised, so at least one side exists and they don't meet.
  std::vector<Predicate> sides;
  if (p.lo != kMin) sides.push_back(Make(p.kind, kMin, p.lo - 1, p.vector));
  if (p.hi != kMax) sides.push_back(Make(p.kind, p.hi + 1, kMax, p.vector));
  if (sides.size() == 1) return sides.front();
  return Group(Kind::kOr, std::move(sides));
}

std::string Predicate::ToString() const {
  switch (kind) {
    case Kind::kTrue:
      return "true";
    case Kind::kFalse:
      return "false";
    case Kind::kAnd:
      return fmt::format("and({})", Join(operands));
    case Kind::kOr:
      return fmt::format("or({})", Join(operands));
    case Kind::kNot:
      return fmt::format("not({})", Join(operands));
    case Kind::kDiff:
      return fmt::format("diff({}, {})", Bound(lo), Bound(hi));
    case Kind::kQ:
      return fmt::format("q({}, {})", Bound(lo), Bound(hi));
    case Kind::kK:
      return fmt::format("k({}, {})", Bound(lo), Bound(hi));
    case Kind::kSameChunk:
      return fmt::format("same_chunk({})", lo);
    case Kind::kSame:
      return fmt::format("same({})", vector);
    case Kind::kKey:
      return fmt::format("key({})", vector);
    case Kind::kQuery:
      return fmt::format("query({})", vector);
    case Kind::kKeyCmp:
      return fmt::format("key_cmp({}, {}, {})", vector, Bound(lo), Bound(hi));
    case Kind::kQueryCmp:
      return fmt::format("query_cmp({}, {}, {})", vector, Bound(lo), Bound(hi));
  }
  return "false";
}

Result<Predicate> Predicate::Parse(std::string_view text) { return Parser(text).ParseAll(); }

bool Holds(const Predicate& p, int64_t q, int64_t k, const VectorAt& at) {
  const auto in = [&](int64_t x) { return p.lo <= x && x <= p.hi; };
  const auto holds = [&](const Predicate& o) { return Holds(o, q, k, at); };
  switch (p.kind) {
    case Kind::kTrue:
      return true;
    case Kind::kFalse:
      return false;
    case Kind::kAnd:
      return std::all_of(p.operands.begin(), p.operands.end(), holds);
    case Kind::kOr:
      return std::any_of(p.operands.begin(), p.operands.end(), holds);
    case Kind::kNot:
      return !holds(p.operands.front());
    case Kind::kDiff:
      return in(q - k);
    case Kind::kQ:
      return in(q);
    case Kind::kK:
      return in(k);
    case Kind::kSameChunk:
      return FloorDiv(q, p.lo) == FloorDiv(k, p.lo);
    case Kind::kSame:
      return at(p.vector, q) == at(p.vector, k);
    case Kind::kKey:
      return at(p.vector, k) != 0;
    case Kind::kQuery:
      return at(p.vector, q) != 0;
    case Kind::kKeyCmp:
      return in(at(p.vector, k) - q);
    case Kind::kQueryCmp:
      return in(at(p.vector, q) - k);
  }
  return false;
}

bool Implies(const Predicate& a, const Predicate& b) {
  if (a == b || a.kind == Kind::kFalse || b.kind == Kind::kTrue) return true;
  const auto implies_b = [&](const Predicate& o) { return Implies(o, b); };
  const auto implied = [&](const Predicate& o) { return Implies(a, o); };
  // Both of these lose nothing, so they go first.
  if (a.kind == Kind::kOr) return std::all_of(a.operands.begin(), a.operands.end(), implies_b);
  if (b.kind == Kind::kAnd) return std::all_of(b.operands.begin(), b.operands.end(), implied);
  if (b.kind == Kind::kOr && std::any_of(b.operands.begin(), b.operands.end(), implied)) return true;
  if (a.kind == Kind::kAnd) return std::any_of(a.operands.begin(), a.operands.end(), implies_b);
  if (SameQuantity(a, b)) return b.lo <= a.lo && a.hi <= b.hi;
  const bool diagonal = a.kind == Kind::kDiff && a.lo == 0 && a.hi == 0;
  if (diagonal) return b.kind == Kind::kSame || b.kind == Kind::kSameChunk;
  if (a.kind == Kind::kSameChunk) {
    if (b.kind == Kind::kSameChunk) return b.lo % a.lo == 0;
    if (b.kind == Kind::kDiff) return b.lo <= 1 - a.lo && a.lo - 1 <= b.hi;
  }
  // Two positions further apart than a chunk is long are in different ones.
  if (b.kind == Kind::kNot && b.operands.front().kind == Kind::kSameChunk && a.kind == Kind::kDiff) {
    const int64_t c = b.operands.front().lo;
    return a.lo >= c || a.hi <= -c;
  }
  return false;
}

int VectorCount(const Predicate& p) {
  int count = p.vector + 1;
  for (const Predicate& o : p.operands) count = std::max(count, VectorCount(o));
  return count;
}

}  // namespace autospc
