#include "runtime/package/kernels.h"

#include <algorithm>
#include <array>

#include "runtime/package/attention_workspace.h"

namespace autospc {
namespace {

using program::DType;

// Sorted by name: looked up by binary search, checked by a test.
constexpr std::array kKernels = std::to_array<KernelEntry>({
    {"autosp.adamw_"},
    {"autosp.all_gather"},
    {"autosp.all_reduce", true},
    {"autosp.all_reduce_"},
    {"autosp.all_to_all"},
    {"autosp.attention"},
    {"autosp.attention_backward"},
    {"autosp.clip_coefficient"},
    {"autosp.dropout", true},
    {"autosp.first", true},
    {"autosp.grad_norm"},
    {"autosp.mask", true},
    {"autosp.pack"},
    {"autosp.pad_last", true},
    {"autosp.positions"},
    {"autosp.rank_rows"},
    {"autosp.reduce_scatter"},
    {"autosp.sgd_"},
    {"autosp.shard"},
    {"autosp.ties", true},
});

// Pointwise ops whose CPU and CUDA kernels are TensorIterator loops. Sorted by name.
constexpr std::array kElementwise = std::to_array<std::string_view>({
    "aten.abs.default", "aten.acos.default", "aten.add.Scalar", "aten.add.Tensor", "aten.addcdiv.default",
    "aten.addcmul.default", "aten.asin.default", "aten.atan.default", "aten.atan2.default",
    "aten.bitwise_and.Tensor", "aten.bitwise_not.default", "aten.bitwise_or.Tensor", "aten.bitwise_xor.Tensor",
    "aten.ceil.default", "aten.clamp.Tensor", "aten.clamp.default", "aten.clamp_max.default",
    "aten.clamp_min.default", "aten.cos.default", "aten.cosh.default", "aten.div.Scalar", "aten.div.Tensor",
    "aten.div.Tensor_mode", "aten.elu.default", "aten.eq.Scalar", "aten.eq.Tensor", "aten.erf.default",
    "aten.erfc.default", "aten.exp.default", "aten.exp2.default", "aten.expm1.default", "aten.floor.default",
    "aten.fmod.Scalar", "aten.fmod.Tensor", "aten.ge.Scalar", "aten.ge.Tensor", "aten.gelu.default",
    "aten.gelu_backward.default", "aten.gt.Scalar", "aten.gt.Tensor", "aten.hardsigmoid.default",
    "aten.hardswish.default", "aten.hardtanh.default", "aten.le.Scalar", "aten.le.Tensor",
    "aten.leaky_relu.default", "aten.leaky_relu_backward.default", "aten.lerp.Scalar", "aten.lerp.Tensor",
    "aten.log.default", "aten.log10.default", "aten.log1p.default", "aten.log2.default", "aten.log_sigmoid.default",
    "aten.logical_and.default", "aten.logical_not.default", "aten.logical_or.default", "aten.lt.Scalar",
    "aten.lt.Tensor", "aten.maximum.default", "aten.minimum.default", "aten.mish.default", "aten.mul.Scalar",
    "aten.mul.Tensor", "aten.ne.Scalar", "aten.ne.Tensor", "aten.neg.default", "aten.pow.Scalar",
    "aten.pow.Tensor_Scalar", "aten.pow.Tensor_Tensor", "aten.reciprocal.default", "aten.relu.default",
    "aten.remainder.Scalar", "aten.remainder.Tensor", "aten.round.default", "aten.rsqrt.default",
    "aten.rsub.Scalar", "aten.rsub.Tensor", "aten.sigmoid.default", "aten.sigmoid_backward.default",
    "aten.sign.default", "aten.silu.default", "aten.silu_backward.default", "aten.sin.default",
    "aten.sinh.default", "aten.softplus.default", "aten.softplus_backward.default", "aten.sqrt.default",
    "aten.sub.Scalar", "aten.sub.Tensor", "aten.tan.default", "aten.tanh.default", "aten.tanh_backward.default",
    "aten.threshold.default", "aten.threshold_backward.default", "aten.trunc.default", "aten.where.self",
});

int64_t Rounded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

bool IsFloat(DType t) { return t >= DType::Float16; }

// The dtype that an elementwise kernel computes in, as LibTorch promotes tensors that have dims; those
// without dims only count where no other is of their category.
DType CommonType(const std::vector<TensorMeta>& operands) {
  DType with_dims = DType::Bool, without = DType::Bool;
  for (const TensorMeta& t : operands) {
    DType& slot = t.sizes.empty() ? without : with_dims;
    // Half and bfloat16 together promote to float32; otherwise the enum's order is promotion's.
    if ((slot == DType::Float16 && t.dtype == DType::BFloat16) || (slot == DType::BFloat16 && t.dtype == DType::Float16)) {
      slot = DType::Float32;
    } else {
      slot = std::max(slot, t.dtype);
    }
  }
  return (IsFloat(without) && !IsFloat(with_dims)) ? without : std::max(with_dims, DType::Bool);
}

// Row-major or column-major in the last two dims with a dense inner dim: BLAS reads it as it is.
bool IsBlasMatrix(const TensorMeta& t) {
  const size_t n = t.sizes.size();
  if (n < 2) return true;
  return t.strides[n - 1] == 1 || t.strides[n - 2] == 1;
}

bool IsMatrixProduct(std::string_view op) {
  return op.starts_with("aten.mm.") || op.starts_with("aten.bmm.") || op.starts_with("aten.addmm.") ||
         op.starts_with("aten.baddbmm.") || op.starts_with("aten.mv.") || op.starts_with("aten.addmv.") ||
         op.starts_with("aten.dot.");
}

int64_t OutWorkspace(std::string_view op, const std::vector<TensorMeta>& operands,
                     const std::vector<TensorMeta>& results) {
  int64_t bytes = 0;
  if (op.starts_with("aten.copy_.")) return 0;
  if (IsElementwise(op)) {
    const DType common = CommonType(operands);
    for (const TensorMeta& t : operands) {
      if (t.dtype != common) bytes += Rounded(t.numel() * std::max(ElementBytes(common), ElementBytes(t.dtype)));
    }
    for (const TensorMeta& t : results) {
      // Comparisons write bool directly.
      if (t.dtype != common && t.dtype != DType::Bool) bytes += Rounded(t.numel() * ElementBytes(common));
    }
    return bytes;
  }
  const bool product = IsMatrixProduct(op);
  for (const TensorMeta& t : operands) {
    if (t.is_contiguous() || (product && IsBlasMatrix(t))) continue;
    bytes += Rounded(t.bytes());
  }
  return bytes;
}

int64_t FallbackWorkspace(const std::vector<TensorMeta>& operands, const std::vector<TensorMeta>& results) {
  int64_t bytes = 64 << 10;
  for (const TensorMeta& t : results) bytes += 2 * (Rounded(t.bytes()) + 64);
  for (const TensorMeta& t : operands) {
    if (!t.is_contiguous()) bytes += Rounded(t.bytes());
  }
  return bytes;
}

// Bytes of the padded piece that one rank sends another: the operand's local rows of the dim that becomes
// whole by the result's local rows of the dim that becomes sharded. The first grows, the second shrinks; where
// padding makes both do the same, the larger of the two readings is taken.
int64_t AllToAllPiece(const TensorMeta& x, const TensorMeta& y) {
  int64_t common = ElementBytes(x.dtype);
  int64_t as_seen = 1, first_from = 1, last_from = 1;
  int grow = 0, shrink = 0;
  for (size_t d = 0; d < x.sizes.size(); ++d) {
    const int64_t a = x.sizes[d], b = y.sizes[d];
    if (a == b) {
      common *= a;
      continue;
    }
    const bool first = grow + shrink == 0;
    (a < b ? grow : shrink)++;
    as_seen *= std::min(a, b);
    first_from *= first ? a : b;
    last_from *= first ? b : a;
  }
  if (grow > 1 || shrink > 1) return common * std::max(first_from, last_from);
  return common * as_seen;
}

int64_t OwnWorkspace(std::string_view op, const std::vector<TensorMeta>& operands,
                     const std::vector<TensorMeta>& results, int world_size) {
  if (op.starts_with("autosp.attention")) return AttentionOpWorkspace(op, operands, results);
  return 0;
}

template <typename Table, typename Key>
auto Lookup(const Table& table, std::string_view op, Key key) {
  const auto it = std::lower_bound(table.begin(), table.end(), op,
                                   [&](const auto& entry, std::string_view name) { return key(entry) < name; });
  return it != table.end() && key(*it) == op ? &*it : nullptr;
}

}  // namespace

int64_t ElementBytes(DType dtype) {
  switch (dtype) {
    case DType::Bool: case DType::UInt8: case DType::Int8: return 1;
    case DType::Int16: case DType::Float16: case DType::BFloat16: return 2;
    case DType::Int32: case DType::Float32: return 4;
    case DType::Int64: case DType::Float64: case DType::Complex64: return 8;
    case DType::Complex128: return 16;
  }
  return 0;
}

int64_t TensorMeta::numel() const {
  int64_t n = 1;
  for (int64_t s : sizes) n *= s;
  return n;
}

int64_t TensorMeta::bytes() const { return numel() * ElementBytes(dtype); }

bool TensorMeta::is_contiguous() const {
  int64_t expected = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    if (sizes[i] == 0) return true;
    if (sizes[i] == 1) continue;
    if (strides[i] != expected) return false;
    expected *= sizes[i];
  }
  return true;
}

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

