// The attention kernels against attention by its definition, in float64, with gradients by the chain rule through
// whole score matrices.
#include "runtime/exec/attention.h"

#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <gtest/gtest.h>

#include "runtime/exec/philox.h"
#include "runtime/package/kernels.h"

namespace autospc::exec {
namespace {

using Kind = Predicate::Kind;

enum class Layout { kHeadsFirst, kSequenceFirst, kSpread };  // memory order BHSD, BSHD, BHSD with last stride 2

struct Case {
  int64_t batch = 1, heads = 2, kv_heads = 2;
  int64_t rows = 40, keys = 40;
  int64_t dim = 8, value_dim = 8;
  Predicate predicate = Predicate::Causal();
  int64_t q_start = 0, q_valid = 40;
  std::vector<int> kv_map;  // empty: grouped
  std::vector<int64_t> global_heads;
  int64_t all_heads = 2;
  double dropout = 0;
  Layout layout = Layout::kSequenceFirst;
  double spread = 1;  // of q and k: large ones make sharp softmaxes
};

template <typename T>
struct Tensor4 {
  Tensor4(std::array<int64_t, 4> sizes, Layout layout) : sizes(sizes) {
    const auto [b, h, s, d] = sizes;
    const int64_t last = layout == Layout::kSpread ? 2 : 1;
    strides = layout == Layout::kSequenceFirst ? std::array<int64_t, 4>{h * s * d, d, h * d, 1}
                                               : std::array<int64_t, 4>{h * s * d * last, s * d * last, d * last, last};
    // Never read where it isn't part of the tensor, never kept where it is to be written.
    data.assign(static_cast<size_t>(b * h * s * d * last), static_cast<T>(std::numeric_limits<float>::quiet_NaN()));
  }
  T& at(int64_t b, int64_t h, int64_t s, int64_t d) {
    return data[static_cast<size_t>(b * strides[0] + h * strides[1] + s * strides[2] + d * strides[3])];
  }
  double get(int64_t b, int64_t h, int64_t s, int64_t d) { return static_cast<double>(at(b, h, s, d)); }
  AttentionView view() { return {data.data(), sizes, strides}; }
  template <typename F>
  void Each(F f) {
    for (int64_t b = 0; b < sizes[0]; ++b)
      for (int64_t h = 0; h < sizes[1]; ++h)
        for (int64_t s = 0; s < sizes[2]; ++s)
          for (int64_t d = 0; d < sizes[3]; ++d) f(b, h, s, d, at(b, h, s, d));
  }

  std::array<int64_t, 4> sizes, strides;
  std::vector<T> data;
};

template <typename T>
using LseType = std::conditional_t<std::is_same_v<T, double>, double, float>;

constexpr uint64_t kSeed = 20240229;
constexpr int64_t kSite = 3;

// Operands and results of one case in type T, and the same by definition.
template <typename T>
class Trial {
 public:
  explicit Trial(const Case& c)
      : c(c),
        q({c.batch, c.heads, c.rows, c.dim}, c.layout),
        k({c.batch, c.kv_heads, c.keys, c.dim}, c.layout),
        v({c.batch, c.kv_heads, c.keys, c.value_dim}, c.layout),
        out({c.batch, c.heads, c.rows, c.value_dim}, Layout::kSequenceFirst),
        grad(out.sizes, c.layout),
        dq(q.sizes, Layout::kSequenceFirst),
        dk(k.sizes, Layout::kSequenceFirst),
        dv(v.sizes, Layout::kSequenceFirst),
        want_out(out.sizes, Layout::kHeadsFirst),
        want_dq(q.sizes, Layout::kHeadsFirst),
        want_dk(k.sizes, Layout::kHeadsFirst),
        want_dv(v.sizes, Layout::kHeadsFirst),
        lse(static_cast<size_t>(c.batch * c.heads * c.rows)),
        want_lse(lse.size()) {
    std::mt19937 random(11);
    std::normal_distribution<double> normal;
    const auto fill = [&](Tensor4<T>& t, double spread) {
      t.Each([&](int64_t, int64_t, int64_t, int64_t, T& x) { x = static_cast<T>(static_cast<float>(spread * normal(random))); });
    };
    fill(q, c.spread), fill(k, c.spread), fill(v, 1), fill(grad, 1);
    const int64_t positions = std::max(c.q_valid, c.keys);
    for (int64_t b = 0; b < c.batch; ++b) {
      for (int64_t i = 0; i < positions; ++i) {
        segments.push_back((i + 5 * b) / 17);
        padding.push_back(i < positions - 7 - 3 * b);
        bounds.push_back(static_cast<int64_t>(random() % static_cast<unsigned>(positions)));
      }
    }
    vectors = {{segments.data(), c10::ScalarType::Long, {c.batch, positions}, {positions, 1}},
               {padding.data(), c10::ScalarType::Bool, {c.batch, positions}, {positions, 1}},
               {bounds.data(), c10::ScalarType::Long, {1, positions}, {positions, 1}}};
    kv_map = c.kv_map;
    for (int64_t h = 0; c.kv_map.empty() && h < c.heads; ++h) kv_map.push_back(static_cast<int>(h * c.kv_heads / c.heads));
    Bind();
  }

