#include "codegen/flops.h"

#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "codegen/collectives.h"
#include "codegen/pairs.h"
#include "passes/ir/parser.h"

namespace autospc::codegen {
namespace {

// Counted pair by pair; what the data decides is allowed under any sign.
int64_t Brute(const Predicate& p, int64_t q_first, int64_t q_len, int64_t q_valid, int64_t k_len) {
  int64_t count = 0;
  for (int64_t i = 0; i < q_len; ++i) {
    for (int64_t k = 0; k < k_len; ++k) count += Holds(p, std::min(q_first + i, q_valid - 1), k);
  }
  return count;
}

TEST(Pairs, KnownCounts) {
  const Predicate causal = Predicate::Causal();
  EXPECT_EQ(CountAllowed(causal, 0, 100, 100, 100), 5050);
  EXPECT_EQ(CountAllowed(Predicate::True(), 0, 7, 7, 9), 63);
  EXPECT_EQ(CountAllowed(Predicate::False(), 0, 7, 7, 9), 0);
  EXPECT_EQ(CountAllowed(Predicate::Make(Predicate::Kind::kDiff, 0, 3), 0, 10, 10, 10), 1 + 2 + 3 + 4 * 7);
  EXPECT_EQ(CountAllowed(Predicate::Make(Predicate::Kind::kSameChunk, 4), 0, 10, 10, 10), 16 + 16 + 4);
  EXPECT_EQ(CountAllowed(causal, 8, 4, 10, 10), 9 + 10 + 10 + 10) << "rows past the last repeat it";
  EXPECT_EQ(CountAllowed(causal, 0, 4, 4, 0), 0);
}

TEST(Pairs, UnknownCountsAsAllowed) {
  const Predicate key = Predicate::Make(Predicate::Kind::kKey, Predicate::kMin, Predicate::kMax, 0);
  EXPECT_EQ(CountAllowed(key, 0, 4, 4, 4), 16);
  EXPECT_EQ(CountAllowed(Predicate::Not(key), 0, 4, 4, 4), 16);
  EXPECT_EQ(CountAllowed(Predicate::And({key, Predicate::Causal()}), 0, 4, 4, 4), 10);
}

Predicate RandomPredicate(std::mt19937& rng, int depth) {
  const int64_t lo = static_cast<int64_t>(rng() % 20) - 10, hi = lo + static_cast<int64_t>(rng() % 12);
  switch (rng() % (depth > 0 ? 8 : 5)) {
    case 0: return Predicate::Make(Predicate::Kind::kDiff, rng() % 3 ? lo : Predicate::kMin, hi);
    case 1: return Predicate::Make(Predicate::Kind::kDiff, lo, Predicate::kMax);
    case 2: return Predicate::Make(Predicate::Kind::kQ, lo, hi);
    case 3: return Predicate::Make(Predicate::Kind::kK, lo, rng() % 3 ? hi : Predicate::kMax);
    case 4: return Predicate::Make(Predicate::Kind::kSameChunk, 1 + static_cast<int64_t>(rng() % 6));
    case 5: return Predicate::And({RandomPredicate(rng, depth - 1), RandomPredicate(rng, depth - 1)});
    case 6: return Predicate::Or({RandomPredicate(rng, depth - 1), RandomPredicate(rng, depth - 1)});
    default: return Predicate::Not(RandomPredicate(rng, depth - 1));
  }
}

TEST(Pairs, RandomPredicatesAgreeWithCountingPairByPair) {
  std::mt19937 rng(23);
  for (int i = 0; i < 500; ++i) {
    const Predicate p = RandomPredicate(rng, 3);
    const int64_t q_first = rng() % 8, q_len = rng() % 12, k_len = rng() % 16, q_valid = 1 + rng() % 16;
    ASSERT_EQ(CountAllowed(p, q_first, q_len, q_valid, k_len), Brute(p, q_first, q_len, q_valid, k_len)) << p.ToString();
  }
}

double FlopsOf(std::string_view text, int world_size = 1) {
  const Result<ir::Graph> g = ir::Parse(text);
  EXPECT_TRUE(g.ok()) << (g.ok() ? "" : g.error().Format());
  FlopCounter counter(world_size);
  double flops = 0;
  for (ir::NodeId id : g->nodes()) flops += counter.Count(*g, g->node(id));
  return flops;
}

TEST(Flops, Products) {
  EXPECT_EQ(FlopsOf(R"(graph @g {
    input %a : f32[3, 5] user "a"
    input %b : f32[5, 7] user "b"
    %c = aten.mm.default(%a, %b) : f32[3, 7]
  })"), 2 * 3 * 5 * 7);
  EXPECT_EQ(FlopsOf(R"(graph @g {
    input %i : f32[7] user "i"
    input %a : f32[3, 5] user "a"
    input %b : f32[5, 7] user "b"
    %c = aten.addmm.default(%i, %a, %b, 1, 1) : f32[3, 7]
  })"), 2 * 3 * 5 * 7);
  EXPECT_EQ(FlopsOf(R"(graph @g {
    input %a : f32[2, 3, 5] user "a"
    input %b : f32[2, 5, 7] user "b"
    %c = aten.bmm.default(%a, %b) : f32[2, 3, 7]
  })"), 2 * 2 * 3 * 5 * 7);
}

TEST(Flops, Convolutions) {
  const char* input = R"(graph @g {
    input %x : f32[1, 4, 10] user "x"
    input %w : f32[8, 2, 3] user "w"
    input %g : f32[1, 8, 8] user "g"
  )";
  const double forward = 2.0 * 8 * 8 * 2 * 3;
  EXPECT_EQ(FlopsOf(std::string(input) + "%y = aten.convolution.default(%x, %w, none, [1], [0], [1], false, [0], 2) : f32[1, 8, 8]\n}"), forward);
  EXPECT_EQ(FlopsOf(std::string(input) + "%a, %b, %c = aten.convolution_backward.default(%g, %x, %w, [8], [1], [0], [1], false, "
                    "[0], 2, [true, true, false]) : f32[1, 4, 10], f32[8, 2, 3], f32[8]\n}"), 2 * forward);
}

std::string Attention(bool sharded) {
  return fmt::format(R"g(graph @g {{
    input %q : f32[2, 4, 8, 16] user "q"
    input %k : f32[2, 2, 32, 16] user "k"
    input %v : f32[2, 2, 32, 10] user "v"
    %o, %l = autosp.attention(%q, %k, %v, values[], "diff(0, *)", 0.25, {0}, 32, [], false, 4, 0.0, 0) : f32[2, 4, 8, 10], f32[2, 4, 8]
    %a, %b, %c = autosp.attention_backward(%o, %q, %k, %v, values[], %o, %l, "diff(0, *)", 0.25, {0}, 32, [], false, 4, 0.0, 0) : f32[2, 4, 8, 16], f32[2, 2, 32, 16], f32[2, 2, 32, 10]
  }})g", sharded);
}

