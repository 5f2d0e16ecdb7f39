// Random mask subgraphs: where one is read as a predicate, predicate and LibTorch agree on every entry; and those
// that are predicates are read as such.
#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <random>

#include "passes/canonical/interpret.h"
#include "passes/canonical/register.h"
#include "tests/canonical/evaluate.h"

namespace autospc::testing {
namespace {

using canonical::Case;
using canonical::Constants;
using canonical::Interpreter;

constexpr int64_t kBatch = 2;

// Draws a mask subgraph. `expressible` says whether the language of predicates has it.
class MaskMaker {
 public:
  MaskMaker(Builder& b, std::mt19937& rng, int64_t q_size, int64_t k_size)
      : b_(b), rng_(rng), q_size_(q_size), k_size_(k_size) {}

  bool expressible = true;

  int Draw(int lo, int hi) { return std::uniform_int_distribution<int>(lo, hi)(rng_); }
  ValueId Op(const std::string& op, std::vector<Arg> args) { return b_.Op(op, std::move(args)); }
  // x op y, or y swapped-op x.
  ValueId Commuted(const std::string& op, const std::string& swapped, ValueId x, ValueId y) {
    return Draw(0, 1) ? Op(op, {V(x), V(y)}) : Op(swapped, {V(y), V(x)});
  }

  // Indices as [1, 1, Sq, 1] and [1, 1, 1, Sk], made in several ways.
  ValueId Indices(bool query) {
    const int64_t n = query ? q_size_ : k_size_;
    ValueId v;
    switch (Draw(0, 5)) {
      case 0:
        v = Op("aten.arange.start", {I(0), I(n)});
        break;
      case 1:
        v = Op("aten.sub.Tensor", {V(Op("aten.arange.start_step", {I(3), I(3 + 2 * n), I(2)})), I(3)});
        v = Op("aten.floor_divide.default", {V(v), I(2)});
        break;
      case 2:
        v = Op("aten.sub.Tensor",
               {V(Op("aten.cumsum.default", {V(Op("aten.ones.default", {Is({n}), Arg::Type(DType::kInt64)})), I(0)})),
                I(1)});
        break;
      case 3:
        v = Op("aten.slice.Tensor", {V(Constant("positions", Range(n + 7))), I(0), Arg::None(), I(n)});
        break;
      default:
        v = Op("aten.add.Tensor", {V(Op("aten.arange.default", {I(n)})), I(0)});
        break;
    }
    const std::vector<int64_t> shape = query ? std::vector<int64_t>{1, 1, n, 1} : std::vector<int64_t>{1, 1, 1, n};
    switch (Draw(0, 2)) {
      case 0:
        return Op("aten.view.default", {V(v), Is(shape)});
      case 1:
        for (int i = 0; i < 2; ++i) v = Op("aten.unsqueeze.default", {V(v), I(0)});
        return Op("aten.unsqueeze.default", {V(v), I(query ? 3 : 2)});
      default:
        v = Op("aten.expand.default", {V(v), Is({1, 1, query ? k_size_ : q_size_, n})});
        return query ? Op("aten.transpose.int", {V(v), I(2), I(3)}) : v;
    }
  }

  Tensor Range(int64_t n) {
    std::vector<int64_t> data(n);
    for (int64_t i = 0; i < n; ++i) data[i] = i;
    return Integers({n}, data);
  }
  ValueId Constant(const char* name, const Tensor& data) {
    return b_.Buffer(name + std::to_string(b_.graph.inputs.size()), data);
  }

