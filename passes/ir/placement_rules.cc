#include "passes/ir/placement_rules.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

namespace autospc::ir {
namespace {

// all_reduce with "max" takes local maxima, which are equal in no sense: V or P.
constexpr std::array<Conversion, 13> kConversions = {{
    {"autosp.vary", kR, kV},
    {"autosp.all_reduce", kP, kR},
    {"autosp.first", kV, kP},
    {"autosp.shard", kR, kS},
    {"autosp.all_gather", kS, kR},
    {"autosp.all_gather", kS, kV},  // vary
    {"autosp.reduce_scatter", kP, kS},
    {"autosp.all_to_all", kS, kS},
    {"autosp.mask", kS, kS},
    {"autosp.pad_last", kS, kS},
    {"autosp.own_block", kR, kS},
    {"autosp.stop_gradient", kR | kV | kP | kS, kR | kV | kP | kS},  // the operand's own kind
    {"autosp.all_reduce", kP | kV, kR},                              // "max"
}};
constexpr size_t kGatherVary = 5, kReduceMax = 12;

constexpr uint32_t Args(std::initializer_list<int> positions) {
  uint32_t bits = 0;
  for (const int p : positions) bits |= 1u << p;
  return bits;
}

using Row = std::pair<std::string_view, Linearity>;
constexpr Linearity kFirst = {Linearity::Mode::kOne, Args({0})};
constexpr Linearity kEither = {Linearity::Mode::kOne, Args({0, 1})};

// By the op's short name, sorted; our own conversions as they are along another axis than theirs. `*_backward` kernels
// are linear in their cotangent, argument 0, without a row.
constexpr std::array kLinear = {
    Row{"_log_softmax_backward_data", kFirst},
    Row{"_softmax_backward_data", kFirst},
    Row{"_to_copy", kFirst},
    Row{"_unsafe_view", kFirst},
    Row{"add", {Linearity::Mode::kAll, Args({0, 1})}},
    Row{"addmm", {Linearity::Mode::kAffine, Args({0, 1, 2})}},
    Row{"addmv", {Linearity::Mode::kAffine, Args({0, 1, 2})}},
    Row{"alias", kFirst},
    Row{"all_gather", kFirst},
    Row{"all_reduce", kFirst},
    Row{"all_to_all", kFirst},
    Row{"as_strided", kFirst},
    Row{"baddbmm", {Linearity::Mode::kAffine, Args({0, 1, 2})}},
    Row{"bmm", kEither},
    Row{"cat", {Linearity::Mode::kAll, Args({0})}},
    Row{"chunk", kFirst},
    Row{"clone", kFirst},
    Row{"constant_pad_nd", kFirst},
    Row{"contiguous", kFirst},
    Row{"cumsum", kFirst},
    Row{"detach", kFirst},
    Row{"diagonal", kFirst},
    Row{"div", kFirst},
    Row{"dot", kEither},
    Row{"dropout", kFirst},
    Row{"einsum", {Linearity::Mode::kOne, Args({1})}},
    Row{"expand", kFirst},
    Row{"expand_as", kFirst},
    Row{"first", kFirst},
    Row{"flatten", kFirst},
    Row{"flip", kFirst},
    Row{"gather", kFirst},
    Row{"index", kFirst},
    Row{"index_add", {Linearity::Mode::kAll, Args({0, 3})}},
    Row{"index_put", {Linearity::Mode::kAll, Args({0, 2})}},
    Row{"index_select", kFirst},
    Row{"linear", kEither},
    Row{"mask", kFirst},
    Row{"masked_fill", kFirst},
    Row{"matmul", kEither},
    Row{"mean", kFirst},
    Row{"mm", kEither},
    Row{"movedim", kFirst},
    Row{"mul", kEither},
    Row{"mv", kEither},
    Row{"narrow", kFirst},
    Row{"neg", kFirst},
    Row{"pad", kFirst},
    Row{"pad_last", kFirst},
    Row{"permute", kFirst},
    Row{"reduce_scatter", kFirst},
    Row{"repeat", kFirst},
    Row{"repeat_interleave", kFirst},
    Row{"reshape", kFirst},
    Row{"roll", kFirst},
    Row{"rsub", {Linearity::Mode::kAll, Args({0, 1})}},
    Row{"scatter_add", {Linearity::Mode::kAll, Args({0, 3})}},
    Row{"select", kFirst},
    Row{"shard", kFirst},
    Row{"slice", kFirst},
    Row{"split", kFirst},
    Row{"split_with_sizes", kFirst},
    Row{"squeeze", kFirst},
    Row{"stack", {Linearity::Mode::kAll, Args({0})}},
    Row{"stop_gradient", kFirst},
    Row{"sub", {Linearity::Mode::kAll, Args({0, 1})}},
    Row{"sum", kFirst},
    Row{"sum_to_size", kFirst},
    Row{"t", kFirst},
    Row{"take", kFirst},
    Row{"to", kFirst},
    Row{"total", kFirst},
    Row{"transpose", kFirst},
    Row{"tril", kFirst},
    Row{"triu", kFirst},
    Row{"unbind", kFirst},
    Row{"unflatten", kFirst},
    Row{"unfold", kFirst},
    Row{"unsqueeze", kFirst},
    Row{"vary", kFirst},
    Row{"view", kFirst},
    Row{"where", {Linearity::Mode::kAll, Args({1, 2})}},
};
static_assert(std::is_sorted(kLinear.begin(), kLinear.end(),
                             [](const Row& a, const Row& b) { return a.first < b.first; }));

const std::set<std::string_view> kReducers = {"addmm",
                                              "addmv",
                                              "baddbmm",
                                              "binary_cross_entropy",
                                              "binary_cross_entropy_with_logits",
                                              "bmm",
                                              "convolution",
                                              "dot",
                                              "cross_entropy_loss",
                                              "einsum",
                                              "index_add",
                                              "index_put",
                                              "kl_div",
                                              "l1_loss",
                                              "linear",
                                              "matmul",
                                              "mean",
                                              "mm",
                                              "mse_loss",
                                              "mv",
                                              "nll_loss",
                                              "nll_loss_nd",
                                              "nll_loss2d_forward",
                                              "nll_loss_forward",
                                              "scatter_add",
                                              "smooth_l1_loss",
                                              "sum",
                                              "sum_of_squares",
                                              "sum_to_size"};

const std::set<std::string_view> kFills = {
    "arange",        "empty",     "empty_like", "empty_strided", "eye",
    "full",          "full_like", "linspace",   "new_empty",     "new_empty_strided",
    "new_full",      "new_ones",  "new_zeros",  "ones",          "ones_like",
    "scalar_tensor", "zeros",     "zeros_like", "positions"};

const std::set<std::string_view> kZeroFills = {"new_zeros", "zeros", "zeros_like"};
const std::set<std::string_view> kBroadcasts = {"broadcast_to", "expand", "expand_as", "repeat"};

bool IsBackward(std::string_view name) { return name.find("_backward") != std::string_view::npos; }

// Whether a filling op fills with zero: its value is the argument at `position`; none means zero.
bool FillsZero(const Node& n, size_t position) {
  if (n.args.size() <= position || n.args[position].is_none()) return true;
  const Arg& a = n.args[position];
  return a.is_number() && !(a.kind == Arg::Kind::kInt && !a.i.is_const()) && a.number() == 0;
}

}  // namespace

KindSet Bit(PlacementKind kind) {
  switch (kind) {
    case PlacementKind::kReplicated:
      return kR;
    case PlacementKind::kVarying:
      return kV;
    case PlacementKind::kPartial:
      return kP;
    case PlacementKind::kSharded:
      return kS;
    case PlacementKind::kNone:
      return 0;
  }
  return 0;
}

std::string KindSetText(KindSet kinds) {
  std::string text;
  for (int i = 0; i < 4; ++i) {
    if (kinds & (1 << i)) text += (text.empty() ? "" : " or ") + std::string(1, "RVPS"[i]);
  }
  return text;
}

const Conversion* FindConversion(const Node& node, Axis axis) {
  if (!Covers(AxisOf(node), axis)) return nullptr;
  if (node.op == "autosp.all_gather") {
    const bool vary = node.args.size() > 3 && node.args[3].kind == Arg::Kind::kBool && node.args[3].b;
    return &kConversions[kGatherVary - (vary ? 0 : 1)];
  }
  if (node.op == "autosp.all_reduce" && node.args.size() > 1 && node.args[1].s == "max")
    return &kConversions[kReduceMax];
  const auto row =
      std::find_if(kConversions.begin(), kConversions.end(), [&](const Conversion& c) { return c.op == node.op; });
  return row == kConversions.end() ? nullptr : &*row;
}

Linearity LinearityOf(const Node& node) {
  const std::string_view name = ShortName(node.op);
  if (IsBackward(name)) return kFirst;
  if (name == "masked_fill" && !FillsZero(node, 2)) return {};
  if (name == "mask" && !FillsZero(node, 3)) return {};
  if (name == "all_reduce" && node.args.size() > 1 && node.args[1].s != "sum") return {};
  if (name == "constant_pad_nd" && !FillsZero(node, 2)) return {};
  if (name == "pad" && !FillsZero(node, 3)) return {};
  const auto row = std::lower_bound(kLinear.begin(), kLinear.end(), name,
                                    [](const Row& r, std::string_view wanted) { return r.first < wanted; });
  return row == kLinear.end() || row->first != name ? Linearity() : row->second;
}

bool MayReduce(std::string_view op) {
  const std::string_view name = ShortName(op);
  return kReducers.contains(name) || IsBackward(name);
}
bool IsFill(std::string_view op) { return kFills.contains(ShortName(op)); }
bool IsZeroFill(const Node& node) {
  const std::string_view name = ShortName(node.op);
  if (name == "full" || name == "full_like") return FillsZero(node, 1);
  return kZeroFills.contains(name) || (name == "new_full" && FillsZero(node, 2));
}
bool IsBroadcast(std::string_view op) { return kBroadcasts.contains(ShortName(op)); }
bool StopsGradient(std::string_view op) {
  const std::string_view name = ShortName(op);
  return name == "stop_gradient" || name == "detach";
}

}  // namespace autospc::ir
