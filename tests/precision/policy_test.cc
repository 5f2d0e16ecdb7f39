// The table of precisions against LibTorch's own lists for autocast.
#include "passes/precision/policy.h"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>

namespace autospc::precision {
namespace {

#define AUTOSPC_NAME(op, ...) "aten." #op ".any"
#define AUTOSPC_ENTRY(...) AUTOSPC_NAME(__VA_ARGS__, ),

constexpr const char* kLowered[] = {AT_FORALL_LOWER_PRECISION_FP(AUTOSPC_ENTRY)};
constexpr const char* kKeptWide[] = {AT_FORALL_FP32(AUTOSPC_ENTRY) AT_FORALL_FP32_SET_OPT_DTYPE(AUTOSPC_ENTRY)};

// Layer norm is on autocast's list since its kernel had statistics of its input's type; ours has float32 ones.
TEST(PolicyTest, WhatAutocastKeepsInFloat32ComputesInFloat32) {
  int norms = 0;
  for (const char* op : kKeptWide) {
    const Policy policy = PolicyOf(op);
    norms += policy == Policy::kNorm;
    EXPECT_TRUE(policy == Policy::kFloat32 || policy == Policy::kPrecise || policy == Policy::kNorm) << op;
  }
  EXPECT_EQ(PolicyOf("aten.layer_norm.default"), Policy::kNorm);
  EXPECT_LE(norms, 2);
}

// What autocast lowers is never a float32 op by an entry of ours that says so: it is lower, or has no entry.
TEST(PolicyTest, ProductsAreLowered) {
  int lowered = 0;
  for (const char* op : kLowered) {
    const Policy policy = PolicyOf(op);
    EXPECT_NE(policy, Policy::kPrecise) << op;
    lowered += policy == Policy::kLower || policy == Policy::kPointwise;
  }
  EXPECT_GE(lowered, 20);
  for (const char* op : {"aten.linear.default", "aten.mm.default", "aten.bmm.default", "aten.addmm.default",
                         "aten.conv1d.default", "aten.embedding.default", "autosp.attention"}) {
    EXPECT_EQ(PolicyOf(op), Policy::kLower) << op;
  }
}

TEST(PolicyTest, AnUnknownOpIsFloat32) {
  EXPECT_EQ(PolicyOf("aten.histc.default"), Policy::kFloat32);
  EXPECT_EQ(PolicyOf("mylib.op.default"), Policy::kFloat32);
}

TEST(PolicyTest, OnlyFactorsMayBeRounded) {
  EXPECT_TRUE(MayRoundTable("aten.mul.Tensor"));
  for (const char* op : {"aten.add.Tensor", "aten.sub.Tensor", "aten.where.self", "aten.maximum.default", "aten.div.Tensor"}) {
    EXPECT_FALSE(MayRoundTable(op)) << op;
  }
}

}  // namespace
}  // namespace autospc::precision