  // One buffer of the file, sliced to the sizes, that holds f(q, k).
  ValueId FromBuffer(const std::function<bool(int64_t, int64_t)>& f) {
    const int64_t n = std::max(q_size_, k_size_) + Draw(0, 5);
    const DType dtype = std::vector<DType>{DType::kBool, DType::kUInt8, DType::kFloat32, DType::kInt64}[Draw(0, 3)];
    const bool negated = Draw(0, 1);
    std::vector<int64_t> data(n * n);
    for (int64_t i = 0; i < n * n; ++i) data[i] = f(i / n, i % n) != negated;
    const bool wide = Draw(0, 1);
    ValueId v =
        Constant("buffer", Integers(wide ? std::vector<int64_t>{1, 1, n, n} : std::vector<int64_t>{n, n}, data, dtype));
    v = Op("aten.slice.Tensor", {V(v), I(-2), I(0), I(q_size_)});
    v = Op("aten.slice.Tensor", {V(v), I(-1), Arg::None(), I(k_size_)});
    if (dtype != DType::kBool)
      v = Draw(0, 1) ? Op("aten.ne.Scalar", {V(v), I(0)}) : Op("aten.gt.Scalar", {V(v), Arg::Float(0.5)});
    return negated ? Op("aten.logical_not.default", {V(v)}) : v;
  }

  // A [B, S] value at the query or key position, as [B, 1, S, 1] or [B, 1, 1, S].
  ValueId Placed(ValueId vector, bool query) {
    vector = Op("aten.unsqueeze.default", {V(vector), I(1)});
    return Op("aten.unsqueeze.default", {V(vector), I(query ? 3 : 1)});
  }
  ValueId Looked(ValueId vector, bool query) {
    if (Draw(0, 1)) return Placed(vector, query);
    // Hugging Face's: vector[batch_index, position_index].
    ValueId batch = Op("aten.arange.default", {I(kBatch)});
    for (int i = 1; i < 4; ++i) batch = Op("aten.unsqueeze.default", {V(batch), I(i)});
    return Op("aten.index.Tensor", {V(vector), Arg::Values({batch, Indices(query)})});
  }
  std::vector<int64_t> Ids(int64_t n, int top) {
    std::vector<int64_t> ids(kBatch * n);
    for (int64_t& x : ids) x = Draw(0, top);
    return ids;
  }

