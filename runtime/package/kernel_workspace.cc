// How many bytes of scratch an instruction takes: the formulas follow the kernels in runtime/exec and what
// LibTorch's own allocate (read off a counting allocator).
#include <algorithm>
#include <utility>

#include "runtime/package/attention_workspace.h"
#include "runtime/base/alignment.h"
#include "runtime/package/coalesced.h"
#include "runtime/package/kernels.h"

namespace autospc {
namespace {

using program::DType;
using Metas = std::vector<TensorMeta>;

// Numbers that LibTorch turns into tensors of one element, each an allocation of 64 bytes.
constexpr int64_t kNumbers = 256;
// An all-reduce takes rounds of as many bytes at most.
constexpr int64_t kReduceStaging = 4 << 20;


bool IsFloat(DType t) { return t >= DType::Float16; }

int64_t IfNotContiguous(const TensorMeta& t) { return t.is_contiguous() ? 0 : Aligned(t.bytes()); }

int64_t CopiesToContiguous(const Metas& ts) {
  int64_t bytes = 0;
  for (const TensorMeta& t : ts) bytes += IfNotContiguous(t);
  return bytes;
}

// copy_ of a transposed matrix goes through a tile of 60 x 60 elements.
int64_t TransposeTile(const Metas& operands) {
  int64_t bytes = 0;
  for (const TensorMeta& t : operands) {
    if (t.sizes.size() == 2 && !t.is_contiguous()) bytes = std::max(bytes, Aligned(60 * 60 * ElementBytes(t.dtype)));
  }
  return bytes;
}

// Each element once, whatever the order of dims.
bool IsDense(const TensorMeta& t) {
  std::vector<std::pair<int64_t, int64_t>> dims;  // stride, size
  for (size_t d = 0; d < t.sizes.size(); ++d) {
    if (t.sizes[d] != 1) dims.emplace_back(t.strides[d], t.sizes[d]);
  }
  std::sort(dims.begin(), dims.end());
  int64_t expected = 1;
  for (const auto& [stride, size] : dims) {
    if (stride != expected) return size == 0;
    expected *= size;
  }
  return true;
}

// The dtype that an elementwise kernel computes in, as LibTorch promotes tensors that have dims; those
// without dims only count where no other is of their category.
DType CommonType(const Metas& operands) {
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
  return IsFloat(without) && !IsFloat(with_dims) ? without : with_dims;
}

int64_t ElementwiseWorkspace(const Metas& operands, const Metas& results) {
  const DType common = CommonType(operands);
  int64_t bytes = kNumbers;
  for (const TensorMeta& t : operands) {
    if (t.dtype != common) bytes += Aligned(t.numel() * std::max(ElementBytes(common), ElementBytes(t.dtype)));
  }
  for (const TensorMeta& t : results) {
    // Comparisons write bool directly.
    if (t.dtype != common && t.dtype != DType::Bool) bytes += Aligned(t.numel() * ElementBytes(common));
  }
  return bytes;
}

// Row-major or column-major in the last two dims with a dense inner dim: BLAS reads it as it is.
bool IsBlasMatrix(const TensorMeta& t) {
  const size_t n = t.sizes.size();
  return n < 2 || t.strides[n - 1] == 1 || t.strides[n - 2] == 1;
}

template <size_t N>
bool IsOneOf(std::string_view op, const std::string_view (&names)[N]) {
  op.remove_prefix(std::min(op.size(), op.find('.') + 1));
  op = op.substr(0, op.find('.'));
  return std::find(std::begin(names), std::end(names), op) != std::end(names);
}

int64_t OutWorkspace(std::string_view op, const Metas& operands, const Metas& results) {
  static constexpr std::string_view kProducts[] = {"mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot"};
  // They read any strides. Reductions cast a whole operand where the result has another type.
  static constexpr std::string_view kStrided[] = {"sum",  "mean", "amax", "amin",         "any",    "all",   "prod",
                                                  "cat",  "norm", "var",  "linalg_vector_norm", "argmax", "argmin"};
  // These do so from integers and booleans too.
  static constexpr std::string_view kCasting[] = {"sum", "mean", "prod"};
  static constexpr std::string_view kIndexed[] = {"index", "index_select", "gather", "scatter", "scatter_add", "index_add"};
  if (op.starts_with("aten.copy_.")) return TransposeTile(operands);
  if (IsElementwise(op)) return ElementwiseWorkspace(operands, results);
  const bool product = IsOneOf(op, kProducts), strided = IsOneOf(op, kStrided), indexed = IsOneOf(op, kIndexed);
  int64_t bytes = kNumbers + TransposeTile(operands);
  for (const TensorMeta& t : operands) {
    const bool cast = !results.empty() && t.dtype != results[0].dtype &&
                      (IsOneOf(op, kCasting) || (IsFloat(t.dtype) && IsFloat(results[0].dtype)));
    if (cast) bytes += Aligned(t.numel() * ElementBytes(results[0].dtype));
    if (indexed && !IsFloat(t.dtype)) bytes += Aligned(t.numel() * ElementBytes(DType::Int64));
    if (!strided && !indexed && !(product && IsBlasMatrix(t))) bytes += IfNotContiguous(t);
  }
  return bytes;
}

int64_t FallbackWorkspace(const Metas& operands, const Metas& results) {
  int64_t bytes = (64 << 10) + CopiesToContiguous(operands);
  for (const TensorMeta& t : results) bytes += 2 * (Aligned(t.bytes()) + 64);
  return bytes;
}

int64_t LayerNormBackwardWorkspace(const Metas& operands, const Metas& results) {
  // Sums for weight and bias, of 8 pieces of the rows, in float64; a row is as long as x over its mean.
  const int64_t rows = std::max<int64_t>(operands.size() > 2 ? operands[2].numel() : 1, 1);
  const int64_t length = operands.size() > 1 ? operands[1].numel() / rows : 0;
  return Aligned(8 * 2 * length * 8) + CopiesToContiguous(operands) + CopiesToContiguous(results);
}

int64_t LogSumExpWorkspace(const Metas& operands, const Metas& results) {
  int64_t bytes = kNumbers;  // the exponentials, the maximum and where it is infinite
  for (const TensorMeta& t : operands) bytes += Aligned(t.bytes());
  for (const TensorMeta& t : results) bytes += 3 * (Aligned(t.bytes()) + Aligned(t.numel()) + 64);
  return bytes;
}

int64_t GradNormWorkspace(const Metas& operands) {
  int64_t bytes = 0;  // one at a time
  for (const TensorMeta& t : operands) bytes = std::max(bytes, IsDense(t) ? 0 : Aligned(t.bytes()));
  return bytes;
}

int64_t OwnWorkspace(std::string_view op, const Metas& operands, const Metas& results) {
  if (op.starts_with("autosp.attention")) return AttentionOpWorkspace(op, operands, results);
  if (op == "autosp.grad_norm" || op == "autosp.sum_of_squares") return GradNormWorkspace(operands);
  if (op == "aten.native_layer_norm.default") return CopiesToContiguous(operands) + CopiesToContiguous(results) + Aligned(results.empty() ? 0 : results[0].bytes());
  if (op == "aten.native_layer_norm_backward.default") return LayerNormBackwardWorkspace(operands, results);
  if (op == "aten.logsumexp.default") return LogSumExpWorkspace(operands, results);
  if (op == "aten.mm.dtype" || op == "aten.addmm.dtype") {
    int64_t bytes = kNumbers;
    for (const TensorMeta& t : operands) {
      const auto fits = [&](size_t inner, size_t outer) { return t.strides[inner] == 1 && t.strides[outer] >= t.sizes[inner]; };
      bytes += t.sizes.size() == 2 && (fits(0, 1) || fits(1, 0)) ? 0 : IfNotContiguous(t);
    }
    return bytes;
  }
  if (op == "aten.embedding.default") return CopiesToContiguous(operands) + CopiesToContiguous(results);
  if (op == "aten.embedding_dense_backward.default" && operands.size() > 1) {
    // Positions in the order of their index, the index as int64 and contiguous.
    return IfNotContiguous(operands[0]) + 4 * Aligned(operands[1].numel() * 8);
  }
  if (op == "aten.sum.default" || op == "aten.mean.default" || op == "aten.addmm.default" || op == "aten.baddbmm.default") {
    return OutWorkspace(op, operands, results);
  }
  if (IsElementwise(op)) return ElementwiseWorkspace(operands, results);
  if (op.find("index") != std::string_view::npos) {  // int64 indices, and contiguous values
    int64_t bytes = kNumbers + CopiesToContiguous(operands);
    for (const TensorMeta& t : operands) bytes += IsFloat(t.dtype) ? 0 : Aligned(t.numel() * 8);
    return bytes;
  }
  if (op == "aten._unsafe_view.default" || op.find("reshape") != std::string_view::npos || op.find("view_copy") != std::string_view::npos) {
    return TransposeTile(operands) + (results.empty() || results[0].is_contiguous() ? 0 : CopiesToContiguous(operands));
  }
  return TransposeTile(operands);
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

// Elements, or bytes, of one rank's blocks of the tensors.
int64_t Columns(const Metas& tensors, int64_t ranks, bool in_bytes) {
  int64_t columns = 0;
  for (const TensorMeta& t : tensors) columns += (t.numel() + ranks - 1) / ranks * (in_bytes ? ElementBytes(t.dtype) : 1);
  return columns;
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

int64_t KernelWorkspace(std::string_view op, const Metas& operands, const Metas& results, int world_size,
                        bool has_out_variant) {
  switch (WayOf(op, has_out_variant)) {
    case KernelWay::kOwn: return OwnWorkspace(op, operands, results);
    case KernelWay::kInPlace:
    case KernelWay::kOut: return OutWorkspace(op, operands, results);
    case KernelWay::kFallback: return FallbackWorkspace(operands, results);
  }
  return 0;
}

int64_t CommunicationWorkspace(std::string_view op, const Metas& operands, const Metas& results, int world_size) {
  if (world_size <= 1 || operands.empty()) return 0;
  const int64_t p = world_size;
  const TensorMeta& x = operands[0];
  if (op == "autosp.all_reduce" || op == "autosp.all_reduce_") {
    // At least one element from each rank for each rank; a result in pieces is reduced in a dense copy.
    const TensorMeta& reduced = results.empty() ? x : results[0];
    return Aligned(std::max(p * p * ElementBytes(x.dtype), std::min(Aligned(reduced.bytes()), kReduceStaging))) +
           (IsDense(reduced) ? 0 : Aligned(reduced.bytes()));
  }
  if (op == "autosp.all_reduce_coalesced_") {
    std::vector<int64_t> bytes;
    for (const TensorMeta& t : operands) bytes.push_back(t.bytes());
    const CoalescedReduce plan = PlanCoalescedReduce(bytes, ElementBytes(x.dtype), p);
    return Aligned(plan.packed_bytes) + Aligned(plan.staging_bytes);
  }
  if (op == "autosp.reduce_scatter_coalesced") {  // sent and received
    return 2 * Aligned(p * ElementBytes(x.dtype) * RoundColumns(Columns(operands, p, false), ElementBytes(x.dtype), p));
  }
  if (op == "autosp.all_gather_coalesced_") return Aligned(p * RoundColumns(Columns(operands, p, true), 1, p));
  if (op == "autosp.all_gather") return Aligned(p * x.bytes());
  if (results.empty()) return 0;
  // A send and a receive buffer, each of P padded pieces.
  if (op == "autosp.reduce_scatter") return 2 * Aligned(p * results[0].bytes());
  if (op == "autosp.all_to_all") return 2 * Aligned(p * AllToAllPiece(x, results[0]));
  if (op == "autosp.pad_last") {  // one row; which dim is an attribute: the largest row there can be
    int64_t shortest = x.numel();
    for (int64_t size : x.sizes) shortest = std::min(shortest, std::max<int64_t>(size, 1));
    return shortest == 0 ? 0 : Aligned(x.bytes() / shortest);
  }
  return 0;
}

}  // namespace autospc
