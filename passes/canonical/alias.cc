#include "passes/canonical/alias.h"

#include <algorithm>

namespace autospc::canonical {
namespace {

bool OneOf(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Whether a tensor of these sizes and strides can be seen with other sizes without a copy: ATen's computeStride.
bool CanView(const Value& in, const std::vector<int64_t>& to) {
  const std::vector<int64_t> sizes = in.int_sizes(), strides = in.int_strides();
  if (in.numel() == 0 || sizes.empty()) return true;
  int view_d = static_cast<int>(to.size()) - 1;
  int64_t chunk_stride = strides.back(), chunk_numel = 1, view_numel = 1;
  for (int d = static_cast<int>(sizes.size()) - 1; d >= 0; --d) {
    chunk_numel *= sizes[d];
    // A chunk ends where the next dim does not lie right behind it in memory.
    const bool ends = d == 0 || (sizes[d - 1] != 1 && strides[d - 1] != chunk_numel * chunk_stride);
    if (!ends) continue;
    while (view_d >= 0 && (view_numel < chunk_numel || to[view_d] == 1)) view_numel *= to[view_d--];
    if (view_numel != chunk_numel) return false;
    if (d > 0) chunk_stride = strides[d - 1];
    chunk_numel = view_numel = 1;
  }
  return view_d == -1;
}

}  // namespace

Sharing SharingOf(const Node& node, const Value& in, const Value& result) {
  const std::string_view name = ir::ShortName(node.op);
  if (OneOf(name, {"view",         "slice",        "select",       "unsqueeze",
                   "squeeze",      "transpose",    "permute",      "t",
                   "mT",           "numpy_T",      "expand",       "expand_as",
                   "broadcast_to", "narrow",       "split",        "split_with_sizes",
                   "chunk",        "tensor_split", "unbind",       "alias",
                   "detach",       "diagonal",     "as_strided",   "unfold",
                   "view_as",      "unflatten",    "swapaxes",     "swapdims",
                   "movedim",      "lift_fresh",   "view_as_real", "view_as_complex",
                   "real",         "imag",         "stop_gradient"})) {
    return Sharing::kView;
  }
  if (OneOf(name, {"to", "type_as"})) {
    // A cast to another type is a new value, one to its own type is the value itself.
    return in.dtype == result.dtype ? Sharing::kView : Sharing::kNone;
  }
  if (name == "dropout" || name == "feature_dropout" || name == "alpha_dropout") {
    return NumberAt(node, 1) == 0.0 || !BoolAt(node, 2, true) ? Sharing::kUnknown : Sharing::kNone;
  }
  const bool has_strides = in.strides.size() == in.sizes.size();
  if (name == "contiguous") {
    return !has_strides ? Sharing::kUnknown : IsContiguous(in) ? Sharing::kView : Sharing::kNone;
  }
  if (OneOf(name, {"reshape", "flatten", "reshape_as", "ravel"})) {
    if (in.sizes == result.sizes) return Sharing::kView;
    if (!has_strides) return Sharing::kUnknown;
    if (IsContiguous(in)) return Sharing::kView;
    return CanView(in, result.int_sizes()) ? Sharing::kView : Sharing::kNone;
  }
  return Sharing::kNone;
}

ValueId EmitScatter(Graph& graph, const Node& view, const Value& result, ValueId base, ValueId written, NodeId before,
                    const Node& like) {
  const Value whole = graph.value(base);
  const int rank = whole.rank();
  const std::string_view name = ir::ShortName(view.op);
  const auto emit = [&](const char* op, std::vector<Arg> args) {
    return graph.Emit(op, std::move(args), whole.dtype, whole.sizes, before, &like);
  };
  const auto slice_scatter = [&](int64_t dim, int64_t start, int64_t end, int64_t step) {
    return emit("aten.slice_scatter.default",
                {Arg::Value(base), Arg::Value(written), Arg::Int(dim), Arg::Int(start), Arg::Int(end), Arg::Int(step)});
  };
  const auto dim = [&](size_t arg) { return WrapDim(IntAt(view, arg, 0), rank); };

  if (OneOf(name, {"alias", "detach", "contiguous", "to", "type_as", "lift_fresh", "stop_gradient"})) return written;
  if (OneOf(name,
            {"view", "reshape", "unsqueeze", "squeeze", "flatten", "unflatten", "view_as", "reshape_as", "ravel"})) {
    if (view.op == "aten.view.dtype") return kNoValue;
    return emit("aten.reshape.default", {Arg::Value(written), Arg::Ints(whole.sizes)});
  }
  if (OneOf(name, {"expand", "expand_as", "broadcast_to"})) return whole.sizes == result.sizes ? written : kNoValue;
  if (OneOf(name, {"transpose", "swapaxes", "swapdims"})) {
    return emit("aten.transpose.int", {Arg::Value(written), Arg::Int(dim(1)), Arg::Int(dim(2))});
  }
  if (OneOf(name, {"t", "mT", "numpy_T"}) && rank == 2) {
    return emit("aten.transpose.int", {Arg::Value(written), Arg::Int(0), Arg::Int(1)});
  }
  if (name == "permute") {
    const std::vector<int64_t> dims = IntsAt(view, 1);
    std::vector<int64_t> inverse(dims.size());
    for (size_t d = 0; d < dims.size(); ++d) inverse[WrapDim(dims[d], rank)] = static_cast<int64_t>(d);
    return emit("aten.permute.default", {Arg::Value(written), Arg::Ints(inverse)});
  }
  if (name == "slice") {
    const SliceRange range =
        ResolveSlice(whole.sizes[dim(1)].value(), IntAt(view, 2), IntAt(view, 3), IntAt(view, 4, 1));
    return slice_scatter(dim(1), range.start,
                         std::min(whole.sizes[dim(1)].value(), range.start + range.length * range.step), range.step);
  }
  if (name == "narrow" && IntAt(view, 2)) {
    const int64_t start = IntAt(view, 2, 0), size = whole.sizes[dim(1)].value(),
                  first = start < 0 ? start + size : start;
    return slice_scatter(dim(1), first, first + IntAt(view, 3, 0), 1);
  }
  if (OneOf(name, {"split", "split_with_sizes", "chunk", "tensor_split"})) {
    const int d = dim(2);
    int64_t start = 0;
    for (int r = 0; r < result.result_index; ++r) start += graph.value(view.results[r]).sizes[d].value();
    return slice_scatter(d, start, start + result.sizes[d].value(), 1);
  }
  if (name == "select" || name == "unbind") {
    const int64_t index = name == "select" ? IntAt(view, 2, 0) : result.result_index;
    return emit("aten.select_scatter.default",
                {Arg::Value(base), Arg::Value(written), Arg::Int(dim(1)), Arg::Int(index)});
  }
  if (name == "diagonal") {
    return emit("aten.diagonal_scatter.default", {Arg::Value(base), Arg::Value(written), Arg::Int(IntAt(view, 1, 0)),
                                                  Arg::Int(IntAt(view, 2, 0)), Arg::Int(IntAt(view, 3, 1))});
  }
  if (name == "as_strided") {
    return emit("aten.as_strided_scatter.default",
                {Arg::Value(base), Arg::Value(written), view.args[1], view.args[2], view.args[3]});
  }
  return kNoValue;
}

bool WritesInPlace(std::string_view op) {
  const std::string_view name = ir::ShortName(op);
  if (name.starts_with("__i") && name.ends_with("__")) return name != "__index__" && name != "__invert__";
  return op.starts_with("aten.") && ir::IsEffectful(op);
}

std::optional<std::string> OutOfPlace(std::string_view op) {
  const std::string_view name = ir::ShortName(op);
  if (!WritesInPlace(op)) return std::nullopt;
  // Ops that change more than elements, or draw them.
  if (OneOf(name, {"resize_",
                   "resize_as_",
                   "set_",
                   "set_data",
                   "requires_grad_",
                   "rename_",
                   "swap_",
                   "t_",
                   "transpose_",
                   "squeeze_",
                   "unsqueeze_",
                   "swapaxes_",
                   "swapdims_",
                   "as_strided_",
                   "random_",
                   "normal_",
                   "uniform_",
                   "bernoulli_",
                   "exponential_",
                   "geometric_",
                   "log_normal_",
                   "cauchy_",
                   "rrelu_",
                   "rrelu_with_noise_",
                   "alpha_dropout_",
                   "feature_dropout_",
                   "feature_alpha_dropout_"})) {
    return std::nullopt;
  }
  std::string functional(name);
  if (name.starts_with("__i")) {
    functional = "__" + std::string(name.substr(3));
  } else {
    functional.pop_back();
  }
  const size_t at = op.find(name);
  return std::string(op.substr(0, at)) + functional + std::string(op.substr(at + name.size()));
}

}  // namespace autospc::canonical
