#include "runtime/package/kernels.h"

#include <algorithm>
#include <array>

namespace autospc {
namespace {

// Sorted by name: looked up by binary search, which a test goes through end to end.
constexpr std::array kKernels = std::to_array<KernelEntry>({
    {"aten._reshape_copy.default"},
    {"aten._to_copy.default", true},
    {"aten._unsafe_index.Tensor"},
    {"aten._unsafe_index_put.default", true},
    {"aten._unsafe_view.default"},
    {"aten.add.Scalar", true},
    {"aten.addmm.default", true},
    {"aten.addmm.dtype", true},
    {"aten.alias_copy.default", true},
    {"aten.arange.default"},
    {"aten.arange.start"},
    {"aten.arange.start_step"},
    {"aten.baddbmm.default", true},
    {"aten.bitwise_and.Scalar", true},
    {"aten.bitwise_or.Scalar", true},
    {"aten.bitwise_xor.Scalar", true},
    {"aten.clone.default", true},
    {"aten.constant_pad_nd.default"},
    {"aten.contiguous.default", true},
    {"aten.copy.default", true},
    {"aten.detach_copy.default", true},
    {"aten.diagonal_backward.default"},
    {"aten.div.Scalar", true},
    {"aten.div.Scalar_mode", true},
    {"aten.embedding.default"},
    {"aten.embedding_dense_backward.default"},
    {"aten.empty.memory_format"},
    {"aten.empty_like.default", true},
    {"aten.empty_strided.default"},
    {"aten.expand.default"},
    {"aten.expand_copy.default"},
    {"aten.fill.Scalar", true},
    {"aten.fill.Tensor", true},
    {"aten.floor_divide.Scalar", true},
    {"aten.fmod.Scalar", true},
    {"aten.full.default"},
    {"aten.full_like.default", true},
    {"aten.index_put.default", true},
    {"aten.isnan.default", true},
    {"aten.lift_fresh_copy.default", true},
    {"aten.logsumexp.default"},
    {"aten.masked_fill.Scalar", true},
    {"aten.masked_fill.Tensor", true},
    {"aten.mean.default"},
    {"aten.mm.dtype"},
    {"aten.mul.Scalar", true},
    {"aten.native_layer_norm.default"},
    {"aten.native_layer_norm_backward.default"},
    {"aten.new_empty.default", true},
    {"aten.new_empty_strided.default", true},
    {"aten.new_full.default", true},
    {"aten.new_ones.default", true},
    {"aten.new_zeros.default", true},
    {"aten.ones.default"},
    {"aten.ones_like.default", true},
    {"aten.relu.default", true},
    {"aten.remainder.Scalar", true},
    {"aten.repeat.default"},
    {"aten.reshape.default"},
    {"aten.rsub.Scalar", true},
    {"aten.rsub.Tensor", true},
    {"aten.scalar_tensor.default"},
    {"aten.select_backward.default"},
    {"aten.select_scatter.default", true},
    {"aten.slice_backward.default"},
    {"aten.slice_scatter.default", true},
    {"aten.stack.default"},
    {"aten.sub.Scalar", true},
    {"aten.sum.default"},
    {"aten.view.default"},
    {"aten.view_copy.default"},
    {"aten.zeros.default"},
    {"aten.zeros_like.default", true},
    {"autosp.accumulate_"},
    {"autosp.adamw_"},
    {"autosp.adamw_shard_"},
    {"autosp.all_gather"},
    {"autosp.all_gather_coalesced_"},
    {"autosp.all_reduce", true},
    {"autosp.all_reduce_"},
    {"autosp.all_reduce_coalesced_"},
    {"autosp.all_to_all"},
    {"autosp.attention"},
    {"autosp.attention_backward"},
    {"autosp.clip_coefficient"},
    {"autosp.dropout", true},
    {"autosp.each_micro_batch_"},
    {"autosp.first", true},
    {"autosp.grad_norm"},
    {"autosp.mask", true},
    {"autosp.micro_batches_end_"},
    {"autosp.own_block"},
    {"autosp.pad_last", true},
    {"autosp.positions"},
    {"autosp.reduce_scatter"},
    {"autosp.reduce_scatter_coalesced"},
    {"autosp.sgd_"},
    {"autosp.sgd_shard_"},
    {"autosp.shard"},
    {"autosp.stop_gradient"},
    {"autosp.sum_of_squares"},
    {"autosp.take"},
    {"autosp.take_backward"},
    {"autosp.total", true},
    {"autosp.total_backward", true},
    {"autosp.vary"},
});

// Pointwise ops whose CPU and CUDA kernels are TensorIterator loops. Sorted by name.
constexpr std::array kElementwise = std::to_array<std::string_view>({
    "aten.abs.default", "aten.acos.default", "aten.acosh.default", "aten.add.Scalar", "aten.add.Tensor",
    "aten.addcdiv.default", "aten.addcmul.default", "aten.asin.default", "aten.asinh.default", "aten.atan.default",
    "aten.atan2.default", "aten.atanh.default", "aten.bitwise_and.Scalar", "aten.bitwise_and.Tensor",
    "aten.bitwise_not.default", "aten.bitwise_or.Scalar", "aten.bitwise_or.Tensor", "aten.bitwise_xor.Scalar",
    "aten.bitwise_xor.Tensor", "aten.ceil.default", "aten.clamp.Tensor", "aten.clamp.default",
    "aten.clamp_max.default", "aten.clamp_min.default", "aten.copysign.Tensor", "aten.cos.default",
    "aten.cosh.default", "aten.digamma.default", "aten.div.Scalar", "aten.div.Scalar_mode", "aten.div.Tensor",
    "aten.div.Tensor_mode", "aten.elu.default", "aten.elu_backward.default", "aten.eq.Scalar", "aten.eq.Tensor",
    "aten.erf.default", "aten.erfc.default", "aten.erfinv.default", "aten.exp.default", "aten.exp2.default",
    "aten.expm1.default", "aten.floor.default", "aten.floor_divide.Scalar", "aten.floor_divide.default",
    "aten.fmod.Scalar", "aten.fmod.Tensor", "aten.ge.Scalar", "aten.ge.Tensor", "aten.gelu.default",
    "aten.gelu_backward.default", "aten.gt.Scalar", "aten.gt.Tensor", "aten.hardsigmoid.default",
    "aten.hardswish.default", "aten.hardswish_backward.default", "aten.hardtanh.default",
    "aten.hardtanh_backward.default", "aten.hypot.default", "aten.isnan.default", "aten.le.Scalar",
    "aten.le.Tensor", "aten.leaky_relu.default", "aten.leaky_relu_backward.default", "aten.lerp.Scalar",
    "aten.lerp.Tensor", "aten.lgamma.default", "aten.log.default", "aten.log10.default", "aten.log1p.default",
    "aten.log2.default", "aten.log_sigmoid_backward.default", "aten.logaddexp.default", "aten.logical_and.default",
    "aten.logical_not.default", "aten.logical_or.default", "aten.logit.default", "aten.logit_backward.default",
    "aten.lt.Scalar", "aten.lt.Tensor", "aten.masked_fill.Scalar", "aten.masked_fill.Tensor",
    "aten.maximum.default", "aten.minimum.default", "aten.mish.default", "aten.mul.Scalar", "aten.mul.Tensor",
    "aten.ne.Scalar", "aten.ne.Tensor", "aten.neg.default", "aten.pow.Scalar", "aten.pow.Tensor_Scalar",
    "aten.pow.Tensor_Tensor", "aten.reciprocal.default", "aten.relu.default", "aten.remainder.Scalar",
    "aten.remainder.Tensor", "aten.round.default", "aten.rsqrt.default", "aten.rsub.Scalar", "aten.rsub.Tensor",
    "aten.sgn.default", "aten.sigmoid.default", "aten.sigmoid_backward.default", "aten.sign.default",
    "aten.silu.default", "aten.silu_backward.default", "aten.sin.default", "aten.sinc.default", "aten.sinh.default",
    "aten.softplus.default", "aten.softplus_backward.default", "aten.sqrt.default",
    "aten.sub.Scalar", "aten.sub.Tensor", "aten.tan.default", "aten.tanh.default", "aten.tanh_backward.default",
    "aten.threshold.default", "aten.threshold_backward.default", "aten.trunc.default", "aten.where.self",
    "aten.xlogy.Tensor",
});

template <typename Table, typename Key>
auto Lookup(const Table& table, std::string_view op, Key key) {
  const auto it = std::lower_bound(table.begin(), table.end(), op,
                                   [&](const auto& entry, std::string_view name) { return key(entry) < name; });
  return it != table.end() && key(*it) == op ? &*it : nullptr;
}

}  // namespace

const KernelEntry* FindKernel(std::string_view op) {
  return Lookup(kKernels, op, [](const KernelEntry& e) { return e.op; });
}

KernelWay WayOf(std::string_view op, bool has_out_variant) {
  if (FindKernel(op) != nullptr) return KernelWay::kOwn;
  const std::string_view base = op.substr(0, op.rfind('.'));
  if (base.ends_with('_') && !base.ends_with("__")) return KernelWay::kInPlace;
  return has_out_variant ? KernelWay::kOut : KernelWay::kFallback;
}

bool IsElementwise(std::string_view op) {
  return Lookup(kElementwise, op, [](std::string_view e) { return e; }) != nullptr;
}

InPlace MayRunInPlace(std::string_view op, bool has_out_variant, size_t num_results) {
  switch (WayOf(op, has_out_variant)) {
    case KernelWay::kOwn: return FindKernel(op)->in_place_ok ? InPlace::kFirst : InPlace::kNever;
    case KernelWay::kInPlace: return InPlace::kNever;
    case KernelWay::kOut: return IsElementwise(op) ? InPlace::kAny : InPlace::kNever;
    case KernelWay::kFallback: return num_results == 1 ? InPlace::kAny : InPlace::kNever;
  }
  return InPlace::kNever;
}

}  // namespace autospc
