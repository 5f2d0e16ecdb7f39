// The kernel table and its workspace rules (runtime/package/kernels.h), which the planner trusts.
#include "runtime/package/kernels.h"

#include <gtest/gtest.h>

#include "codegen/kernel_traits.h"
#include "passes/ir/parser.h"
#include "runtime/package/autosp_ops.h"

namespace autospc {
namespace {

using program::DType;

TensorMeta Meta(DType dtype, std::vector<int64_t> sizes) {
  TensorMeta meta{dtype, sizes, std::vector<int64_t>(sizes.size(), 1)};
  for (size_t d = sizes.size(); d-- > 1;) meta.strides[d - 1] = meta.strides[d] * sizes[d];
  return meta;
}

TEST(Kernels, EveryOpOfOursThatIsNoAliasHasAKernel) {
  for (std::string_view schema : kAutospSchemas) {
    const std::string op = "autosp." + std::string(schema.substr(0, schema.find('(')));
    const bool alias = op == "autosp.vary" || op == "autosp.stop_gradient";
    EXPECT_EQ(FindKernel(op) != nullptr, !alias) << op;
  }
  EXPECT_EQ(FindKernel("autosp.nothing"), nullptr);
}

TEST(Kernels, ElementwiseTableIsFoundFromEndToEnd) {
  for (const char* op : {"aten.abs.default", "aten.add.Tensor", "aten.div.Tensor_mode", "aten.where.self", "aten.silu_backward.default"}) {
    EXPECT_TRUE(IsElementwise(op)) << op;
  }
  for (const char* op : {"aten.mm.default", "aten.sum.default", "aten.zzz.default", "aten.aaa.default"}) {
    EXPECT_FALSE(IsElementwise(op)) << op;
  }
}

TEST(Kernels, Ways) {
  EXPECT_EQ(WayOf("autosp.mask", false), KernelWay::kOwn);
  EXPECT_EQ(WayOf("aten.copy_.default", false), KernelWay::kInPlace);
  EXPECT_EQ(WayOf("aten.mm.default", true), KernelWay::kOut);
  EXPECT_EQ(WayOf("aten.mm.default", false), KernelWay::kFallback);
  EXPECT_EQ(WayOf("aten.__and__.Tensor", false), KernelWay::kFallback);
  EXPECT_TRUE(MayRunInPlace("aten.mul.Tensor", true, 1));
  EXPECT_FALSE(MayRunInPlace("aten.mm.default", true, 1)) << "it reads rows again after writing";
  EXPECT_TRUE(MayRunInPlace("aten.mm.default", false, 1)) << "it is copied out at the end";
  EXPECT_FALSE(MayRunInPlace("aten.topk.default", false, 2));
  EXPECT_FALSE(MayRunInPlace("autosp.attention", false, 2));
}

TEST(Kernels, WorkspaceOfOutVariants) {
  const TensorMeta f32 = Meta(DType::Float32, {16, 16}), f64 = Meta(DType::Float64, {16, 16}), flag = Meta(DType::Bool, {16, 16});
  EXPECT_EQ(KernelWorkspace("aten.add.Tensor", {f32, f32}, {f32}, 1, true), 0);
  EXPECT_EQ(KernelWorkspace("aten.add.Tensor", {f32, f64}, {f64}, 1, true), 16 * 16 * 8) << "f32 is cast first";
  EXPECT_EQ(KernelWorkspace("aten.lt.Tensor", {f32, f32}, {flag}, 1, true), 0);
  TensorMeta transposed = f32;
  std::swap(transposed.strides[0], transposed.strides[1]);
  EXPECT_EQ(KernelWorkspace("aten.mm.default", {f32, transposed}, {f32}, 1, true), 0) << "BLAS reads it transposed";
  EXPECT_EQ(KernelWorkspace("aten._softmax.default", {transposed}, {f32}, 1, true), 16 * 16 * 4);
}

TEST(Kernels, WorkspaceOfFallbacks) {
  const TensorMeta x = Meta(DType::Float32, {5, 5});
  EXPECT_EQ(KernelWorkspace("aten.no_such_op.default", {x}, {x}, 1, false), 65536 + 2 * (128 + 64));
}

TEST(Kernels, StagingOfCollectives) {
  const TensorMeta x = Meta(DType::Float32, {8, 12});
  EXPECT_EQ(CommunicationWorkspace("autosp.all_gather", {x}, {Meta(DType::Float32, {32, 12})}, 1), 0);
  EXPECT_GE(CommunicationWorkspace("autosp.all_gather", {x}, {Meta(DType::Float32, {30, 12})}, 4), 4 * 8 * 12 * 4);
  EXPECT_GE(CommunicationWorkspace("autosp.reduce_scatter", {x}, {Meta(DType::Float32, {3, 12})}, 3), 3 * 3 * 12 * 4);
  EXPECT_EQ(CommunicationWorkspace("autosp.all_to_all", {x}, {Meta(DType::Float32, {32, 3})}, 4), 2 * 4 * 8 * 3 * 4);
  EXPECT_GE(CommunicationWorkspace("autosp.all_to_all", {Meta(DType::Float32, {4, 6})}, {Meta(DType::Float32, {3, 2})}, 3), 2 * 3 * 4 * 2 * 4)
      << "both dims shrink by padding";
  EXPECT_EQ(CommunicationWorkspace("aten.mm.default", {x}, {x}, 4), 0);
}

TEST(KernelTraits, AskLibTorchOnceForEachOp) {
  const Result<ir::Graph> g = ir::Parse(R"(graph @g {
    input %x : f32[4, 4]{4, 1} user "x"
    %a = aten.mul.Tensor(%x, %x) : f32[4, 4]{4, 1}
    %b = aten.mul.Tensor(%a, %a) : f32[4, 4]{4, 1}
  })");
  ASSERT_TRUE(g.ok()) << g.error().Format();
  int asked = 0;
  const memory::OpTraitsFn traits = codegen::KernelTraits(1, [&](const std::string&) { return ++asked > 0; });
  for (ir::NodeId id : g->nodes()) {
    EXPECT_TRUE(traits(*g, g->node(id)).in_place_ok);
    EXPECT_EQ(traits(*g, g->node(id)).workspace_bytes, 0);
  }
  EXPECT_EQ(asked, 1);
}

TEST(KernelTraits, MissingStridesMeanContiguous) {
  const Result<ir::Graph> g = ir::Parse("graph @g {\n input %x : f32[2, 3, 4] user \"x\"\n}");
  ASSERT_TRUE(g.ok()) << g.error().Format();
  EXPECT_EQ(codegen::MetaOf(g->value(g->inputs[0].value)).strides, (std::vector<int64_t>{12, 4, 1}));
}

}  // namespace
}  // namespace autospc
