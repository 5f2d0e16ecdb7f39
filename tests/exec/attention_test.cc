// The attention kernels against attention by its definition (attention_trial.h).
#include "tests/exec/attention_trial.h"

#include <memory>
#include <string>

#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "runtime/exec/attention_call.h"
#include "runtime/package/kernels.h"

namespace autospc::exec {
namespace {

using Kind = Predicate::Kind;

at::Tensor TensorOf(const AttentionView& view, c10::ScalarType type) {
  return at::from_blob(view.data, view.sizes, view.strides, at::TensorOptions().dtype(type));
}

// The trial's attention by the portable kernels, in such tiles, into the same results.
template <typename T>
void RunPortable(Trial<T>* trial, PortableTile tile) {
  const AttentionBackwardArgs& a = trial->args;
  AttentionCall attention;
  attention.predicate = trial->c.predicate;
  attention.vectors = trial->vectors;
  attention.kv_heads = trial->kv_map;
  attention.global_heads = trial->c.global_heads;
  for (int64_t h = 0; trial->c.global_heads.empty() && h < trial->c.heads; ++h) attention.global_heads.push_back(h);
  attention.args = a;
  Context context;
  context.kernels = KernelSet::kPortable;
  context.seed = kSeed;
  program::ArgT arg;
  const auto tensor = [&](const AttentionView& view) { return CallArg{&arg, TensorOf(view, a.dtype), {}}; };
  CallArg vectors{&arg, {}, {}};
  for (const AttentionVector& v : trial->vectors) {
    vectors.tensors.push_back(at::from_blob(const_cast<void*>(v.data), v.sizes, v.strides, at::TensorOptions().dtype(v.dtype)));
  }
  const at::Tensor lse = at::from_blob(trial->lse.data(), {a.q.sizes[0], a.q.sizes[1], a.q.sizes[2]},
                                       at::TensorOptions().dtype(a.dtype == at::kDouble ? at::kDouble : at::kFloat));
  std::vector<std::byte> memory(static_cast<size_t>(PortableAttentionBytes(ShapeOf(a), tile, true)) + 64, std::byte{0xFF});
  const auto address = (reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64;
  const Call forward{.context = &context,
                     .args = {tensor(a.q), tensor(a.k), tensor(a.v), vectors},
                     .outputs = {TensorOf(a.out, a.dtype), lse},
                     .workspace = {reinterpret_cast<std::byte*>(address), memory.size() - 64}};
  for (const at::Tensor& result : forward.outputs) result.fill_(NAN);
  PortableAttentionForward(forward, attention, tile, trial->c.dropout);
  std::fill(memory.begin(), memory.end(), std::byte{0xFF});
  const Call backward{.context = &context,
                      .args = {tensor(a.grad_out), tensor(a.q), tensor(a.k), tensor(a.v), vectors, tensor(a.out), {&arg, lse, {}}},
                      .outputs = {TensorOf(a.dq, a.dtype), TensorOf(a.dk, a.dtype), TensorOf(a.dv, a.dtype)},
                      .workspace = forward.workspace};
  for (const at::Tensor& result : backward.outputs) result.fill_(NAN);
  PortableAttentionBackward(backward, attention, tile);
}

template <typename T>
void CompareTrial(Trial<T>* trial, double slack = 1) {
  if constexpr (std::is_same_v<T, double>) {
    trial->Compare(slack * 1e-14, slack * 1e-13, slack * 1e-14);
  } else if constexpr (std::is_same_v<T, float>) {
    trial->Compare(slack * 2e-6, slack * 4e-6, slack * 1e-6);
  } else if constexpr (std::is_same_v<T, c10::BFloat16>) {
    trial->Compare(4e-3, 1e-2, 1e-5);
  } else {
    trial->Compare(5e-4, 2e-3, 1e-5);
  }
}

// float64: sums of some hundred terms of rounding 1e-16. float32: likewise with 6e-8, and exp within 2 ulp.
// bfloat16 and float16: results are rounded to 8 and 11 bits, so that is their relative error; the backward pass
// reads the rounded output, whose error enters each score's gradient.
template <typename T>
void ExpectRight(const Case& c) {
  Trial<T> trial(c);
  trial.Run();
  trial.Define();
  CompareTrial(&trial);
  for (const PortableTile tile : {PlannedPortableTile(ShapeOf(trial.args)), PortableTile{57, 130}}) {
    SCOPED_TRACE(fmt::format("the portable kernels, in tiles of {} x {}", tile.rows, tile.keys));
    RunPortable(&trial, {std::min(tile.rows, c.rows), std::min(tile.keys, c.keys)});
    CompareTrial(&trial, 3);  // longer sums: tiles are larger, or results are added up from more of them
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

}  // namespace
}  // namespace autospc::exec