  ValueId Atom() {
    const int w = Draw(1, static_cast<int>(q_size_));
    const auto q = [&] { return Indices(true); };
    const auto k = [&] { return Indices(false); };
    switch (Draw(0, 15)) {
      case 0:
        return Commuted("aten.le.Tensor", "aten.ge.Tensor", k(), q());
      case 1:
        return Commuted("aten.gt.Tensor", "aten.lt.Tensor", k(), Op("aten.sub.Tensor", {V(q()), I(w)}));
      case 2:
        return Op("aten.lt.Scalar",
                  {V(Op("aten.sub.Tensor", {V(q()), V(k())})), Draw(0, 1) ? I(w) : Arg::Float(w - 0.5)});
      case 3:
        return Op("aten.le.Scalar", {V(Op("aten.abs.default", {V(Op("aten.sub.Tensor", {V(k()), V(q())}))})), I(w)});
      case 4: {
        const auto chunk = [&](ValueId v) {
          return Draw(0, 1) ? Op("aten.floor_divide.default", {V(v), I(w)})
                            : Op("aten.div.Tensor_mode", {V(v), I(w), Arg::String("floor")});
        };
        return Commuted("aten.eq.Tensor", "aten.eq.Tensor", chunk(q()), chunk(k()));
      }
      case 5: {
        const auto start = [&](ValueId v) {
          return Op("aten.sub.Tensor", {V(v), V(Op("aten.remainder.Scalar", {V(v), I(w)}))});
        };
        return Commuted("aten.le.Tensor", "aten.ge.Tensor", start(k()), start(q()));
      }
      case 6:
        return Op("aten.lt.Scalar", {V(k()), I(w)});
      case 7: {
        const ValueId ones =
            Op("aten.ones.default", {Is({q_size_, k_size_}), Arg::Type(Draw(0, 1) ? DType::kBool : DType::kFloat32)});
        const ValueId part = Draw(0, 1) ? Op("aten.tril.default", {V(ones), I(Draw(-2, 2))})
                                        : Op("aten.triu.default", {V(ones), I(Draw(-2, 2))});
        return Op("aten.to.dtype", {V(part), Arg::Type(DType::kBool)});
      }
      case 8: {
        const int kind = Draw(0, 4);
        return FromBuffer([=](int64_t i, int64_t j) {
          return kind == 0   ? j <= i
                 : kind == 1 ? j <= i && i - j < w
                 : kind == 2 ? i / w == j / w
                 : kind == 3 ? j < w || j <= i
                             : j <= i && i / w == j / w;
        });
      }
      case 9: {  // key padding
        const bool boolean = Draw(0, 1);
        ValueId v = b_.User("attention_mask" + std::to_string(b_.graph.inputs.size()),
                            Integers({kBatch, k_size_}, Ids(k_size_, 1), boolean ? DType::kBool : DType::kInt64));
        v = Looked(v, false);
        return boolean ? v : Op("aten.eq.Scalar", {V(v), I(1)});
      }
      case 10: {  // lengths
        const ValueId v = b_.User("lengths" + std::to_string(b_.graph.inputs.size()),
                                  Integers({kBatch}, Ids(1, static_cast<int>(k_size_))));
        return Commuted("aten.lt.Tensor", "aten.gt.Tensor", k(), Op("aten.view.default", {V(v), Is({kBatch, 1, 1, 1})}));
      }
      case 11: {  // segments
        if (q_size_ != k_size_) return Commuted("aten.le.Tensor", "aten.ge.Tensor", k(), q());
        const ValueId v = b_.User("segments" + std::to_string(b_.graph.inputs.size()),
                                  Integers({kBatch, k_size_}, Ids(k_size_, 2), Draw(0, 1) ? DType::kInt64 : DType::kInt32));
        return Op(Draw(0, 3) ? "aten.eq.Tensor" : "aten.ne.Tensor", {V(Looked(v, true)), V(Looked(v, false))});
      }
      case 12: {  // packed positions of Hugging Face, plain or given
        if (q_size_ != k_size_) return Commuted("aten.le.Tensor", "aten.ge.Tensor", k(), q());
        return Packed();
      }
      case 13:
        return Op("aten.full.default", {Is({q_size_, k_size_}), Arg::Bool(Draw(0, 1)), Arg::Type(DType::kBool)});
      case 14: {  // a prefix given for each sequence
        const ValueId v = b_.User("prefix" + std::to_string(b_.graph.inputs.size()),
                                  Integers({kBatch, q_size_}, Ids(q_size_, static_cast<int>(k_size_))));
        return Op("aten.le.Tensor", {V(k()), V(Looked(v, true))});
      }
      default:
        return Op("aten.ge.Scalar", {V(q()), I(w / 2)});
    }
  }

  ValueId Packed() {
    const int64_t n = q_size_;
    ValueId positions;
    if (Draw(0, 1)) {
      positions = Op("aten.expand.default",
                     {V(Op("aten.unsqueeze.default", {V(Op("aten.arange.default", {I(n)})), I(0)})), Is({kBatch, n})});
    } else {
      std::vector<int64_t> data(kBatch * n);
      for (int64_t i = 0; i < kBatch * n; ++i) data[i] = i % n == 0 || Draw(0, 4) == 0 ? 0 : data[i - 1] + 1;
      positions = b_.User("position_ids" + std::to_string(b_.graph.inputs.size()), Integers({kBatch, n}, data));
    }
    const ValueId first = Op("aten.sub.Tensor", {V(Op("aten.slice.Tensor", {V(positions), I(1), I(0), I(1)})), I(1)});
    const ValueId diff = Op("aten.diff.default", {V(positions), I(1), I(-1), V(first)});
    const ValueId segments = Op("aten.cumsum.default", {V(Op("aten.ne.Scalar", {V(diff), I(1)})), I(-1)});
    const ValueId same = Op("aten.eq.Tensor", {V(Looked(segments, true)), V(Looked(segments, false))});
    const ValueId earlier = Op("aten.le.Tensor", {V(Looked(positions, false)), V(Looked(positions, true))});
    return Commuted("aten.__and__.Tensor", "aten.bitwise_and.Tensor", same, earlier);
  }

