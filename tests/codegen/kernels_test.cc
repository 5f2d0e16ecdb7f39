// The kernel table and its workspace rules (runtime/package/kernels.h), which the planner trusts.
#include "runtime/package/kernels.h"

#include <gtest/gtest.h>

#include "codegen/kernel_traits.h"
#include "passes/ir/parser.h"
#include "runtime/base/autosp_ops.h"

namespace autospc {
namespace {

using program::DType;

TensorMeta Meta(DType dtype, std::vector<int64_t> sizes) {
  TensorMeta meta{dtype, sizes, std::vector<int64_t>(sizes.size(), 1)};
  for (size_t d = sizes.size(); d-- > 1;) meta.strides[d - 1] = meta.strides[d] * sizes[d];
  return meta;
}

TEST(Kernels, EveryOpOfOursHasAKernel) {
  for (std::string_view schema : kAutospSchemas) {
    const std::string op = "autosp." + std::string(schema.substr(0, schema.find('(')));
    EXPECT_NE(FindKernel(op), nullptr) << op;
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
  EXPECT_EQ(MayRunInPlace("aten.mul.Tensor", true, 1), InPlace::kAny);
  EXPECT_EQ(MayRunInPlace("aten.mm.default", true, 1), InPlace::kNever) << "it reads rows again after writing";
  EXPECT_EQ(MayRunInPlace("aten.mm.default", false, 1), InPlace::kAny) << "it is copied out at the end";
  EXPECT_EQ(MayRunInPlace("aten.topk.default", false, 2), InPlace::kNever);
  EXPECT_EQ(MayRunInPlace("aten.masked_fill.Scalar", false, 1), InPlace::kFirst) << "over the mask it would lose it";
  EXPECT_EQ(MayRunInPlace("autosp.attention", false, 2), InPlace::kNever);
  EXPECT_EQ(MayRunInPlace("aten.copy_.default", false, 1), InPlace::kNever);
}

constexpr int64_t kNumbers = 256;  // numbers as tensors of one element

TensorMeta Transposed(TensorMeta t) {
  std::swap(t.sizes[0], t.sizes[1]);
  std::swap(t.strides[0], t.strides[1]);
  return t;
}

TEST(Kernels, WorkspaceOfOutVariants) {
  const TensorMeta f32 = Meta(DType::Float32, {16, 16}), f64 = Meta(DType::Float64, {16, 16}), flag = Meta(DType::Bool, {16, 16});
  EXPECT_EQ(KernelWorkspace("aten.add.Tensor", {f32, f32}, {f32}, 1, true), kNumbers);
  EXPECT_EQ(KernelWorkspace("aten.add.Tensor", {f32, f64}, {f64}, 1, true), kNumbers + 16 * 16 * 8) << "f32 is cast first";
  EXPECT_EQ(KernelWorkspace("aten.lt.Tensor", {f32, f32}, {flag}, 1, true), kNumbers);
  const int64_t tile = 60 * 60 * 4;
  EXPECT_EQ(KernelWorkspace("aten.mm.default", {f32, Transposed(f32)}, {f32}, 1, true), kNumbers + tile) << "BLAS reads it";
  EXPECT_EQ(KernelWorkspace("aten._softmax.default", {Transposed(f32)}, {f32}, 1, true), kNumbers + tile + 16 * 16 * 4);
  EXPECT_EQ(KernelWorkspace("aten.sum.dim_IntList", {f32}, {Meta(DType::Float64, {16})}, 1, true), kNumbers + 16 * 16 * 8)
      << "a sum in another type casts its operand";
}

TEST(Kernels, WorkspaceOfFallbacks) {
  const TensorMeta x = Meta(DType::Float32, {5, 5});
  EXPECT_EQ(KernelWorkspace("aten.no_such_op.default", {x}, {x}, 1, false), 65536 + 2 * (128 + 64));
}

TEST(Kernels, WorkspaceOfOurKernels) {
  const TensorMeta x = Meta(DType::Float32, {100, 32}), mean = Meta(DType::Float32, {100, 1}), w = Meta(DType::Float32, {32});
  EXPECT_EQ(KernelWorkspace("aten.native_layer_norm_backward.default", {x, x, mean, mean, w, w}, {x, w, w}, 1, false), 8 * 2 * 32 * 8);
  EXPECT_EQ(KernelWorkspace("aten.embedding_dense_backward.default", {x, Meta(DType::Int64, {100})}, {x}, 1, false), 4 * 832);
  EXPECT_EQ(KernelWorkspace("aten.clone.default", {Transposed(x)}, {Meta(DType::Float32, {32, 100})}, 1, false), 60 * 60 * 4);
  EXPECT_EQ(KernelWorkspace("aten.zeros_like.default", {x}, {x}, 1, false), 0);
  EXPECT_EQ(KernelWorkspace("autosp.grad_norm", {x, Transposed(x)}, {Meta(DType::Float64, {})}, 1, false), 0) << "dense";
  TensorMeta sparse = x;
  sparse.strides[0] = 64;
  EXPECT_EQ(KernelWorkspace("autosp.grad_norm", {x, sparse}, {Meta(DType::Float64, {})}, 1, false), 100 * 32 * 4);
  EXPECT_GE(KernelWorkspace("aten.logsumexp.default", {x}, {mean}, 1, false), 100 * 32 * 4 + 2 * 400);
}

TEST(Kernels, StagingOfCollectives) {
  const TensorMeta x = Meta(DType::Float32, {8, 12});
  const int64_t bytes = 8 * 12 * 4;
  EXPECT_EQ(CommunicationWorkspace("autosp.all_gather", {x}, {Meta(DType::Float32, {32, 12})}, 1), 0);
  EXPECT_EQ(CommunicationWorkspace("autosp.all_gather", {x}, {Meta(DType::Float32, {30, 12})}, 4), 4 * bytes);
  EXPECT_EQ(CommunicationWorkspace("autosp.reduce_scatter", {x}, {Meta(DType::Float32, {2, 12})}, 4), 2 * bytes);
  EXPECT_EQ(CommunicationWorkspace("autosp.all_to_all", {x}, {Meta(DType::Float32, {32, 3})}, 4), 2 * bytes);
  EXPECT_GE(CommunicationWorkspace("autosp.all_to_all", {Meta(DType::Float32, {4, 6})}, {Meta(DType::Float32, {3, 2})}, 3), 2 * 3 * 4 * 2 * 4)
      << "both dims shrink by padding";
  EXPECT_EQ(CommunicationWorkspace("autosp.all_reduce", {x}, {x}, 4), bytes);
  EXPECT_EQ(CommunicationWorkspace("autosp.all_reduce_", {x}, {}, 64), 64 * 64 * 4) << "an element of each for each";
  EXPECT_EQ(CommunicationWorkspace("autosp.all_reduce_", {Meta(DType::Float32, {8 << 20})}, {}, 4), 4 << 20) << "in rounds";
  EXPECT_EQ(CommunicationWorkspace("autosp.pad_last", {x}, {x}, 4), 64);
  // Of many tensors: small ones are packed, and everything goes in rounds of 4 MiB.
  const TensorMeta large = Meta(DType::Float32, {3 << 20}), one = Meta(DType::Float32, {});
  EXPECT_EQ(CommunicationWorkspace("autosp.all_reduce_coalesced_", {x, x}, {}, 4), 2 * 2 * bytes) << "packed, and received";
  EXPECT_EQ(CommunicationWorkspace("autosp.all_reduce_coalesced_", {large, large}, {}, 4), 4 << 20) << "where they lie";
  EXPECT_EQ(CommunicationWorkspace("autosp.all_reduce_coalesced_", {x, large, x, x}, {}, 4), (4 << 20) + 2 * bytes);
  EXPECT_EQ(CommunicationWorkspace("autosp.all_reduce_coalesced_", {x, x}, {}, 1), 0);
  EXPECT_EQ(CommunicationWorkspace("autosp.reduce_scatter_coalesced", {x, one}, {}, 5), 2 * 448) << "20 + 1 columns of 5";
  EXPECT_EQ(CommunicationWorkspace("autosp.reduce_scatter_coalesced", {large}, {}, 4), 2 * (4 << 20));
  EXPECT_EQ(CommunicationWorkspace("autosp.all_gather_coalesced_", {x, one}, {}, 5), 448);
  EXPECT_EQ(CommunicationWorkspace("autosp.all_gather_coalesced_", {large}, {}, 4), 4 << 20);
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
    EXPECT_FALSE(traits(*g, g->node(id)).first_operand_only);
    EXPECT_EQ(traits(*g, g->node(id)).workspace_bytes, kNumbers);
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
