// functionalise: the numbers of the graph with writes, without a write.
#include <gtest/gtest.h>

#include <functional>

#include "passes/canonical/register.h"
#include "tests/canonical/evaluate.h"

namespace autospc::testing {
namespace {

Result<bool> Functionalised(Builder& b) {
  PassContext context;
  return canonical::Functionalise(b.graph, context);
}

// Runs before and after: outputs and buffers agree, and nothing writes any more.
void Check(Builder& b) {
  const auto before = Evaluate(b.graph, b.inputs());
  const auto changed = Functionalised(b);
  ASSERT_TRUE(changed.ok()) << changed.error().Format();
  EXPECT_TRUE(*changed);
  for (const ir::NodeId id : b.graph.nodes()) {
    const std::string& op = b.graph.node(id).op;
    EXPECT_FALSE(ir::IsEffectful(op) || op.find(".__i") != std::string::npos) << op;
  }
  EXPECT_EQ(Difference(before, Evaluate(b.graph, b.inputs())), 0);
}

TEST(Functionalise, LeavesFunctionalGraphsAlone) {
  Builder b;
  b.Output(b.Op("aten.sin.default", {V(b.Parameter("x", Random({3}, 1)))}));
  const auto changed = Functionalised(b);
  ASSERT_TRUE(changed.ok());
  EXPECT_FALSE(*changed);
}

TEST(Functionalise, InPlaceOpsChain) {
  Builder b;
  const ValueId x = b.Parameter("x", Random({3, 4}, 1));
  const ValueId y = b.Op("aten.sin.default", {V(x)});
  const ValueId z = b.Op("aten.add_.Tensor", {V(y), V(x)});
  b.Op("aten.mul_.Scalar", {V(z), Arg::Float(2)});
  b.Op("aten.masked_fill_.Scalar", {V(y), V(b.Op("aten.gt.Scalar", {V(y), Arg::Float(0)})), Arg::Float(-1)});
  b.Output(b.Op("aten.cos.default", {V(y)}));
  b.Output(z);
  Check(b);
}

// A view taken before the write sees it; so does one taken after.
TEST(Functionalise, ViewsSeeWritesToTheirBase) {
  Builder b;
  const ValueId y = b.Op("aten.sin.default", {V(b.Parameter("x", Random({3, 4}, 1)))});
  const ValueId before = b.Op("aten.select.int", {V(y), I(0), I(1)});
  b.Op("aten.add_.Tensor", {V(y), Arg::Float(1)});
  const ValueId after = b.Op("aten.transpose.int", {V(y), I(0), I(1)});
  b.Output(b.Op("aten.exp.default", {V(before)}));
  b.Output(b.Op("aten.exp.default", {V(after)}));
  Check(b);
}

TEST(Functionalise, WritesThroughEveryKindOfView) {
  using Write = std::function<ValueId(Builder&, ValueId)>;
  const std::vector<std::pair<const char*, Write>> views = {
      {"slice",
       [](Builder& b, ValueId y) {
         return b.Op("aten.slice.Tensor", {V(y), I(1), I(1), I(-1), I(2)});
       }},
      {"select",
       [](Builder& b, ValueId y) {
         return b.Op("aten.select.int", {V(y), I(1), I(-2)});
       }},
      {"transpose",
       [](Builder& b, ValueId y) {
         return b.Op("aten.transpose.int", {V(y), I(0), I(-1)});
       }},
      {"t", [](Builder& b, ValueId y) { return b.Op("aten.t.default", {V(y)}); }},
      {"permute",
       [](Builder& b, ValueId y) {
         return b.Op("aten.permute.default", {V(y), Is({1, 0})});
       }},
      {"view",
       [](Builder& b, ValueId y) {
         return b.Op("aten.view.default", {V(y), Is({2, 2, 6})});
       }},
      {"reshape",
       [](Builder& b, ValueId y) {
         return b.Op("aten.reshape.default", {V(y), Is({24})});
       }},
      {"unsqueeze",
       [](Builder& b, ValueId y) {
         return b.Op("aten.unsqueeze.default", {V(y), I(1)});
       }},
      {"narrow",
       [](Builder& b, ValueId y) {
         return b.Op("aten.narrow.default", {V(y), I(1), I(-3), I(2)});
       }},
      {"split",
       [](Builder& b, ValueId y) {
         return b.Ops("aten.split.Tensor", {V(y), I(4), I(1)})[1];
       }},
      {"unbind",
       [](Builder& b, ValueId y) {
         return b.Ops("aten.unbind.int", {V(y), I(0)})[2];
       }},
      {"diagonal",
       [](Builder& b, ValueId y) {
         return b.Op("aten.diagonal.default", {V(y), I(1)});
       }},
      {"as_strided",
       [](Builder& b, ValueId y) {
         return b.Op("aten.as_strided.default", {V(y), Is({2, 2}), Is({6, 1}), I(3)});
       }},
      {"same type",
       [](Builder& b, ValueId y) {
         return b.Op("aten.to.dtype", {V(y), Arg::Type(DType::kFloat64)});
       }},
      {"other type",
       [](Builder& b, ValueId y) {
         return b.Op("aten.to.dtype", {V(y), Arg::Type(DType::kFloat32)});
       }},
      {"view of a view",
       [](Builder& b, ValueId y) {
         return b.Op("aten.select.int",
                     {V(b.Op("aten.slice.Tensor", {V(b.Op("aten.t.default", {V(y)})), I(0), I(2), I(5)})), I(1), I(0)});
       }},
      // A copy: the write must not reach y.
      {"reshape of a transpose",
       [](Builder& b, ValueId y) {
         return b.Op("aten.reshape.default", {V(b.Op("aten.t.default", {V(y)})), Is({24})});
       }},
      {"contiguous of a transpose",
       [](Builder& b, ValueId y) { return b.Op("aten.contiguous.default", {V(b.Op("aten.t.default", {V(y)}))}); }},
      {"contiguous", [](Builder& b, ValueId y) { return b.Op("aten.contiguous.default", {V(y)}); }},
      {"clone", [](Builder& b, ValueId y) { return b.Op("aten.clone.default", {V(y)}); }},
  };
  for (const auto& [name, view] : views) {
    SCOPED_TRACE(name);
    Builder b;
    const ValueId y = b.Op("aten.sin.default", {V(b.User("x", Random({4, 6}, 1)))});
    const ValueId other = b.Op("aten.slice.Tensor", {V(y), I(0), I(1), I(3)});
    const ValueId target = view(b, y);
    b.Op("aten.fill_.Scalar", {V(target), Arg::Float(7)});
    b.Op("aten.add_.Tensor", {V(target), Arg::Float(0.5)});
    for (const ValueId v : {y, other, target}) b.Output(b.Op("aten.exp.default", {V(v)}));
    Check(b);
  }
}

TEST(Functionalise, CopyConvertsAndBroadcasts) {
  Builder b;
  const ValueId y = b.Op("aten.zeros.default", {Is({3, 4}), Arg::Type(DType::kFloat32)});
  const ValueId row = b.User("row", Random({4}, 1));
  b.Op("aten.copy_.default", {V(b.Op("aten.slice.Tensor", {V(y), I(0), I(1), I(3)})), V(row)});
  b.Op("aten.fill_.Tensor",
       {V(b.Op("aten.select.int", {V(y), I(1), I(0)})), V(b.Op("aten.select.int", {V(row), I(0), I(0)}))});
  b.Output(y);
  Check(b);
}

// After `y.copy_(x)` x and y are two values: a later write to x is not one to y.
TEST(Functionalise, ACopyIsNoAlias) {
  Builder b;
  const ValueId x = b.Op("aten.sin.default", {V(b.User("x", Random({4}, 1)))}),
                y = b.Op("aten.zeros_like.default", {V(x)});
  b.Op("aten.copy_.default", {V(y), V(x)});
  b.Op("aten.zero_.default", {V(b.Op("aten.slice.Tensor", {V(x), I(0), I(1), I(3)}))});
  b.Output(y);
  b.Output(x);
  Check(b);
}

TEST(Functionalise, IndexPutAndScatter) {
  Builder b;
  const ValueId y = b.Op("aten.sin.default", {V(b.User("x", Random({5, 3}, 1)))});
  const ValueId index = b.User("index", Integers({2}, {4, 1}));
  b.Op("aten.index_put_.default", {V(y), Arg::Values({index}), V(b.User("rows", Random({2, 3}, 2))), Arg::Bool(true)});
  b.Op("aten.index_fill_.int_Scalar", {V(y), I(1), V(b.User("one", Integers({1}, {2}))), Arg::Float(3)});
  b.Op("aten.clamp_.default", {V(y), Arg::Float(-0.5), Arg::Float(0.5)});
  b.Output(y);
  Check(b);
}

TEST(Functionalise, InPlaceBooleans) {
  Builder b;
  const ValueId x = b.User("x", Random({5}, 1));
  const ValueId mask = b.Op("aten.gt.Scalar", {V(x), Arg::Float(0)});
  b.Op("aten.__iand__.Tensor", {V(mask), V(b.Op("aten.lt.Scalar", {V(x), Arg::Float(1)}))});
  b.Op("aten.logical_not_.default", {V(mask)});
  b.Output(mask);
  Check(b);
}

TEST(Functionalise, ANarrowerTargetKeepsItsType) {
  Builder b;
  const ValueId y = b.Op("aten.to.dtype", {V(b.User("x", Random({4}, 1))), Arg::Type(DType::kFloat32)});
  b.Op("aten.add_.Tensor", {V(y), V(b.User("wide", Random({4}, 2)))});
  b.Output(y);
  Check(b);
}

TEST(Functionalise, BufferWritesBecomeOutputs) {
  Builder b;
  const ValueId steps = b.Buffer("steps", Integers({}, {3})), cache = b.Buffer("cache", Random({4, 2}, 1));
  b.Op("aten.add_.Tensor", {V(steps), I(1)});
  b.Op("aten.copy_.default", {V(b.Op("aten.select.int", {V(cache), I(0), I(2)})), V(b.User("x", Random({2}, 2)))});
  b.Output(b.Op("aten.sum.default", {V(cache)}));
  Check(b);
  std::vector<std::string> updated;
  for (const ir::GraphOutput& out : b.graph.outputs) {
    if (out.kind == ir::OutputKind::kBufferUpdate) updated.push_back(out.name);
  }
  EXPECT_EQ(updated, (std::vector<std::string>{"steps", "cache"}));
}

TEST(Functionalise, RunningStatisticsOfBatchNorm) {
  Builder b;
  const ValueId mean = b.Buffer("mean", Random({3}, 1)),
                var = b.Buffer("var", Integers({3}, {1, 2, 3}, DType::kFloat64));
  b.Output(
      b.Op("aten.batch_norm.default", {V(b.Parameter("x", Random({4, 3, 5}, 2))), Arg::None(), Arg::None(), V(mean),
                                       V(var), Arg::Bool(true), Arg::Float(0.2), Arg::Float(1e-5), Arg::Bool(true)}));
  const auto before = Evaluate(b.graph, b.inputs());
  ASSERT_TRUE(Functionalised(b).ok());
  const auto after = Evaluate(b.graph, b.inputs());
  EXPECT_LT(Difference(before, after), 1e-12);
  EXPECT_NE(after.at("mean").data, b.inputs().at("mean").data);
}

void ExpectRefused(Builder& b, const std::string& what) {
  const auto changed = Functionalised(b);
  ASSERT_FALSE(changed.ok());
  EXPECT_EQ(changed.error().code, Code::kUnsupported);
  EXPECT_NE(changed.error().what.find(what), std::string::npos) << changed.error().Format();
  EXPECT_NE(changed.error().where.find("model.py:"), std::string::npos) << changed.error().Format();
  EXPECT_FALSE(changed.error().hint.empty());
}

TEST(Functionalise, RefusesWritesToParameters) {
  Builder b;
  b.Op("aten.mul_.Scalar", {V(b.Parameter("weight", Random({3}, 1))), Arg::Float(0.9)});
  ExpectRefused(b, "parameter 'weight'");
}

TEST(Functionalise, RefusesRandomDraws) {
  Builder b;
  b.Op("aten.normal_.default", {V(b.Op("aten.zeros.default", {Is({3})}))});
  ExpectRefused(b, "no functional form");
}

TEST(Functionalise, RefusesWritesThroughStridedViewsWithoutInverse) {
  Builder b;
  const ValueId y = b.Op("aten.sin.default", {V(b.User("x", Random({6}, 1)))});
  b.Op("aten.zero_.default", {V(b.Op("aten.unfold.default", {V(y), I(0), I(2), I(2)}))});
  ExpectRefused(b, "through aten.unfold.default");
}

TEST(Functionalise, RefusesWritesToSharedBuffers) {
  Builder b;
  const ValueId x = b.Buffer("a", Random({3}, 1));
  b.Buffer("b", Random({3}, 1));
  b.graph.inputs[1].alias_of = "a";
  b.Op("aten.zero_.default", {V(x)});
  ExpectRefused(b, "'b' shares");
}

TEST(Functionalise, RefusesWritesThatMayBeCopies) {
  Builder b;
  const ValueId y = b.Op("aten.sin.default", {V(b.User("x", Random({6}, 1)))});
  b.graph.value(y).strides.clear();
  b.Op("aten.zero_.default", {V(b.Op("aten.reshape.default", {V(y), Is({2, 3})}))});
  ExpectRefused(b, "may or may not be a copy");
}

TEST(Functionalise, RefusesReadsThatMaySeeAWrite) {
  Builder b;
  const ValueId y = b.Op("aten.sin.default", {V(b.User("x", Random({6}, 1)))});
  b.graph.value(y).strides.clear();
  const ValueId r = b.Op("aten.reshape.default", {V(y), Is({2, 3})});
  b.Op("aten.zero_.default", {V(y)});
  b.Output(b.Op("aten.exp.default", {V(r)}));
  ExpectRefused(b, "made no copy");
}

TEST(Functionalise, RefusesWritesThroughDetachedDifferentiableValues) {
  Builder b;
  const ValueId y = b.Op("aten.sin.default", {V(b.Parameter("x", Random({6}, 1)))});
  b.Op("aten.zero_.default", {V(b.Op("aten.detach.default", {V(y)}))});
  ExpectRefused(b, "detached view");
}

}  // namespace
}  // namespace autospc::testing
