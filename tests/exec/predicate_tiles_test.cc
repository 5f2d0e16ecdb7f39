#include "runtime/exec/predicate_tiles.h"

#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace autospc::exec {
namespace {

using Kind = Predicate::Kind;

// Positions' vectors of one batch row, in both types the kernels read.
struct Vectors {
  explicit Vectors(int64_t length) {
    std::mt19937 random(7);
    for (int64_t i = 0; i < length; ++i) {
      segments.push_back(i / 9);
      padding.push_back(i < length - 5);
      bounds.push_back(static_cast<int64_t>(random() % static_cast<unsigned>(length)));
      flags.push_back(random() % 3 != 0);
      spread.push_back(i / 4);
      spread.push_back(-1);
    }
    views = {{segments.data(), false, 1}, {padding.data(), true, 1}, {bounds.data(), false, 1},
             {flags.data(), true, 1},     {spread.data(), false, 2}};
  }
  VectorAt at() const {
    return [this](int vector, int64_t position) { return views[static_cast<size_t>(vector)][position]; };
  }

  std::vector<int64_t> segments, bounds, spread;
  std::vector<uint8_t> padding, flags;
  std::vector<PositionVector> views;
};

Predicate Group(Kind kind, std::vector<Predicate> operands) {
  Predicate p = Predicate::Make(kind);
  p.operands = std::move(operands);
  return p;
}

Predicate RandomAtom(std::mt19937& random) {
  const auto number = [&](int lo, int hi) { return lo + static_cast<int64_t>(random() % static_cast<unsigned>(hi - lo + 1)); };
  const auto lo = [&] { return random() % 3 == 0 ? Predicate::kMin : number(-12, 12); };
  const auto hi = [&](int64_t from) { return random() % 3 == 0 ? Predicate::kMax : std::max<int64_t>(from, -12) + number(0, 14); };
  Predicate p = Predicate::Make(static_cast<Kind>(number(static_cast<int>(Kind::kDiff), static_cast<int>(Kind::kQueryCmp))));
  switch (p.kind) {
    case Kind::kSameChunk: p.lo = number(1, 11); break;
    case Kind::kDiff:
    case Kind::kKeyCmp:
    case Kind::kQueryCmp:
    case Kind::kQ:
    case Kind::kK:
      p.lo = lo();
      p.hi = hi(p.lo);
      if (p.kind == Kind::kQ || p.kind == Kind::kK) {  // positions lie in [0, 40)
        if (p.lo != Predicate::kMin) p.lo += 15;
        if (p.hi != Predicate::kMax) p.hi += 15;
      }
      break;
    default: break;
  }
  if (p.kind >= Kind::kSame) p.vector = static_cast<int>(number(0, 4));
  return p;
}

Predicate RandomPredicate(std::mt19937& random, int depth) {
  if (depth == 0 || random() % 3 == 0) return RandomAtom(random);
  // Built as they come, not simplified: the kernels must not rely on a normal form.
  if (random() % 4 == 0) return Group(Kind::kNot, {RandomPredicate(random, depth - 1)});
  std::vector<Predicate> operands;
  for (unsigned i = 0; i < 2 + random() % 2; ++i) operands.push_back(RandomPredicate(random, depth - 1));
  return Group(random() % 2 ? Kind::kAnd : Kind::kOr, std::move(operands));
}

using Classifier = TileKind (*)(const Predicate&, Interval, Interval, PositionVectors);

// Tiles of the [length, length] matrix about which the classifier is wrong.
int WrongTiles(Classifier classify, const Predicate& p, int64_t length, int64_t rows, int64_t columns, const Vectors& v) {
  int wrong = 0;
  for (int64_t q0 = 0; q0 < length; q0 += rows) {
    for (int64_t k0 = 0; k0 < length; k0 += columns) {
      const Interval q{q0, std::min(length, q0 + rows)}, k{k0, std::min(length, k0 + columns)};
      int64_t allowed = 0;
      for (int64_t i = q.begin; i < q.end; ++i) {
        for (int64_t j = k.begin; j < k.end; ++j) allowed += Holds(p, i, j, v.at());
      }
      const TileKind kind = classify(p, q, k, v.views);
      const int64_t all = (q.end - q.begin) * (k.end - k.begin);
      wrong += (kind == TileKind::kNone && allowed != 0) || (kind == TileKind::kAll && allowed != all);
    }
  }
  return wrong;
}

constexpr int64_t kLength = 40;

TEST(PredicateTiles, ClassifierAgreesWithThePredicateOnEveryTile) {
  const Vectors v(kLength);
  std::mt19937 random(1);
  int decided = 0;
  for (int i = 0; i < 400; ++i) {
    const Predicate p = RandomPredicate(random, i % 4);
    const int64_t rows = 1 + random() % 12, columns = 1 + random() % 12;
    EXPECT_EQ(WrongTiles(ClassifyTile, p, kLength, rows, columns, v), 0) << p.ToString();
    decided += ClassifyTile(p, {0, 4}, {30, 40}, v.views) != TileKind::kMixed;
  }
  EXPECT_GT(decided, 100);  // "mixed" everywhere would be right and useless
}

TEST(PredicateTiles, ABlockSkippedWronglyIsCaught) {
  // Faults as one could make them: a bound off by one, and a tile judged by its first query alone.
  const Classifier off_by_one = [](const Predicate& p, Interval q, Interval k, PositionVectors v) {
    Predicate shifted = p;
    shifted.lo += 1;
    return ClassifyTile(shifted, q, k, v);
  };
  const Classifier first_query = [](const Predicate& p, Interval q, Interval k, PositionVectors v) {
    return ClassifyTile(p, {q.begin, q.begin + 1}, k, v);
  };
  const Vectors v(kLength);
  EXPECT_GT(WrongTiles(off_by_one, Predicate::Causal(), kLength, 4, 5, v), 0);
  EXPECT_GT(WrongTiles(first_query, Predicate::Causal(), kLength, 5, 8, v), 0);
  EXPECT_EQ(WrongTiles(ClassifyTile, Predicate::Causal(), kLength, 5, 8, v), 0);
}

TEST(PredicateTiles, CommonMasksAreDecidedExactly) {
  const Vectors v(kLength);
  // For these the classifier is as good as counting: "mixed" only where a tile is.
  const std::vector<Predicate> exact = {Predicate::True(), Predicate::False(), Predicate::Causal(),
                                        Predicate::Make(Kind::kDiff, 0, 6), Predicate::Make(Kind::kDiff, -3, 3),
                                        Predicate::Make(Kind::kSameChunk, 8), Predicate::Make(Kind::kKey, 0, 0, 1),
                                        Predicate::Make(Kind::kQuery, 0, 0, 3), Predicate::Make(Kind::kSame, 0, 0, 0)};
  for (const Predicate& p : exact) {
    for (int64_t q0 = 0; q0 < kLength; q0 += 4) {
      for (int64_t k0 = 0; k0 < kLength; k0 += 5) {
        int allowed = 0;
        for (int64_t i = q0; i < q0 + 4; ++i) {
          for (int64_t j = k0; j < k0 + 5; ++j) allowed += Holds(p, i, j, v.at());
        }
        const TileKind expected = allowed == 0 ? TileKind::kNone : allowed == 20 ? TileKind::kAll : TileKind::kMixed;
        EXPECT_EQ(ClassifyTile(p, {q0, q0 + 4}, {k0, k0 + 5}, v.views), expected) << p.ToString() << " " << q0 << " " << k0;
      }
    }
  }
}

TEST(PredicateTiles, HullsHoldEveryAllowedKey) {
  const Vectors v(kLength);
  std::mt19937 random(2);
  for (int i = 0; i < 400; ++i) {
    const Predicate p = RandomPredicate(random, i % 4);
    const int64_t q0 = random() % 30, k0 = random() % 30;
    const Interval q{q0, q0 + 1 + static_cast<int64_t>(random() % 10)}, k{k0, k0 + 1 + static_cast<int64_t>(random() % 10)};
    const Interval hull = AllowedHull(p, q, k, v.views);
    if (!hull.empty()) {
      EXPECT_GE(hull.begin, k.begin);
      EXPECT_LE(hull.end, k.end);
    }
    for (int64_t a = q.begin; a < q.end; ++a) {
      for (int64_t b = k.begin; b < k.end; ++b) {
        if (Holds(p, a, b, v.at())) {
          EXPECT_TRUE(hull.begin <= b && b < hull.end) << p.ToString() << " at " << a << ", " << b;
        }
      }
    }
  }
  EXPECT_EQ(AllowedHull(Predicate::Make(Kind::kDiff, 0, 3), {10, 14}, {0, 40}, {}), (Interval{7, 14}));
  EXPECT_EQ(AllowedHull(Predicate::Make(Kind::kSame, 0, 0, 0), {10, 12}, {0, 40}, v.views), (Interval{9, 18}));
}

TEST(PredicateTiles, RowsAndIntervalsEqualThePredicate) {
  const Vectors v(kLength);
  std::mt19937 random(3);
  int intervals = 0;
  for (int i = 0; i < 1000; ++i) {
    const Predicate p = RandomPredicate(random, i % 4);
    const int64_t q = random() % kLength, k0 = random() % 30;
    const Interval k{k0, k0 + 1 + static_cast<int64_t>(random() % 10)};
    uint8_t allowed[16] = {};
    AllowedRow(p, q, k, v.views, allowed);
    const std::optional<Interval> interval = AllowedInterval(p, q, k, v.views);
    if (interval) {
      ++intervals;
      EXPECT_GE(interval->begin, k.begin);
      EXPECT_LE(interval->begin, interval->end);
      EXPECT_LE(interval->end, k.end);
    }
    for (int64_t j = k.begin; j < k.end; ++j) {
      const bool expected = Holds(p, q, j, v.at());
      EXPECT_EQ(allowed[j - k.begin] != 0, expected) << p.ToString() << " at " << q << ", " << j;
      if (interval) {
        EXPECT_EQ(interval->begin <= j && j < interval->end, expected) << p.ToString() << " at " << q << ", " << j;
      }
    }
  }
  EXPECT_GT(intervals, 200);
}

}  // namespace
}  // namespace autospc::exec