  void Bind() {
    args.dtype = c10::CppTypeToScalarType<T>::value;
    args.q = q.view(), args.k = k.view(), args.v = v.view(), args.out = out.view();
    args.vectors = vectors;
    args.predicate = &c.predicate;
    args.scale = 1 / std::sqrt(static_cast<double>(c.dim));
    args.q_start = c.q_start, args.q_valid = c.q_valid;
    args.kv_heads = kv_map;
    args.global_heads = c.global_heads;
    args.heads = c.all_heads;
    args.dropout_p = c.dropout, args.seed = kSeed, args.site = kSite;
    args.lse = lse.data();
    args.grad_out = grad.view(), args.dq = dq.view(), args.dk = dk.view(), args.dv = dv.view();
    Workspace(kAttentionThreads);
  }

  // The planned workspace for so many threads, filled with NaN, and beyond it a guard.
  void Workspace(int threads) {
    const AttentionArgs& forward = args;
    forward_bytes = static_cast<size_t>(AttentionWorkspace(ShapeOf(forward), threads));
    backward_bytes = static_cast<size_t>(AttentionBackwardWorkspace(ShapeOf(args), threads));
    memory.assign(std::max(forward_bytes, backward_bytes) + 128, std::byte{0xFF});
    const auto address = (reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64;
    workspace = reinterpret_cast<std::byte*>(address);
  }

  void Run() {
    args.workspace = {workspace, forward_bytes};
    const Status forward = CheckAttention(args);
    ASSERT_TRUE(forward.ok()) << forward.error().Format();
    AttentionForward(args);
    EXPECT_EQ(workspace[forward_bytes], std::byte{0xFF});
    std::fill(memory.begin(), memory.end(), std::byte{0xFF});
    args.workspace = {workspace, backward_bytes};
    const Status backward = CheckAttentionBackward(args);
    ASSERT_TRUE(backward.ok()) << backward.error().Format();
    AttentionBackward(args);
    EXPECT_EQ(workspace[backward_bytes], std::byte{0xFF});
  }

  int64_t Position(int64_t row) const { return std::min(c.q_start + row, c.q_valid - 1); }

  void Define() {
    for (Tensor4<double>* t : {&want_out, &want_dq, &want_dk, &want_dv}) std::fill(t->data.begin(), t->data.end(), 0.0);
    for (int64_t b = 0; b < c.batch; ++b) {
      for (int64_t h = 0; h < c.heads; ++h) {
        for (int64_t i = 0; i < c.rows; ++i) DefineRow(b, h, i);
      }
    }
  }

  void DefineRow(int64_t b, int64_t h, int64_t i) {
    const int64_t g = kv_map[static_cast<size_t>(h)], position = Position(i);
    const int64_t global = c.global_heads.empty() ? h : c.global_heads[static_cast<size_t>(h)];
    const VectorAt at = [&](int index, int64_t p) -> int64_t {
      const int64_t place = (index == 2 ? 0 : b) * vectors[0].sizes[1] + p;
      return index == 0 ? segments[static_cast<size_t>(place)]
             : index == 1 ? padding[static_cast<size_t>(place)]
                          : bounds[static_cast<size_t>(place)];
    };
    std::vector<double> s(static_cast<size_t>(c.keys)), keep(s.size(), 1), dp(s.size());
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t j = 0; j < c.keys; ++j) {
      double dot = 0;
      for (int64_t d = 0; d < c.dim; ++d) dot += q.get(b, h, i, d) * k.get(b, g, j, d);
      const bool allowed = Holds(c.predicate, position, j, at);
      s[static_cast<size_t>(j)] = allowed ? dot * args.scale : -std::numeric_limits<double>::infinity();
      top = std::max(top, s[static_cast<size_t>(j)]);
      const int64_t element = ((b * c.all_heads + global) * c.q_valid + position) * c.keys + j;
      if (c.dropout > 0) {
        keep[static_cast<size_t>(j)] = Uniform(kSeed, kSite, element) >= static_cast<float>(c.dropout) ? 1 / (1 - c.dropout) : 0;
      }
    }
    double& log_sum = want_lse[static_cast<size_t>((b * c.heads + h) * c.rows + i)];
    log_sum = top;
    if (std::isinf(top)) return;
    for (double& x : s) sum += x = std::exp(x - top);
    for (double& x : s) x /= sum;
    log_sum = top + std::log(sum);
    double mean = 0;
    for (int64_t j = 0; j < c.keys; ++j) {
      const size_t n = static_cast<size_t>(j);
      for (int64_t d = 0; d < c.value_dim; ++d) {
        want_out.at(b, h, i, d) += s[n] * keep[n] * v.get(b, g, j, d);
        want_dv.at(b, g, j, d) += s[n] * keep[n] * grad.get(b, h, i, d);
        dp[n] += keep[n] * grad.get(b, h, i, d) * v.get(b, g, j, d);
      }
      mean += dp[n] * s[n];
    }
    for (int64_t j = 0; j < c.keys; ++j) {
      const double ds = s[static_cast<size_t>(j)] * (dp[static_cast<size_t>(j)] - mean) * args.scale;
      for (int64_t d = 0; d < c.dim; ++d) {
        want_dq.at(b, h, i, d) += ds * k.get(b, g, j, d);
        want_dk.at(b, g, j, d) += ds * q.get(b, h, i, d);
      }
    }
  }