TEST(Flops, AttentionCountsAllowedPairsOfTheBusiestRank) {
  const double pairs = 36, busiest = 25 + 26 + 27 + 28 + 29 + 30 + 31 + 32;
  EXPECT_EQ(FlopsOf(Attention(false), 4), 3.5 * 2 * pairs * 8 * 26);
  EXPECT_EQ(FlopsOf(Attention(true), 4), 3.5 * 2 * busiest * 8 * 26);
}

TEST(Flops, ElementsAndReductions) {
  EXPECT_EQ(FlopsOf(R"(graph @g {
    input %x : f32[6, 7] user "x"
    %y = aten.exp.default(%x) : f32[6, 7]
    %s = aten.sum.dim_IntList(%y, [1], false, none) : f32[6]
  })"), 84);
}

int64_t Sent(std::string_view node, const Mesh& mesh) {
  const auto g = ir::Parse(fmt::format("graph @g {{\n input %x : f32[8, 12]{{12, 1}} user \"x\"\n {}\n}}", node));
  EXPECT_TRUE(g.ok()) << (g.ok() ? "" : g.error().Format());
  return BytesSent(*g, g->node(g->nodes().front()), mesh).value_or(-1);
}

TEST(Collectives, BytesSentByOneRank) {
  const int64_t n = 8 * 12 * 4;
  EXPECT_EQ(Sent("%y = autosp.all_reduce(%x, \"sum\") : f32[8, 12]", 4), 2 * 3 * n / 4);
  EXPECT_EQ(Sent("autosp.all_reduce_(%x, \"sum\")", 4), 2 * 3 * n / 4);
  EXPECT_EQ(Sent("%y = autosp.all_gather(%x, 0, 30, false) : f32[30, 12]", 4), 3 * n);
  EXPECT_EQ(Sent("%y = autosp.reduce_scatter(%x, 0, 2, false) : f32[2, 12]", 4), 3 * n / 4);
  EXPECT_EQ(Sent("%y = autosp.all_to_all(%x, 0, 32, 1, 3, false) : f32[32, 3]", 4), 3 * n / 4);
  EXPECT_EQ(Sent("%y = autosp.all_to_all(%x, 0, 32, 1, 5, false) : f32[32, 5]", 3), 2 * 8 * 5 * 4) << "padding included";
  EXPECT_EQ(Sent("%y = autosp.pad_last(%x, 0, 20) : f32[8, 12]", 4), 3 * 12 * 4);
  EXPECT_EQ(Sent("%y = autosp.pad_last(%x, 0, 30) : f32[8, 12]", 4), -1) << "the last rank owns the last row";
  EXPECT_EQ(Sent("%y = autosp.all_reduce(%x, \"sum\") : f32[8, 12]", 1), -1);
  EXPECT_EQ(Sent("autosp.all_reduce_coalesced_([%x, %x], \"sum\")", 4), 2 * 3 * (2 * n) / 4);
  EXPECT_EQ(Sent("%y, %z = autosp.reduce_scatter_coalesced([%x, %x]) : f32[20], f32[20]", 5), 4 * 2 * 20 * 4) << "padding included";
  EXPECT_EQ(Sent("autosp.all_gather_coalesced_([%x, %x])", 5), 4 * 2 * 20 * 4);
  EXPECT_EQ(Sent("autosp.all_gather_coalesced_([%x])", 1), -1);
  EXPECT_EQ(Sent("%y = aten.exp.default(%x) : f32[8, 12]", 4), -1);
}

TEST(Collectives, BytesOnAMeshAreThoseOfTheGroup) {
  const int64_t n = 8 * 12 * 4;
  const Mesh mesh(3, 2);
  EXPECT_EQ(Sent("%y = autosp.all_reduce(%x, \"sum\") : f32[8, 12]", mesh), 2 * 2 * n / 3);
  EXPECT_EQ(Sent("%y = autosp.all_reduce(%x, \"sum\", \"dp\") : f32[8, 12]", mesh), 2 * 1 * n / 2);
  EXPECT_EQ(Sent("autosp.all_reduce_(%x, \"sum\", \"world\")", mesh), 2 * 5 * n / 6);
  EXPECT_EQ(Sent("%y = autosp.all_gather(%x, 0, 15, false, \"dp\") : f32[15, 12]", mesh), n);
  EXPECT_EQ(Sent("%y = autosp.all_gather(%x, 0, 15, false, \"dp\") : f32[15, 12]", Mesh(3)), -1) << "one rank";
}

}  // namespace
}  // namespace autospc::codegen
