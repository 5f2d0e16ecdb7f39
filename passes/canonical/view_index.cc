// How views map an index of their result to one of their operand.
#include <algorithm>

#include "passes/canonical/interpret.h"

namespace autospc::canonical {
namespace {

// The index into `to` of the element whose index into `from` is `index`, both row-major over the same elements.
Index Reshaped(const std::vector<int64_t>& from, const Index& index, const std::vector<int64_t>& to, Atoms& atoms) {
  Linear offset;
  int64_t stride = 1;
  for (size_t d = from.size(); d-- > 0;) {
    offset.Add(index[d], stride);
    stride *= from[d];
  }
  Index mapped(to.size());
  size_t outermost = 0;
  while (outermost < to.size() && to[outermost] <= 1) ++outermost;
  for (size_t d = to.size(); d-- > 0;) {
    if (to[d] <= 1) continue;  // index 0
    if (d == outermost) {
      mapped[d] = offset;
      break;
    }
    mapped[d] = atoms.Mod(offset, to[d]);
    offset = atoms.FloorDiv(offset, to[d]);
  }
  return mapped;
}

bool IsReshape(std::string_view base) {
  static constexpr std::string_view kOps[] = {"aten.view",       "aten.reshape", "aten._unsafe_view", "aten.unsqueeze",
                                              "aten.squeeze",    "aten.flatten", "aten.unflatten",    "aten.view_as",
                                              "aten.reshape_as", "aten.ravel"};
  return std::find(std::begin(kOps), std::end(kOps), base) != std::end(kOps);
}

bool IsIdentity(std::string_view base) {
  static constexpr std::string_view kOps[] = {"aten.alias",           "aten.contiguous", "aten.clone",
                                              "aten.lift_fresh_copy", "aten.detach",     "autosp.stop_gradient",
                                              "aten.lift_fresh"};
  return std::find(std::begin(kOps), std::end(kOps), base) != std::end(kOps);
}

}  // namespace

std::optional<std::pair<ValueId, Index>> MapViewIndex(const Graph& graph, const Node& node, const Value& result,
                                                      const Index& index, Atoms& atoms) {
  const ValueId x = ValueAt(node, 0);
  if (x == kNoValue || node.op == "aten.view.dtype") return std::nullopt;
  const std::string_view base = BaseName(node.op);
  const std::vector<int64_t> sizes = graph.value(x).int_sizes();
  const int rank = static_cast<int>(sizes.size());
  Index mapped = index;
  const auto dim = [&](size_t arg, int64_t fallback) { return WrapDim(IntAt(node, arg, fallback), rank); };

  if (IsIdentity(base) || node.op == "autosp.stop_gradient") return std::pair(x, mapped);
  if (IsReshape(base)) return std::pair(x, Reshaped(result.int_sizes(), index, sizes, atoms));
  if (base == "aten.expand" || base == "aten.expand_as" || base == "aten.broadcast_to" || base == "aten.repeat") {
    if (result.rank() < rank) return std::nullopt;
    mapped.erase(mapped.begin(), mapped.end() - rank);
    const int added = result.rank() - rank;
    for (int d = 0; d < rank; ++d) {
      if (result.sizes[d + added].value() == sizes[d]) continue;
      mapped[d] = sizes[d] == 1 ? Linear(0) : atoms.Mod(mapped[d], sizes[d]);
    }
    return std::pair(x, mapped);
  }
  if (base == "aten.repeat_interleave" && IntAt(node, 1) && IntAt(node, 2) && rank > 0 && result.rank() == rank) {
    const int d = dim(2, 0);
    mapped[d] = atoms.FloorDiv(mapped[d], IntAt(node, 1, 1));
    return std::pair(x, mapped);
  }
  const bool swaps_last = base == "aten.t" || base == "aten.mT" || base == "aten.numpy_T";
  if (base == "aten.transpose" || base == "aten.swapaxes" || base == "aten.swapdims" || (swaps_last && rank == 2) ||
      base == "aten.mT") {
    const int a = swaps_last ? rank - 2 : dim(1, 0), b = swaps_last ? rank - 1 : dim(2, 0);
    if (rank >= 2) std::swap(mapped[a], mapped[b]);
    return std::pair(x, mapped);
  }
  if (base == "aten.permute") {
    const std::vector<int64_t> dims = IntsAt(node, 1);
    for (int d = 0; d < rank; ++d) mapped[WrapDim(dims[d], rank)] = index[d];
    return std::pair(x, mapped);
  }
  if (base == "aten.slice") {
    const int d = dim(1, 0);
    const SliceRange range = ResolveSlice(sizes[d], IntAt(node, 2), IntAt(node, 3), IntAt(node, 4, 1));
    mapped[d] = mapped[d].Times(range.step) + Linear(range.start);
    return std::pair(x, mapped);
  }
  if (base == "aten.narrow" && IntAt(node, 2)) {
    const int d = dim(1, 0);
    const int64_t start = IntAt(node, 2, 0);
    mapped[d].constant += start < 0 ? start + sizes[d] : start;
    return std::pair(x, mapped);
  }
  if (base == "aten.select") {
    const int d = dim(1, 0);
    const int64_t at = IntAt(node, 2, 0);
    mapped.insert(mapped.begin() + d, Linear(at < 0 ? at + sizes[d] : at));
    return std::pair(x, mapped);
  }
  if (base == "aten.unbind") {
    mapped.insert(mapped.begin() + dim(1, 0), Linear(result.result_index));
    return std::pair(x, mapped);
  }
  if (base == "aten.split" || base == "aten.split_with_sizes" || base == "aten.chunk" || base == "aten.tensor_split") {
    const int d = dim(2, 0);
    for (int r = 0; r < result.result_index; ++r) mapped[d].constant += graph.value(node.results[r]).sizes[d].value();
    return std::pair(x, mapped);
  }
  if (base == "aten.flip") {
    for (const int64_t wrapped : IntsAt(node, 1)) {
      if (rank == 0) break;
      const int d = WrapDim(wrapped, rank);
      mapped[d] = Linear(sizes[d] - 1) - mapped[d];
    }
    return std::pair(x, mapped);
  }
  return std::nullopt;
}

}  // namespace autospc::canonical