  // What no predicate says.
  ValueId Other() {
    expressible = false;
    switch (Draw(0, 3)) {
      case 0: {
        std::vector<int64_t> bits(q_size_ * k_size_);
        for (int64_t& x : bits) x = Draw(0, 1);
        return b_.User("random" + std::to_string(b_.graph.inputs.size()),
                       Integers({q_size_, k_size_}, bits, DType::kBool));
      }
      case 1:
        return Op("aten.lt.Scalar", {V(Op("aten.add.Tensor", {V(Indices(true)), V(Indices(false))})), I(q_size_)});
      case 2: {
        const ValueId d = Op("aten.sub.Tensor", {V(Indices(true)), V(Indices(false))});
        return Op("aten.eq.Scalar", {V(Op("aten.remainder.Scalar", {V(d), I(3)})), I(0)});
      }
      default:
        return Op("aten.gt.Tensor", {V(Op("aten.mul.Tensor", {V(Indices(true)), I(2)})), V(Indices(false))});
    }
  }

  ValueId Mask(int depth) {
    if (depth == 0) return Draw(0, 39) == 0 ? Other() : Atom();
    const ValueId x = Mask(depth - 1);
    switch (Draw(0, 7)) {
      case 0:
        return Op(Draw(0, 1) ? "aten.logical_not.default" : "aten.bitwise_not.default", {V(x)});
      case 1:
        return Commuted("aten.logical_or.default", "aten.__or__.Tensor", x, Mask(depth - 1));
      case 2:
        return Commuted("aten.bitwise_or.Tensor", "aten.logical_or.default", x, Mask(depth - 1));
      case 3:
        return Op("aten.mul.Tensor", {V(x), V(Mask(depth - 1))});
      case 4:
        return Op("aten.where.self",
                  {V(x), V(Mask(depth - 1)), V(Op("aten.zeros.default", {Is({}), Arg::Type(DType::kBool)}))});
      case 5:
        return Op("aten.bitwise_xor.Tensor", {V(x), V(Mask(depth - 1))});
      default:
        return Commuted("aten.logical_and.default", "aten.bitwise_and.Tensor", x, Mask(depth - 1));
    }
  }

  // As an additive mask, made in several ways.
  ValueId Additive(ValueId mask) {
    const ValueId zero = Op("aten.zeros.default", {Is({}), Arg::Type(DType::kFloat32)});
    const double low = Draw(0, 1) ? -INFINITY : -3.4028234663852886e38;
    const ValueId blocked = Op("aten.logical_not.default", {V(mask)});
    switch (Draw(0, 3)) {
      case 0:
        return Op("aten.where.ScalarOther", {V(mask), V(zero), Arg::Float(low)});
      case 1:
        return Op("aten.masked_fill.Scalar", {V(Op("aten.zeros_like.default", {V(mask), Arg::Type(DType::kFloat32)})),
                                              V(blocked), Arg::Float(low)});
      case 2:
        return Op("aten.mul.Tensor",
                  {V(Op("aten.to.dtype", {V(blocked), Arg::Type(DType::kFloat32)})), Arg::Float(-1e9)});
      default: {
        const ValueId full = Op("aten.full_like.default", {V(mask), Arg::Float(low), Arg::Type(DType::kFloat32)});
        return Op("aten.where.self", {V(blocked), V(full), V(zero)});
      }
    }
  }