bool MayRunInPlace(std::string_view op, bool has_out_variant, size_t num_results) {
  switch (WayOf(op, has_out_variant)) {
    case KernelWay::kOwn: return FindKernel(op)->in_place_ok;
    case KernelWay::kInPlace: return false;
    case KernelWay::kOut: return IsElementwise(op);
    case KernelWay::kFallback: return num_results == 1;
  }
  return false;
}

int64_t KernelWorkspace(std::string_view op, const std::vector<TensorMeta>& operands,
                        const std::vector<TensorMeta>& results, int world_size, bool has_out_variant) {
  switch (WayOf(op, has_out_variant)) {
    case KernelWay::kOwn: return OwnWorkspace(op, operands, results, world_size);
    case KernelWay::kInPlace:
    case KernelWay::kOut: return OutWorkspace(op, operands, results);
    case KernelWay::kFallback: return FallbackWorkspace(operands, results);
  }
  return 0;
}

int64_t CommunicationWorkspace(std::string_view op, const std::vector<TensorMeta>& operands,
                               const std::vector<TensorMeta>& results, int world_size) {
  if (world_size <= 1) return 0;
  auto sum = [](const std::vector<TensorMeta>& ts) {
    int64_t bytes = 0;
    for (const TensorMeta& t : ts) bytes += Rounded(t.bytes());
    return bytes;
  };
  // all_gather: every rank's block, in rank order; the result keeps the valid rows only.
  if (op == "autosp.all_gather") return (world_size + 1) * sum(operands);
  // reduce_scatter: the operand cut into P padded blocks and the block received.
  if (op == "autosp.reduce_scatter") return (world_size + 1) * sum(results);
  if (op == "autosp.all_to_all" && !operands.empty() && !results.empty()) {
    return 2 * Rounded(world_size * AllToAllPiece(operands[0], results[0]));
  }
  return 0;
}

}  // namespace autospc
