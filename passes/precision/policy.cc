#include "passes/precision/policy.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "passes/ir/graph.h"

namespace autospc::precision {
namespace {

// By ir::ShortName; sorted.
constexpr auto kLower = std::to_array<std::string_view>(
    {"addbmm", "addmm", "addmv", "addr", "attention", "baddbmm", "bilinear", "bmm", "chain_matmul", "conv1d", "conv2d",
     "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution", "einsum",
     "embedding", "linalg_multi_dot", "linear", "matmul", "mm", "mv", "scaled_dot_product_attention"});

constexpr auto kPointwise = std::to_array<std::string_view>(
    {"abs",        "add",       "addcdiv",     "addcmul",   "ceil",        "celu",         "clamp",
     "clamp_max",  "clamp_min", "clip",        "copysign",  "div",         "divide",       "dropout",
     "elu",        "eq",        "floor",       "fmod",      "ge",          "gelu",         "glu",
     "gt",         "hardsigmoid", "hardswish", "hardtanh",  "isfinite",    "isinf",        "isnan",
     "le",         "leaky_relu", "lerp",       "logical_and", "logical_not", "logical_or", "lt",
     "masked_fill", "maximum",  "minimum",     "mish",      "mul",         "multiply",     "native_dropout",
     "ne",         "neg",       "negative",    "prelu",     "relu",        "relu6",        "remainder",
     "round",      "rsub",      "selu",        "sgn",       "sigmoid",     "sign",         "silu",
     "sqrt",       "square",    "sub",         "subtract",  "tanh",        "threshold",    "trunc",
     "where"});

constexpr auto kPrecise = std::to_array<std::string_view>(
    {"acos",       "acosh",    "asin",         "asinh",     "atan",          "atan2",     "atanh",
     "batch_norm", "cos",      "cosh",         "erf",       "erfc",          "erfinv",    "exp",
     "exp2",       "expm1",    "group_norm",   "instance_norm", "log",       "log10",     "log1p",
     "log2",       "log_sigmoid", "logaddexp", "pow",       "reciprocal",    "rms_norm",  "rsqrt",
     "sin",        "sinh",     "softmax",      "softplus",  "tan"});

constexpr auto kMovement = std::to_array<std::string_view>(
    {"_reshape_alias", "_unsafe_view", "adjoint",  "alias",      "amax",           "amin",        "broadcast_to",
     "cat",        "chunk",      "clone",       "concat",     "concatenate",    "constant_pad_nd", "contiguous",
     "detach",     "diagonal",   "expand",      "expand_as",  "flatten",        "flip",        "gather",
     "hsplit",     "index",      "index_select", "lift_fresh_copy", "mT",       "moveaxis",    "movedim",
     "narrow",     "numpy_T",    "pad",         "permute",    "repeat",         "repeat_interleave", "reshape",
     "roll",       "select",     "slice",       "split",      "split_with_sizes", "squeeze",   "stack",
     "stop_gradient", "swapaxes", "swapdims",   "t",          "take_along_dim", "tensor_split", "tile",
     "transpose",  "tril",       "triu",        "unbind",     "unflatten",      "unfold",      "unsqueeze",
     "view",       "view_as"});

constexpr auto kNorm = std::to_array<std::string_view>({"layer_norm", "native_layer_norm"});

constexpr auto kShapeOnly = std::to_array<std::string_view>({"empty_like", "full_like", "new_empty", "new_full", "new_ones",
                                                             "new_zeros", "ones_like", "zeros_like"});

static_assert(std::is_sorted(kLower.begin(), kLower.end()) && std::is_sorted(kPointwise.begin(), kPointwise.end()) &&
              std::is_sorted(kPrecise.begin(), kPrecise.end()) && std::is_sorted(kMovement.begin(), kMovement.end()) &&
              std::is_sorted(kNorm.begin(), kNorm.end()) && std::is_sorted(kShapeOnly.begin(), kShapeOnly.end()));

template <typename Names>
bool Has(const Names& names, std::string_view name) {
  return std::binary_search(names.begin(), names.end(), name);
}

}  // namespace

Policy PolicyOf(std::string_view op) {
  const std::string_view name = ir::ShortName(op);
  if (Has(kPointwise, name)) return Policy::kPointwise;
  if (Has(kMovement, name)) return Policy::kMovement;
  if (Has(kLower, name)) return Policy::kLower;
  if (Has(kPrecise, name)) return Policy::kPrecise;
  if (Has(kNorm, name)) return Policy::kNorm;
  if (Has(kShapeOnly, name)) return Policy::kShapeOnly;
  return Policy::kFloat32;
}

bool MayRoundTable(std::string_view op) {
  const std::string_view name = ir::ShortName(op);
  return name == "mul" || name == "multiply";
}

}  // namespace autospc::precision