 private:
  Builder& b_;
  std::mt19937& rng_;
  int64_t q_size_, k_size_;
};

// Entries at which the predicate and LibTorch's mask differ.
int64_t Disagreements(Builder& b, const Tensor& mask, const Predicate& predicate, const std::vector<ValueId>& vectors,
                      int64_t q_size, int64_t k_size) {
  std::vector<Tensor> data;
  Graph graph = b.graph;
  for (size_t i = 0; i < vectors.size(); ++i)
    graph.outputs.push_back({vectors[i], ir::OutputKind::kUser, "vector" + std::to_string(i)});
  const auto all = Evaluate(graph, b.inputs());
  for (size_t i = 0; i < vectors.size(); ++i) data.push_back(all.at("vector" + std::to_string(i)));
  for (const Tensor& t : data) {
    EXPECT_EQ(t.sizes.size(), 2u);
    EXPECT_TRUE(t.dtype == DType::kBool || t.dtype == DType::kInt64);
  }
  const size_t rank = mask.sizes.size();
  const auto allowed = [&](int64_t batch, int64_t q, int64_t k) {
    const std::vector<int64_t> at = {batch, 0, q, k};
    int64_t offset = 0;
    for (size_t d = 0; d < rank; ++d) offset = offset * mask.sizes[d] + (mask.sizes[d] == 1 ? 0 : at[4 - rank + d]);
    const double x = mask.data[static_cast<size_t>(offset)];
    return mask.dtype == DType::kBool ? x != 0 : x == 0;
  };
  int64_t wrong = 0;
  for (int64_t batch = 0; batch < kBatch; ++batch) {
    const VectorAt at = [&](int i, int64_t position) {
      const Tensor& t = data.at(i);
      return static_cast<int64_t>(t.data.at((t.sizes[0] == 1 ? 0 : batch) * t.sizes[1] + position));
    };
    for (int64_t q = 0; q < q_size; ++q) {
      for (int64_t k = 0; k < k_size; ++k) wrong += Holds(predicate, q, k, at) != allowed(batch, q, k);
    }
  }
  return wrong;
}

std::optional<Predicate> ReadMask(Builder& b, ValueId mask, int64_t q_size, int64_t k_size,
                                  std::vector<ValueId>* vectors) {
  const ConstantReader reader = b.Reader();
  Constants constants(b.graph, reader);
  Interpreter interpreter(b.graph, constants, {kBatch, 4, q_size, k_size});
  std::optional<Predicate> p;
  if (b.graph.value(mask).dtype == DType::kBool) {
    p = interpreter.ReadBoolean(mask);
  } else if (const auto cases = interpreter.ReadCases(mask)) {
    std::vector<Predicate> allowed;
    for (const Case& c : *cases) {
      if (c.value == 0) allowed.push_back(c.when);
    }
    p = Predicate::Or(std::move(allowed));
  }
  if (p) p = interpreter.Finish(*p);
  if (!p) return std::nullopt;
  return interpreter.Materialise(*p, vectors);
}

TEST(Masks, RandomSubgraphsAgreeWithLibTorchOnEveryEntry) {
  constexpr int kTrials = 600;
  int expressible = 0, read = 0, read_of_expressible = 0, with_vectors = 0, additive = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::mt19937 rng(static_cast<uint32_t>(trial));
    Builder b;
    const int64_t q_size = 5 + trial % 9, k_size = trial % 4 == 0 ? q_size + 3 : q_size;
    MaskMaker maker(b, rng, q_size, k_size);
    ValueId mask = maker.Mask(trial % 3);
    if (maker.Draw(0, 2) == 0) mask = b.Op("aten.expand.default", {V(mask), Is({kBatch, 1, q_size, k_size})});
    if (maker.Draw(0, 1)) mask = maker.Additive(mask);
    const Tensor expected = b.At(mask);
    std::vector<ValueId> vectors;
    const auto predicate = ReadMask(b, mask, q_size, k_size, &vectors);
    expressible += maker.expressible;
    if (!predicate) continue;
    ++read;
    read_of_expressible += maker.expressible;
    with_vectors += !vectors.empty();
    additive += expected.dtype != DType::kBool;
    EXPECT_EQ(Disagreements(b, expected, *predicate, vectors, q_size, k_size), 0)
        << "trial " << trial << " " << predicate->ToString();
  }
  RecordProperty("masks", kTrials);
  RecordProperty("predicates", expressible);
  RecordProperty("read", read_of_expressible);
  printf("%d masks; %d are predicates, of which %d (%.1f%%) were read; %d read with vectors, %d additive\n", kTrials,
         expressible, read_of_expressible, 100.0 * read_of_expressible / expressible, with_vectors, additive);
  EXPECT_GE(expressible, 300);
  EXPECT_GE(read_of_expressible, 0.95 * expressible);
  EXPECT_GE(with_vectors, 50);
}

// The comparison above can fail: a window off by one is noticed, at either end.
TEST(Masks, AWindowOffByOneIsNoticed) {
  for (const auto& [lo, hi] : {std::pair<int64_t, int64_t>{0, 4}, {1, 3}, {0, 2}, {-1, 3}}) {
    std::mt19937 rng(1);
    Builder b;
    MaskMaker maker(b, rng, 9, 9);
    const ValueId causal = b.Op("aten.le.Tensor", {V(maker.Indices(false)), V(maker.Indices(true))});
    const ValueId window =
        b.Op("aten.gt.Tensor", {V(maker.Indices(false)), V(b.Op("aten.sub.Tensor", {V(maker.Indices(true)), I(4)}))});
    const ValueId mask = b.Op("aten.logical_and.default", {V(causal), V(window)});
    std::vector<ValueId> vectors;
    const auto predicate = ReadMask(b, mask, 9, 9, &vectors);
    ASSERT_TRUE(predicate);
    EXPECT_EQ(predicate->ToString(), "diff(0, 3)");
    const Predicate faulty = Predicate::Make(Predicate::Kind::kDiff, lo, hi);
    EXPECT_EQ(Disagreements(b, b.At(mask), *predicate, vectors, 9, 9), 0);
    EXPECT_GT(Disagreements(b, b.At(mask), faulty, vectors, 9, 9), 0);
  }
}

// The forms that must come out in these words.
TEST(Masks, CanonicalWords) {
  const auto words = [](const std::function<ValueId(Builder&, MaskMaker&)>& make) -> std::string {
    std::mt19937 rng(3);
    Builder b;
    MaskMaker maker(b, rng, 8, 8);
    std::vector<ValueId> vectors;
    const auto p = ReadMask(b, make(b, maker), 8, 8, &vectors);
    return p ? p->ToString() : "none";
  };
  EXPECT_EQ(words([](Builder&, MaskMaker& m) { return m.FromBuffer([](int64_t i, int64_t j) { return j <= i; }); }),
            "diff(0, *)");
  EXPECT_EQ(words([](Builder&, MaskMaker& m) {
              return m.FromBuffer([](int64_t i, int64_t j) { return j <= i && i - j < 3; });
            }),
            "diff(0, 2)");
  EXPECT_EQ(
      words([](Builder&, MaskMaker& m) { return m.FromBuffer([](int64_t i, int64_t j) { return i / 4 == j / 4; }); }),
      "same_chunk(4)");
  EXPECT_EQ(
      words([](Builder&, MaskMaker& m) { return m.FromBuffer([](int64_t i, int64_t j) { return j < 3 || j <= i; }); }),
      "or(diff(0, *), k(*, 2))");
  EXPECT_EQ(
      words([](Builder&, MaskMaker& m) { return m.FromBuffer([](int64_t i, int64_t j) { return (i * j) % 3 == 1; }); }),
      "none");
  EXPECT_EQ(words([](Builder& b, MaskMaker&) {
              const ValueId ge = b.Op("aten.ge.Scalar", {V(b.Op("aten.arange.default", {I(8)})), I(0)});
              return b.Op("aten.expand.default", {V(ge), Is({2, 1, 8, 8})});
            }),
            "true");
}

}  // namespace
}  // namespace autospc::testing
