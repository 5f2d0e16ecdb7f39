#include "runtime/base/predicate.h"

#include <gtest/gtest.h>

#include <random>

namespace autospc {
namespace {

using Kind = Predicate::Kind;

Predicate P(std::string_view text) {
  auto p = Predicate::Parse(text);
  EXPECT_TRUE(p.ok()) << text;
  return p.ok() ? *p : Predicate::False();
}

TEST(Predicate, SimplifiesToOneForm) {
  EXPECT_EQ(P("and(true, diff(0, *))").ToString(), "diff(0, *)");
  EXPECT_EQ(P("and(diff(0, *), diff(*, 15))").ToString(), "diff(0, 15)");
  EXPECT_EQ(P("and(diff(*, 15), diff(0, *), key(0))"), P("and(key(0), and(diff(0, 20), diff(-3, 15)))"));
  EXPECT_EQ(P("or(diff(0, *), diff(*, -1))").ToString(), "true");
  EXPECT_EQ(P("or(k(3, 5), k(6, 9))").ToString(), "k(3, 9)");
  EXPECT_EQ(P("or(k(3, 5), k(7, 9))").ToString(), "or(k(3, 5), k(7, 9))");
  EXPECT_EQ(P("and(k(3, 5), k(7, 9))").ToString(), "false");
  EXPECT_EQ(P("not(diff(0, *))").ToString(), "diff(*, -1)");
  EXPECT_EQ(P("not(diff(0, 3))").ToString(), "or(diff(*, -1), diff(4, *))");
  EXPECT_EQ(P("not(not(same(1)))").ToString(), "same(1)");
  EXPECT_EQ(P("not(and(key(0), diff(0, *)))").ToString(), "or(not(key(0)), diff(*, -1))");
  EXPECT_EQ(P("and(key(0), not(key(0)))").ToString(), "false");
  EXPECT_EQ(P("or(key(0), not(key(0)))").ToString(), "true");
  EXPECT_EQ(P("and(diff(0, *), or(diff(0, *), key(0)))").ToString(), "diff(0, *)");
  EXPECT_EQ(P("or(diff(0, *), and(diff(0, *), key(0)))").ToString(), "diff(0, *)");
  EXPECT_EQ(P("diff(3, 2)").ToString(), "false");
  EXPECT_EQ(P("same_chunk(1)").ToString(), "diff(0, 0)");
  EXPECT_EQ(P("and(same_chunk(4), diff(-3, 3))").ToString(), "same_chunk(4)");
  EXPECT_EQ(P("key_cmp(2, *, *)").ToString(), "true");
}

TEST(Predicate, PrintsAndParsesLosslessly) {
  for (const char* text : {"true", "false", "diff(0, *)", "diff(-5, 7)", "q(*, 3)", "k(2, *)", "same_chunk(16)",
                           "same(2)", "key(0)", "query(1)", "key_cmp(0, -2, *)", "query_cmp(3, *, 9)",
                           "or(and(diff(0, *), same(1)), not(query(0)), k(*, 4))"}) {
    EXPECT_EQ(P(P(text).ToString()), P(text)) << text;
  }
  EXPECT_EQ(P(" and( diff(0,*) ,key( 1 ) ) ").ToString(), P("and(diff(0, *), key(1))").ToString());
}

TEST(Predicate, RefusesWhatIsNone) {
  for (const char* text :
       {"", "tru", "diff", "diff(", "diff(0)", "diff(0, *", "diff(0, *) x", "and()", "not(true, true)", "same(-1)",
        "same_chunk(0)", "same_chunk(*)", "window(3)", "diff(9223372036854775807, *)", "k(a, 2)"}) {
    const auto p = Predicate::Parse(text);
    ASSERT_FALSE(p.ok()) << text;
    EXPECT_EQ(p.error().code, Code::kBadInput);
    EXPECT_NE(p.error().where.find("column"), std::string::npos);
  }
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "not(";
  EXPECT_FALSE(Predicate::Parse(deep).ok());
}

TEST(Predicate, Holds) {
  const std::vector<std::vector<int64_t>> vectors = {{1, 1, 2, 2}, {1, 0, 1, 1}};
  const VectorAt at = [&](int v, int64_t i) { return vectors[v][i]; };
  EXPECT_TRUE(Holds(P("diff(0, 1)"), 3, 2, at));
  EXPECT_FALSE(Holds(P("diff(0, 1)"), 3, 1, at));
  EXPECT_FALSE(Holds(P("same(0)"), 1, 2, at));
  EXPECT_TRUE(Holds(P("key(1)"), 1, 0, at));
  EXPECT_FALSE(Holds(P("query(1)"), 1, 0, at));
  EXPECT_TRUE(Holds(P("key_cmp(0, *, 0)"), 2, 3, at));    // 2 - 2
  EXPECT_TRUE(Holds(P("query_cmp(0, 0, *)"), 2, 2, at));  // 2 - 2
  EXPECT_FALSE(Holds(P("query_cmp(0, 0, *)"), 2, 3, at));
}

TEST(Predicate, ImpliesIsSound) {
  EXPECT_TRUE(Implies(P("diff(0, 0)"), P("and(diff(0, 15), same(0), same_chunk(8))")));
  EXPECT_FALSE(Implies(P("diff(0, 0)"), P("and(diff(0, 15), key(0))")));
  EXPECT_FALSE(Implies(P("diff(0, *)"), P("diff(1, *)")));
  EXPECT_EQ(VectorCount(P("and(same(3), key(1))")), 4);
  EXPECT_EQ(VectorCount(P("diff(0, *)")), 0);
}

Predicate Random(std::mt19937& rng, int depth) {
  const auto draw = [&](int lo, int hi) { return std::uniform_int_distribution<int>(lo, hi)(rng); };
  if (depth > 0 && draw(0, 2) > 0) {
    std::vector<Predicate> operands;
    for (int n = draw(1, 3); n > 0; --n) operands.push_back(Random(rng, depth - 1));
    Predicate p = Predicate::Make(static_cast<Kind>(draw(2, 4)));
    if (p.kind == Kind::kNot) operands.resize(1);
    p.operands = std::move(operands);
    return p;
  }
  const Kind kind = static_cast<Kind>(draw(0, 1) ? draw(5, 7) : draw(0, 1) ? draw(8, 13) : draw(0, 1));
  if (kind == Kind::kSameChunk) return Predicate::Make(kind, draw(1, 5));
  const int64_t lo = draw(0, 2) ? draw(-6, 6) : Predicate::kMin, hi = draw(0, 2) ? draw(-3, 9) : Predicate::kMax;
  return Predicate::Make(kind, lo, hi, kind >= Kind::kSame ? draw(0, 1) : -1);
}

// Rebuilds a raw tree through And, Or and Not.
Predicate Simplify(const Predicate& p) {
  std::vector<Predicate> operands;
  for (const Predicate& o : p.operands) operands.push_back(Simplify(o));
  if (p.kind == Kind::kAnd) return Predicate::And(std::move(operands));
  if (p.kind == Kind::kOr) return Predicate::Or(std::move(operands));
  if (p.kind == Kind::kNot) return Predicate::Not(std::move(operands.front()));
  return p;
}

TEST(Predicate, SimplificationKeepsTheMeaning) {
  std::mt19937 rng(7);
  constexpr int64_t kSize = 9;
  for (int trial = 0; trial < 3000; ++trial) {
    const Predicate raw = Random(rng, 3), simple = Simplify(raw), other = Simplify(Random(rng, 2));
    std::vector<std::vector<int64_t>> vectors(2, std::vector<int64_t>(kSize));
    for (auto& v : vectors) {
      for (int64_t& x : v) x = std::uniform_int_distribution<int>(0, 3)(rng);
    }
    const VectorAt at = [&](int v, int64_t i) { return vectors[v][i]; };
    const Predicate parsed = P(simple.ToString());
    const bool implies = Implies(simple, other);
    for (int64_t q = 0; q < kSize; ++q) {
      for (int64_t k = 0; k < kSize; ++k) {
        ASSERT_EQ(Holds(raw, q, k, at), Holds(simple, q, k, at)) << raw.ToString() << " -> " << simple.ToString();
        ASSERT_EQ(Holds(parsed, q, k, at), Holds(simple, q, k, at)) << simple.ToString();
        if (implies && Holds(simple, q, k, at)) ASSERT_TRUE(Holds(other, q, k, at));
      }
    }
  }
}

}  // namespace
}  // namespace autospc
