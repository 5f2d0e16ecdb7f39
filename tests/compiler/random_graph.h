// Random differentiable graphs over [B, S, F] values, whose ops mix positions, features and both, reach the same
// parameters on several ways, and end in losses of several kinds.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "tests/compiler/graph_builder.h"

namespace autospc::testing {

// A number of the environment: how many graphs, which seed.
inline int64_t Environment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atoll(text) : otherwise;
}

class RandomGraph {
 public:
  explicit RandomGraph(uint64_t seed, int steps);

  GraphBuilder& builder() { return b_; }
  int64_t sequence() const { return sequence_; }
  const std::string& story() const { return story_; }  // the steps taken: "linear, flip, …"

 private:
  int64_t Draw(int64_t lo, int64_t hi) {  // both included
    return lo + static_cast<int64_t>(random_() % static_cast<uint64_t>(hi - lo + 1));
  }
  bool Chance(int percent) { return Draw(1, 100) <= percent; }
  at::Tensor Normal(std::vector<int64_t> sizes, double spread = 1);
  ValueId Weight(std::vector<int64_t> sizes, double spread = 0.5);

  int64_t Rows(ValueId v) { return b_[v].size(1); }
  int64_t Features(ValueId v) { return b_[v].size(2); }
  ValueId Any();                       // a value of the pool, later ones more often
  ValueId AnyLike(ValueId v);          // of the same sizes as v; v itself if there is no other
  ValueId Unary(const std::string& op, ValueId x) { return b_.Op(op, {Arg::Value(x)}); }
  ValueId Add(ValueId x, ValueId y) { return b_.Op("aten.add.Tensor", {Arg::Value(x), Arg::Value(y)}); }
  ValueId Mul(ValueId x, ValueId y) { return b_.Op("aten.mul.Tensor", {Arg::Value(x), Arg::Value(y)}); }
  ValueId Reshape(ValueId x, std::vector<int64_t> sizes) {
    return b_.Op(Chance(50) || !b_[x].is_contiguous() ? "aten.reshape.default" : "aten.view.default", {Arg::Value(x), Arg::Ints(sizes)});
  }
  ValueId Transpose(ValueId x, int64_t a, int64_t c) {
    return b_.Op("aten.transpose.int", {Arg::Value(x), Arg::Int(a), Arg::Int(c)});
  }
  ValueId Linear(ValueId x, int64_t out, bool bias);
  ValueId Sum(ValueId x, std::vector<int64_t> dims, bool keep);
  ValueId Mean(ValueId x, std::vector<int64_t> dims, bool keep);

  // Each makes a new [B, R, F] value of one of the pool (random_ops.h).
  ValueId Pointwise(ValueId x);
  ValueId Binary(ValueId x);
  ValueId Table(ValueId x);
  ValueId Normalise(ValueId x);
  ValueId Softmax(ValueId x);
  ValueId OverFeatures(ValueId x);
  ValueId OverSequence(ValueId x);
  ValueId ThroughTranspose(ValueId x);
  ValueId ThroughHeads(ValueId x);
  ValueId ThroughFlat(ValueId x);
  ValueId Shorten(ValueId x);
  ValueId PadRows(ValueId x);
  ValueId CatFeatures(ValueId x);
  ValueId WithoutRule(ValueId x);
  ValueId Where(ValueId x);
  ValueId AttentionOver(ValueId x);
  ValueId Positions(ValueId x);
  ValueId Mixing(ValueId x);
  ValueId Detached(ValueId x);

  // A scalar (random_ops.h).
  ValueId LossOf(ValueId x);
  ValueId CrossEntropy(ValueId x);

  std::mt19937_64 random_;
  GraphBuilder b_;
  int64_t batch_ = 1, sequence_ = 1, vocabulary_ = 11;
  ValueId ids_ = ir::kNoValue, labels_ = ir::kNoValue, valid_ = ir::kNoValue, segments_ = ir::kNoValue;
  std::vector<ValueId> pool_;
  std::vector<ValueId> weights_;
  std::string story_;
};

}  // namespace autospc::testing