  // Norm of the difference over the norm of what is wanted; infinity for a NaN.
  static double Difference(Tensor4<T>& got, Tensor4<double>& want) {
    double difference = 0, norm = 0;
    got.Each([&](int64_t b, int64_t h, int64_t s, int64_t d, T& x) {
      const double w = want.at(b, h, s, d);
      difference += (static_cast<double>(x) - w) * (static_cast<double>(x) - w);
      norm += w * w;
    });
    if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
    return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
  }

  void Compare(double out_tolerance, double gradient_tolerance, double lse_tolerance) {
    EXPECT_LE(Difference(out, want_out), out_tolerance);
    EXPECT_LE(Difference(dq, want_dq), gradient_tolerance);
    EXPECT_LE(Difference(dk, want_dk), gradient_tolerance);
    EXPECT_LE(Difference(dv, want_dv), gradient_tolerance);
    for (size_t i = 0; i < lse.size(); ++i) {
      if (std::isinf(want_lse[i])) {
        EXPECT_EQ(static_cast<double>(lse[i]), want_lse[i]) << "row " << i;
      } else {
        EXPECT_NEAR(lse[i], want_lse[i], lse_tolerance * std::max(1.0, std::abs(want_lse[i]))) << "row " << i;
      }
    }
  }

  Case c;
  Tensor4<T> q, k, v, out, grad, dq, dk, dv;
  Tensor4<double> want_out, want_dq, want_dk, want_dv;
  std::vector<LseType<T>> lse;
  std::vector<double> want_lse;
  std::vector<int64_t> segments, bounds;
  std::vector<uint8_t> padding;
  std::vector<AttentionVector> vectors;
  std::vector<int> kv_map;
  AttentionBackwardArgs args;
  std::vector<std::byte> memory;
  std::byte* workspace = nullptr;
  size_t forward_bytes = 0, backward_bytes = 0;
};

// float64: sums of some hundred terms of rounding 1e-16. float32: likewise with 6e-8, and exp within 2 ulp.
// bfloat16 and float16: results are rounded to 8 and 11 bits, so that is their relative error; the backward pass
// reads the rounded output, whose error enters each score's gradient.
template <typename T>
void ExpectRight(const Case& c) {
  Trial<T> trial(c);
  trial.Run();
  trial.Define();
  if constexpr (std::is_same_v<T, double>) {
    trial.Compare(1e-14, 1e-13, 1e-14);
  } else if constexpr (std::is_same_v<T, float>) {
    trial.Compare(2e-6, 4e-6, 1e-6);
  } else if constexpr (std::is_same_v<T, c10::BFloat16>) {
    trial.Compare(4e-3, 1e-2, 1e-5);
  } else {
    trial.Compare(5e-4, 2e-3, 1e-5);
  }
}

void ExpectRightInBoth(const Case& c) {
  SCOPED_TRACE(c.predicate.ToString());
  ExpectRight<float>(c);
  ExpectRight<double>(c);
}

std::vector<Predicate> Predicates() {
  const auto atom = [](Kind kind, int64_t lo = Predicate::kMin, int64_t hi = Predicate::kMax, int vector = -1) {
    return Predicate::Make(kind, lo, hi, vector);
  };
  const Predicate causal = Predicate::Causal(), window = atom(Kind::kDiff, 0, 20), key = atom(Kind::kKey, 0, 0, 1);
  return {Predicate::True(),
          causal,
          window,
          atom(Kind::kDiff, -30, 30),
          atom(Kind::kSameChunk, 70),
          Predicate::Or({causal, atom(Kind::kK, Predicate::kMin, 99)}),
          Predicate::And({causal, key}),
          Predicate::And({causal, atom(Kind::kSame, 0, 0, 0)}),
          atom(Kind::kSame, 0, 0, 0),
          Predicate::And({atom(Kind::kQuery, 0, 0, 1), key}),
          atom(Kind::kKeyCmp, -40, 15, 2),
          atom(Kind::kQueryCmp, Predicate::kMin, 60, 2),
          atom(Kind::kQ, 5, 600),
          Predicate::Not(atom(Kind::kDiff, -25, 4)),
          Predicate::Not(Predicate::And({atom(Kind::kSameChunk, 64), key})),
          Predicate::Or({Predicate::And({window, key}), atom(Kind::kK, 7, 9), atom(Kind::kSame, 0, 0, 0)})};
}

TEST(Attention, EveryPredicateOnOneTile) {
  for (const Predicate& p : Predicates()) {
    Case c;
    c.predicate = p;
    c.batch = 2;
    ExpectRightInBoth(c);
  }
}

TEST(Attention, EveryPredicateOverManyTiles) {
  // 3 x 3 tiles, the last of each row and column not full.
  for (const Predicate& p : Predicates()) {
    Case c;
    c.predicate = p;
    c.heads = c.all_heads = c.kv_heads = 1;
    c.rows = c.q_valid = 2 * kAttentionQueryTile + 33;
    c.keys = 2 * kAttentionKeyTile + 19;
    c.dim = c.value_dim = 4;
    ExpectRightInBoth(c);
  }
}

TEST(Attention, LengthsAroundTheTiles) {
  for (const int64_t length : {int64_t{1}, int64_t{2}, int64_t{15}, int64_t{17}, kAttentionQueryTile - 1,
                               kAttentionQueryTile, kAttentionQueryTile + 1, kAttentionKeyTile, kAttentionKeyTile + 1}) {
    Case c;
    c.heads = c.all_heads = c.kv_heads = 1;
    c.dim = 3, c.value_dim = 5;
    c.rows = c.q_valid = c.keys = length;
    ExpectRightInBoth(c);
    c.predicate = Predicate::True();
    ExpectRightInBoth(c);
  }
}

TEST(Attention, ValuesOfAnotherDimAndUnequalLengths) {
  for (const auto& [rows, keys, dim, value_dim] : std::vector<std::array<int64_t, 4>>{
           {7, 300, 16, 33}, {300, 7, 17, 4}, {33, 65, 1, 64}, {65, 33, 64, 1}}) {
    Case c;
    c.rows = rows, c.q_valid = std::max(rows, keys), c.keys = keys, c.dim = dim, c.value_dim = value_dim;
    c.predicate = Predicate::Make(Kind::kDiff, -40, 12);
    ExpectRightInBoth(c);
  }
}

TEST(Attention, GroupedHeadsAreReadInPlace) {
  Case c;
  c.batch = 2, c.heads = 6, c.kv_heads = 2, c.all_heads = 6;
  ExpectRightInBoth(c);
  // 9 query and 3 kv heads on two ranks: rank 1 has query heads 5 … 9 (one padded), and kv heads 1, 2.
  c.heads = 5, c.kv_heads = 2, c.all_heads = 9;
  c.kv_map = {0, 1, 1, 1, 1};
  c.global_heads = {5, 6, 7, 8, 8};
  ExpectRightInBoth(c);
  // A kv head that nobody reads has no gradient.
  c.heads = 2, c.kv_heads = 3;
  c.kv_map = {2, 0};
  c.global_heads = {3, 4};
  ExpectRightInBoth(c);
}

TEST(Attention, ShardedQueriesAndPaddingRows) {
  Case c;
  c.rows = 30, c.keys = c.q_valid = 100;
  for (const Predicate& p : Predicates()) {
    c.predicate = p;
    c.q_start = 60;  // a shard amid the sequence
    ExpectRightInBoth(c);
    c.q_start = 90;  // the last 20 rows are padding: they repeat position 99
    ExpectRightInBoth(c);
    c.q_start = 120;  // nothing but padding
    ExpectRightInBoth(c);
  }
}

TEST(Attention, RowsWithoutAnyKeyGiveZeroAndNoNaN) {
  Case c;
  c.rows = c.q_valid = 300, c.keys = 20;
  c.dropout = 0.2;
  for (const Predicate& p : {Predicate::False(), Predicate::Make(Kind::kDiff, 5, 15), Predicate::Make(Kind::kDiff, 270, 290),
                             Predicate::Make(Kind::kQuery, 0, 0, 1)}) {
    c.predicate = p;
    ExpectRightInBoth(c);
  }
  // What an empty row gives is exact.
  c.predicate = Predicate::False();
  Trial<float> trial(c);
  trial.Run();
  for (Tensor4<float>* t : {&trial.out, &trial.dq, &trial.dk, &trial.dv}) {
    t->Each([](int64_t, int64_t, int64_t, int64_t, float& x) { EXPECT_EQ(x, 0.0f); });
  }
  for (const float x : trial.lse) EXPECT_EQ(x, -std::numeric_limits<float>::infinity());
}

TEST(Attention, LayoutsOfOperands) {
  for (const Layout layout : {Layout::kHeadsFirst, Layout::kSequenceFirst, Layout::kSpread}) {
    Case c;
    c.batch = 2, c.heads = c.all_heads = 4, c.layout = layout;
    c.rows = c.q_valid = 270, c.keys = 530;
    ExpectRightInBoth(c);
    ExpectRight<c10::BFloat16>(c);
  }
}

TEST(Attention, KeysExpandedOverTheSequence) {
  // A row stride of 0, as `expand` makes it, is no matrix for BLAS.
  Case c;
  Trial<float> trial(c);
  trial.k.strides[2] = 0;
  trial.Bind();
  trial.Run();
  trial.Define();
  EXPECT_LE(trial.Difference(trial.out, trial.want_out), 2e-6);
  EXPECT_LE(trial.Difference(trial.dk, trial.want_dk), 4e-6);
  EXPECT_LE(trial.Difference(trial.dv, trial.want_dv), 4e-6);
  // With equal keys a query changes nothing.
  trial.dq.Each([](int64_t, int64_t, int64_t, int64_t, float& x) { EXPECT_NEAR(x, 0, 1e-5); });
}

TEST(Attention, SixteenBitTypes) {
  for (const Predicate& p : {Predicate::Causal(), Predicate::Make(Kind::kDiff, 0, 30)}) {
    Case c;
    c.predicate = p;
    c.heads = c.all_heads = 4, c.dim = 32, c.value_dim = 16;
    c.rows = c.q_valid = 300, c.keys = 600;
    ExpectRight<c10::BFloat16>(c);
    ExpectRight<c10::Half>(c);
    c.dropout = 0.3;
    ExpectRight<c10::Half>(c);
  }
}

TEST(Attention, SharpSoftmaxes) {
  // Scores of some hundreds: all but one probability of a row vanish, and maxima jump from tile to tile.
  Case c;
  c.spread = 12;
  c.heads = c.all_heads = c.kv_heads = 1;
  c.rows = c.q_valid = c.keys = 2 * kAttentionKeyTile + 5;
  ExpectRight<double>(c);
  // In float32 a score of 400 is known to 3e-5, and so are the probabilities.
  Trial<float> trial(c);
  trial.Run();
  trial.Define();
  trial.Compare(1e-4, 2e-4, 1e-6);
}

TEST(Attention, DropoutIsKeyedByGlobalElements) {
  Case c;
  c.batch = 2, c.heads = 4, c.kv_heads = 2, c.all_heads = 8;
  c.global_heads = {4, 5, 6, 7};
  c.rows = 30, c.keys = c.q_valid = 601, c.q_start = 575;
  c.dropout = 0.4;
  ExpectRightInBoth(c);
  c.dropout = 0.95;
  ExpectRightInBoth(c);
}

TEST(Attention, TheSameBitsForEveryNumberOfThreads) {
  // Three kv heads: on two threads the backward pass walks twice, on one it walks once.
  for (const bool spread : {false, true}) {
    Case c;
    c.heads = c.all_heads = 6, c.kv_heads = 3;
    c.rows = c.q_valid = 700, c.keys = 1100, c.dropout = 0.1;
    c.layout = spread ? Layout::kSpread : Layout::kSequenceFirst;
    std::unique_ptr<Trial<float>> first;
    const int before = at::get_num_threads();
    for (const int threads : {1, 2, 3, 4}) {
      at::set_num_threads(threads);
      auto trial = std::make_unique<Trial<float>>(c);
      trial->Workspace(threads == 4 ? 1 : threads);  // with room for one, four threads run as one
      trial->Run();
      if (!first) {
        first = std::move(trial);
        continue;
      }
      EXPECT_EQ(trial->lse, first->lse);
      EXPECT_EQ(trial->out.data, first->out.data);
      EXPECT_EQ(trial->dq.data, first->dq.data) << threads;
      EXPECT_EQ(trial->dk.data, first->dk.data) << threads;
      EXPECT_EQ(trial->dv.data, first->dv.data) << threads;
    }
    at::set_num_threads(before);
  }
}

TEST(Attention, ExcludedBlocksAreNeverRead) {
  // NaN keys and values beyond a window: a block that is computed and masked would spread them.
  Case c;
  c.heads = c.all_heads = c.kv_heads = 1;
  c.rows = c.q_valid = kAttentionQueryTile, c.keys = 3 * kAttentionKeyTile;
  c.predicate = Predicate::Make(Kind::kK, kAttentionKeyTile, 2 * kAttentionKeyTile - 1);
  Trial<float> trial(c), clean(c);
  for (auto* t : {&trial.k, &trial.v}) {
    t->Each([&](int64_t, int64_t, int64_t key, int64_t, float& x) {
      if (key < kAttentionKeyTile || key >= 2 * kAttentionKeyTile) x = std::numeric_limits<float>::quiet_NaN();
    });
  }
  trial.Run();
  clean.Run();
  EXPECT_EQ(trial.out.data, clean.out.data);
  EXPECT_EQ(trial.dq.data, clean.dq.data);
  EXPECT_EQ(trial.dv.data, clean.dv.data);
}

TEST(Attention, GradientsThatNobodyWantsAreLeftOut) {
  for (int unwanted = 1; unwanted < 8; ++unwanted) {
    Case c;
    c.kv_heads = 1;
    c.dropout = 0.1;
    Trial<float> trial(c), whole(c);
    AttentionView* views[] = {&trial.args.dq, &trial.args.dk, &trial.args.dv};
    std::vector<float>* got[] = {&trial.dq.data, &trial.dk.data, &trial.dv.data};
    std::vector<float>* want[] = {&whole.dq.data, &whole.dk.data, &whole.dv.data};
    for (int i = 0; i < 3; ++i) {
      if (unwanted >> i & 1) views[i]->data = nullptr;
    }
    trial.Run();
    whole.Run();
    for (int i = 0; i < 3; ++i) {
      if (unwanted >> i & 1) {
        EXPECT_TRUE(std::isnan(got[i]->front())) << i;
      } else {
        EXPECT_EQ(*got[i], *want[i]) << i;
      }
    }
  }
}

TEST(Attention, ThePlanAgreesWithTheKernel) {
  // The formula from an instruction's operands, as the compiler sees them, and from the kernel's arguments.
  for (const Layout layout : {Layout::kSequenceFirst, Layout::kSpread}) {
    Case c;
    c.heads = 6, c.kv_heads = 3, c.rows = 700, c.keys = 1100, c.value_dim = 12, c.layout = layout;
    Trial<float> trial(c);
    const auto meta = [](const AttentionView& v) {
      return TensorMeta{program::DType::Float32, {v.sizes.begin(), v.sizes.end()}, {v.strides.begin(), v.strides.end()}};
    };
    const AttentionBackwardArgs& a = trial.args;
    const TensorMeta lse{program::DType::Float32, {1, 6, 700}, {4200, 700, 1}};
    const TensorMeta vector{program::DType::Int64, {1, 1100}, {1100, 1}};
    EXPECT_EQ(KernelWorkspace("autosp.attention", {meta(a.q), meta(a.k), meta(a.v), vector}, {meta(a.out), lse}, 2, false),
              static_cast<int64_t>(trial.forward_bytes));
    EXPECT_EQ(KernelWorkspace("autosp.attention_backward",
                              {meta(a.grad_out), meta(a.q), meta(a.k), meta(a.v), vector, meta(a.out), lse},
                              {meta(a.dq), meta(a.dk), meta(a.dv)}, 2, false),
              static_cast<int64_t>(trial.backward_bytes));
    EXPECT_LE(AttentionBackwardSliceBytes(ShapeOf(trial.args)), 4 << 20);
  }
}

TEST(Attention, ArgumentsThatDoNotFitAreRefused) {
  const auto refused = [](auto change, const std::string& why) {
    Case c;
    Trial<float> trial(c);
    trial.args.workspace = {trial.workspace, trial.backward_bytes};
    change(trial);
    const Status status = CheckAttentionBackward(trial.args);
    ASSERT_FALSE(status.ok()) << why;
    EXPECT_EQ(status.error().code, Code::kBadInput);
    EXPECT_NE(status.error().what.find(why), std::string::npos) << status.error().what;
  };
  using F = Trial<float>;
  const Predicate vector9 = Predicate::Make(Kind::kKey, 0, 0, 9), chunk0 = Predicate::Make(Kind::kSameChunk, 0);
  const Predicate empty_not = Predicate::Make(Kind::kNot), segment = Predicate::Make(Kind::kSame, 0, 0, 0);
  std::vector<AttentionVector> many(17);
  refused([](F& t) { t.args.dtype = c10::ScalarType::Int; }, "no kernel for Int");
  refused([](F& t) { t.args.k.sizes[3] = 9; }, "k is [1, 2, 40, 9], not [1, 2, 40, 8]");
  refused([](F& t) { t.args.v.sizes[2] = 41; }, "v is");
  refused([](F& t) { t.args.out.sizes[3] = 41; }, "out is");
  refused([](F& t) { t.args.q.sizes[2] = 0; }, "an empty operand");
  refused([](F& t) { t.args.q.data = nullptr; }, "q has no memory");
  refused([](F& t) { t.args.lse = nullptr; }, "the log-sum-exp has no memory");
  refused([](F& t) { t.args.q_valid = 0; }, "queries from 0 on of 0");
  refused([](F& t) { t.args.kv_heads = t.args.kv_heads.first(1); }, "1 kv heads are named for 2 query heads");
  refused([](F& t) { t.kv_map[1] = 2; }, "kv head 2 of 2");
  refused([](F& t) { t.args.dropout_p = 1; }, "dropout of 1");
  refused([](F& t) { t.c.global_heads = {1}, t.args.global_heads = t.c.global_heads; }, "1 global heads");
  refused([&](F& t) { t.args.vectors = many; }, "17 vectors, more than 16");
  refused([](F& t) { t.vectors[0].dtype = c10::ScalarType::Float; }, "vector 0 is Float, neither int64 nor bool");
  refused([](F& t) { t.vectors[1].sizes[0] = 3; }, "vector 1 has 3 batch rows of 1");
  refused([](F& t) { t.args.predicate = nullptr; }, "no predicate");
  refused([&](F& t) { t.args.predicate = &vector9; }, "the predicate reads vector 9 of 3");
  refused([&](F& t) { t.args.predicate = &segment, t.vectors[0].sizes[1] = 39; }, "vector 0 has 39 positions of 40");
  refused([&](F& t) { t.args.predicate = &chunk0; }, "chunks of no position");
  refused([&](F& t) { t.args.predicate = &empty_not; }, "a malformed predicate");
  refused([](F& t) { t.args.workspace = t.args.workspace.first(64); }, "a workspace of 64 bytes");
  refused([](F& t) { t.args.workspace = {t.workspace + 1, t.backward_bytes}; }, "not aligned");
  refused([](F& t) { t.args.grad_out.sizes[0] = 2; }, "grad_out is");
  refused([](F& t) { t.args.dq.sizes[0] = 2; }, "dq is");
  refused([](F& t) { t.args.dk.sizes[0] = 2; }, "dk is");
  refused([](F& t) { t.args.dv.sizes[0] = 2; }, "dv is");
}

TEST(Philox, KnownAnswers) {
  // From Random123's kat_vectors: philox4x32, 10 rounds.
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformNumbersDependOnSeedSiteAndElement) {
  EXPECT_NE(Uniform(1, 0, 5), Uniform(2, 0, 5));
  EXPECT_NE(Uniform(1, 0, 5), Uniform(1, 1, 5));
  EXPECT_NE(Uniform(1, 0, 5), Uniform(1, 0, 6));
  EXPECT_NE(Uniform(1, 0, 5), Uniform(1, 0, 5 + (int64_t{1} << 34)));
  double sum = 0;
  for (int64_t i = 0; i < 10000; ++i) {
    const float u = Uniform(9, 9, i);
    ASSERT_TRUE(u >= 0 && u < 1);
    sum += u;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.015);  // five standard deviations of the mean
}

}  // namespace
}  // namespace autospc::exec
