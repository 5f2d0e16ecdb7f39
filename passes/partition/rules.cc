#include "passes/partition/rules.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <string_view>

namespace autospc::partition {
namespace {

using ir::Arg;
using ir::Graph;
using ir::Node;
using ir::Value;
using Dims = std::vector<int>;
constexpr int kWhole = FactorRule::kWhole;

const Value& Operand(const Graph& g, const Node& n, size_t i) { return g.value(n.Operands().at(i)); }
const Value& ResultOf(const Graph& g, const Node& n, size_t i = 0) { return g.value(n.results.at(i)); }

Dims Iota(int rank) {
  Dims dims(rank);
  std::iota(dims.begin(), dims.end(), 0);
  return dims;
}

// An operand's dims aligned right with the result's factors; size-1 dims that are broadcast have none.
Dims Broadcast(const Value& operand, const std::vector<int64_t>& result_sizes, const Dims& factors) {
  const std::vector<int64_t> sizes = operand.int_sizes();
  const int shift = static_cast<int>(result_sizes.size()) - static_cast<int>(sizes.size());
  Dims dims(sizes.size(), kWhole);
  for (int d = 0; d < static_cast<int>(sizes.size()); ++d) {
    if (d + shift >= 0 && sizes[d] == result_sizes[d + shift]) dims[d] = factors[d + shift];
  }
  return dims;
}

FactorRule Pointwise(const Graph& g, const Node& n) {
  FactorRule rule;
  const std::vector<int64_t> sizes = ResultOf(g, n).int_sizes();
  const Dims factors = Iota(static_cast<int>(sizes.size()));
  for (ir::ValueId v : n.Operands()) rule.operands.push_back(Broadcast(g.value(v), sizes, factors));
  for (size_t i = 0; i < n.results.size(); ++i) rule.results.push_back(factors);
  return rule;
}

// Every result keeps the first operand's dims but those in `whole`; other operands (weights of a norm) are whole.
FactorRule AllBut(const Graph& g, const Node& n, const std::set<int>& whole) {
  FactorRule rule;
  const int rank = Operand(g, n, 0).rank();
  Dims dims = Iota(rank);
  for (int d : whole) dims.at(d) = kWhole;
  for (ir::ValueId v : n.Operands()) {
    const bool same = &g.value(v) == &Operand(g, n, 0) || rule.operands.empty();
    rule.operands.push_back(same ? dims : Dims(g.value(v).rank(), kWhole));
  }
  for (ir::ValueId v : n.results) {
    // native_layer_norm's mean and rstd keep size-1 dims; ops that drop the dim come with Reduction.
    const std::vector<int64_t> sizes = g.value(v).int_sizes();
    rule.results.push_back(static_cast<int>(sizes.size()) == rank ? dims : Dims(sizes.size(), kWhole));
  }
  return rule;
}

int DimArg(const Graph& g, const Node& n, size_t arg, int rank) { return ir::WrapDim(n.args.at(arg).int_value(), rank); }

template <size_t kArg>
FactorRule WholeDim(const Graph& g, const Node& n) {
  const int rank = Operand(g, n, 0).rank();
  if (rank == 0) return Pointwise(g, n);
  return AllBut(g, n, {DimArg(g, n, kArg, rank)});
}

// softmax(x, dim, …), cumsum(x, dim, …), slice(x, dim, …): dim is argument 1.
FactorRule WholeDim1(const Graph& g, const Node& n) { return WholeDim<1>(g, n); }
FactorRule WholeDim2(const Graph& g, const Node& n) { return WholeDim<2>(g, n); }

FactorRule Transpose(const Graph& g, const Node& n) {
  FactorRule rule;
  const int rank = Operand(g, n, 0).rank();
  Dims dims = Iota(rank);
  rule.operands = {dims};
  const std::string_view name = ir::ShortName(n.op);
  if (name == "t" || name == "numpy_T") {
    std::reverse(dims.begin(), dims.end());
  } else if (name == "permute") {
    const std::vector<int64_t> order = n.args.at(1).int_values();
    for (int d = 0; d < rank; ++d) dims[d] = ir::WrapDim(order[d], rank);
  } else if (rank > 0) {
    std::swap(dims[DimArg(g, n, 1, rank)], dims[DimArg(g, n, 2, rank)]);
  }
  rule.results = {dims};
  return rule;
}

FactorRule Linear(const Graph& g, const Node& n) {
  FactorRule rule;
  const int rank = Operand(g, n, 0).rank();
  Dims x = Iota(rank), out = x;
  const int in_factor = rank - 1, out_factor = rank;
  x.back() = in_factor;
  rule.operands.push_back(x);
  const bool matrix = Operand(g, n, 1).rank() == 2;
  rule.operands.push_back(matrix ? Dims{out_factor, in_factor} : Dims{in_factor});
  if (n.Operands().size() > 2) rule.operands.push_back(matrix ? Dims{out_factor} : Dims{});
  out.back() = out_factor;
  if (!matrix) out.pop_back();
  rule.results = {out};
  rule.combiner = n.Operands().size() > 2 ? Combiner::kNone : Combiner::kSum;  // a bias would be added P times
  return rule;
}

// matmul of any ranks: […, i, k] x […, k, j].
FactorRule Matmul(const Graph& g, const Node& n) {
  FactorRule rule;
  const Value &a = Operand(g, n, 0), &b = Operand(g, n, 1), &r = ResultOf(g, n);
  const int rank = r.rank(), contracted = rank;
  const bool a_vector = a.rank() == 1, b_vector = b.rank() == 1;
  Dims factors = Iota(rank);
  // The result's batch dims, then i unless a is a vector, then j unless b is.
  const int batch = rank - (a_vector ? 0 : 1) - (b_vector ? 0 : 1);
  const auto operand = [&](const Value& v, bool first) {
    const std::vector<int64_t> sizes = v.int_sizes(), out = r.int_sizes();
    Dims dims(sizes.size(), kWhole);
    if (sizes.size() == 1) return Dims{contracted};
    const int own_batch = static_cast<int>(sizes.size()) - 2;
    for (int d = 0; d < own_batch; ++d) {
      const int at = batch - own_batch + d;
      if (sizes[d] == out[at]) dims[d] = factors[at];
    }
    dims[own_batch] = first ? factors[batch] : contracted;
    dims[own_batch + 1] = first ? contracted : factors[rank - 1];
    return dims;
  };
  rule.operands = {operand(a, true), operand(b, false)};
  rule.results = {factors};
  rule.combiner = Combiner::kSum;
  return rule;
}

// addmm, baddbmm: (input, a, b, beta, alpha).
FactorRule AddMatmul(const Graph& g, const Node& n) {
  FactorRule rule;
  const Value& r = ResultOf(g, n);
  const int rank = r.rank(), contracted = rank;
  const Dims out = Iota(rank);
  Dims a = out, b = out;
  a[rank - 1] = contracted;
  b[rank - 2] = contracted;
  rule.operands = {Broadcast(Operand(g, n, 0), r.int_sizes(), out), a, b};
  rule.results = {out};
  return rule;  // the addend keeps it from being a sum over ranks
}

// einsum(equation, tensors, path) with explicit or implicit output, no ellipsis.
std::optional<FactorRule> Einsum(const Graph& g, const Node& n) {
  std::string equation = n.args.at(0).s;
  std::erase(equation, ' ');
  if (equation.find('.') != std::string::npos) return std::nullopt;
  const size_t arrow = equation.find("->");
  const std::string inputs = equation.substr(0, arrow);
  std::string output;
  if (arrow != std::string::npos) {
    output = equation.substr(arrow + 2);
  } else {
    std::map<char, int> count;
    for (char c : inputs) count[c] += c != ',';
    for (const auto& [c, k] : count) {
      if (k == 1) output += c;
    }
  }
  FactorRule rule;
  rule.operands.emplace_back();
  for (char c : inputs) {
    if (c == ',') rule.operands.emplace_back();
    else rule.operands.back().push_back(c);
  }
  rule.results = {Dims(output.begin(), output.end())};
  const std::vector<ir::ValueId> operands = n.Operands();
  if (operands.size() != rule.operands.size()) return std::nullopt;
  for (size_t i = 0; i < operands.size(); ++i) {
    Dims& dims = rule.operands[i];
    if (static_cast<int>(dims.size()) != g.value(operands[i]).rank()) return std::nullopt;
    for (size_t d = 0; d < dims.size(); ++d) {  // a repeated letter takes a diagonal
      if (std::count(dims.begin(), dims.end(), dims[d]) > 1) return std::nullopt;
    }
  }
  rule.combiner = Combiner::kSum;
  return rule;
}

FactorRule Embedding(const Graph& g, const Node& n) {
  const int rank = Operand(g, n, 1).rank();
  FactorRule rule;
  Dims index = Iota(rank), out = index;
  out.push_back(rank);
  rule.operands = {{kWhole, rank}, index};
  rule.results = {out};
  return rule;
}

FactorRule Norm(const Graph& g, const Node& n) {  // layer_norm, rms_norm, native_layer_norm: normalised_shape is argument 1
  const int rank = Operand(g, n, 0).rank(), normalised = static_cast<int>(n.args.at(1).ints.size());
  std::set<int> whole;
  for (int d = rank - normalised; d < rank; ++d) whole.insert(d);
  return AllBut(g, n, whole);
}

// Reductions over argument 1's dims (none or empty: all), keepdim argument 2.
FactorRule ReductionOver(const Graph& g, const Node& n, const std::set<int>& reduced, Combiner combiner) {
  const int rank = Operand(g, n, 0).rank();
  FactorRule rule;
  rule.operands = {Iota(rank)};
  rule.combiner = combiner;
  for (size_t i = 0; i < n.results.size(); ++i) {
    const bool keep = ResultOf(g, n, i).rank() == rank;
    Dims dims;
    for (int d = 0; d < rank; ++d) {
      if (!reduced.contains(d)) dims.push_back(d);
      else if (keep) dims.push_back(kWhole);
    }
    rule.results.push_back(dims);
  }
  return rule;
}

std::set<int> ReducedDims(const Graph& g, const Node& n) {
  const int rank = Operand(g, n, 0).rank();
  std::set<int> reduced;
  if (n.args.size() > 1 && n.args[1].kind == Arg::Kind::kIntList) {
    for (int64_t d : n.args[1].int_values()) reduced.insert(ir::WrapDim(d, rank));
  } else if (n.args.size() > 1 && n.args[1].kind == Arg::Kind::kInt && !n.op.ends_with(".default")) {
    reduced.insert(ir::WrapDim(n.args[1].int_value(), rank));
  }
  if (reduced.empty()) {
    for (int d = 0; d < rank; ++d) reduced.insert(d);
  }
  return reduced;
}

template <Combiner kCombiner>
FactorRule Reduction(const Graph& g, const Node& n) { return ReductionOver(g, n, ReducedDims(g, n), kCombiner); }

// linalg_vector_norm(x, ord, dim, …) and norm(x, p, dim, …): the dims are argument 2, none or empty for all.
FactorRule VectorNorm(const Graph& g, const Node& n) {
  const int rank = Operand(g, n, 0).rank();
  std::set<int> reduced;
  if (n.args.size() > 2 && !n.args[2].is_none()) {
    for (int64_t d : n.args[2].int_values()) reduced.insert(ir::WrapDim(d, rank));
  }
  if (reduced.empty()) {
    for (int d = 0; d < rank; ++d) reduced.insert(d);
  }
  return ReductionOver(g, n, reduced, Combiner::kNone);
}

// The reduced dims as `dim` int argument (max.dim, argmax, logsumexp is a list): no combiner here.
FactorRule IndexReduction(const Graph& g, const Node& n) {
  const int rank = Operand(g, n, 0).rank();
  std::set<int> reduced;
  if (n.args.size() > 1 && n.args[1].kind == Arg::Kind::kInt) reduced.insert(ir::WrapDim(n.args[1].int_value(), rank));
  else reduced = ReducedDims(g, n);
  return ReductionOver(g, n, reduced, Combiner::kNone);
}

FactorRule Select(const Graph& g, const Node& n) {
  const int rank = Operand(g, n, 0).rank();
  return ReductionOver(g, n, {DimArg(g, n, 1, rank)}, Combiner::kNone);
}

FactorRule Cat(const Graph& g, const Node& n) {  // (tensors, dim); legacy empty [0] operands stay whole
  const int rank = ResultOf(g, n).rank();
  FactorRule rule;
  Dims dims = Iota(rank);
  dims.at(DimArg(g, n, 1, rank)) = kWhole;
  for (ir::ValueId v : n.Operands()) {
    rule.operands.push_back(g.value(v).rank() == rank ? dims : Dims(g.value(v).rank(), kWhole));
  }
  rule.results = {dims};
  return rule;
}

FactorRule Stack(const Graph& g, const Node& n) {
  const int rank = ResultOf(g, n).rank(), dim = DimArg(g, n, 1, rank);
  FactorRule rule;
  Dims out = Iota(rank);
  Dims in = out;
  in.erase(in.begin() + dim);
  out[dim] = kWhole;
  for (size_t i = 0; i < n.Operands().size(); ++i) rule.operands.push_back(in);
  rule.results = {out};
  return rule;
}

// gather(x, dim, index): dims other than `dim` run together where their sizes agree.
FactorRule Gather(const Graph& g, const Node& n) {
  const Value &x = Operand(g, n, 0), &index = Operand(g, n, 1);
  const int rank = index.rank();
  FactorRule rule;
  Dims xs = Iota(rank), is = xs;
  const int dim = rank == 0 ? 0 : DimArg(g, n, 1, rank);
  for (int d = 0; d < rank; ++d) {
    if (d == dim) xs[d] = kWhole;
    else if (!(x.sizes[d] == index.sizes[d])) xs[d] = is[d] = kWhole;
  }
  rule.operands = {xs, is};
  rule.results = {is};
  return rule;
}

FactorRule IndexSelect(const Graph& g, const Node& n) {  // (x, dim, index)
  const int rank = Operand(g, n, 0).rank(), dim = rank == 0 ? 0 : DimArg(g, n, 1, rank);
  FactorRule rule;
  Dims x = Iota(rank), out = x;
  x.at(dim) = kWhole;
  out[dim] = rank;
  rule.operands = {x, {rank}};
  rule.results = {out};
  return rule;
}

// index.Tensor(x, indices) with integer indices for the leading dims, none skipped.
std::optional<FactorRule> Index(const Graph& g, const Node& n) {
  const std::vector<ir::ValueId>& indices = n.args.at(1).values;
  const Value &x = Operand(g, n, 0), &r = ResultOf(g, n);
  size_t count = 0;
  int index_rank = 0;
  for (; count < indices.size() && indices[count] != ir::kNoValue; ++count) {
    if (g.value(indices[count]).dtype == ir::DType::kBool) return std::nullopt;
    index_rank = std::max(index_rank, g.value(indices[count]).rank());
  }
  for (size_t i = count; i < indices.size(); ++i) {
    if (indices[i] != ir::kNoValue) return std::nullopt;
  }
  if (count == 0 || r.rank() != index_rank + x.rank() - static_cast<int>(count)) return std::nullopt;
  FactorRule rule;
  const Dims out = Iota(r.rank());
  Dims xs(x.rank(), kWhole);
  for (size_t d = count; d < xs.size(); ++d) xs[d] = index_rank + static_cast<int>(d - count);
  rule.operands.push_back(xs);
  const std::vector<int64_t> sizes = r.int_sizes();
  const std::vector<int64_t> index_sizes(sizes.begin(), sizes.begin() + index_rank);
  for (size_t i = 0; i < count; ++i) {
    rule.operands.push_back(Broadcast(g.value(indices[i]), index_sizes, Iota(index_rank)));
  }
  rule.results = {out};
  return rule;
}

FactorRule Pad(const Graph& g, const Node& n) {  // (x, pad, …): pairs from the last dim backwards
  const int rank = Operand(g, n, 0).rank();
  const std::vector<int64_t> pad = n.args.at(1).int_values();
  std::set<int> whole;
  for (size_t i = 0; i < pad.size(); ++i) {
    if (pad[i] != 0) whole.insert(rank - 1 - static_cast<int>(i / 2));
  }
  return AllBut(g, n, whole);
}

FactorRule LastTwoWhole(const Graph& g, const Node& n) {  // tril, triu
  const int rank = Operand(g, n, 0).rank();
  return AllBut(g, n, {rank - 2, rank - 1});
}

FactorRule FlipRoll(const Graph& g, const Node& n) {  // flip(x, dims), roll(x, shifts, dims)
  const int rank = Operand(g, n, 0).rank();
  std::set<int> whole;
  const Arg& dims = n.args.at(ir::ShortName(n.op) == "roll" ? 2 : 1);
  for (int64_t d : dims.int_values()) whole.insert(ir::WrapDim(d, rank));
  if (whole.empty()) {
    for (int d = 0; d < rank; ++d) whole.insert(d);
  }
  return AllBut(g, n, whole);
}

FactorRule Repeat(const Graph& g, const Node& n) {  // repeat(x, repeats): dims repeated once stay
  const int rank = ResultOf(g, n).rank(), own = Operand(g, n, 0).rank();
  const std::vector<int64_t> repeats = n.args.at(1).int_values();
  FactorRule rule;
  Dims out = Iota(rank), in(own);
  for (int d = 0; d < rank; ++d) {
    if (repeats[d] != 1 || d < rank - own) out[d] = kWhole;
    if (d >= rank - own) in[d - (rank - own)] = out[d];
  }
  rule.operands = {in};
  rule.results = {out};
  return rule;
}

std::optional<FactorRule> RepeatInterleave(const Graph& g, const Node& n) {  // .self_int (x, repeats, dim, output_size)
  if (n.args.at(2).is_none() || n.args.at(1).is_value()) return std::nullopt;
  return WholeDim2(g, n);
}

FactorRule OneHot(const Graph& g, const Node& n) {
  const int rank = Operand(g, n, 0).rank();
  FactorRule rule;
  Dims out = Iota(rank);
  rule.operands = {out};
  out.push_back(kWhole);
  rule.results = {out};
  return rule;
}

FactorRule BatchOnly(const Graph& g, const Node& n) {  // convolutions: the batch runs through
  std::set<int> whole;
  for (int d = 1; d < Operand(g, n, 0).rank(); ++d) whole.insert(d);
  return AllBut(g, n, whole);
}

// cross_entropy_loss and nll_loss with reduction none (0): x [N, C, …] or [C], target [N, …].
std::optional<FactorRule> RowLoss(const Graph& g, const Node& n) {
  if (n.args.at(3).int_value() != 0 || !n.args.at(2).is_none()) return std::nullopt;
  const Value &x = Operand(g, n, 0), &target = Operand(g, n, 1);
  if (x.rank() < 2 || target.rank() != x.rank() - 1) return std::nullopt;
  FactorRule rule;
  const Dims rows = Iota(target.rank());
  Dims logits = rows;
  logits.insert(logits.begin() + 1, kWhole);
  rule.operands = {logits, rows};
  rule.results = {rows};
  return rule;
}

using RuleFn = std::optional<FactorRule> (*)(const Graph&, const Node&);
template <FactorRule (*kFn)(const Graph&, const Node&)>
std::optional<FactorRule> Some(const Graph& g, const Node& n) { return kFn(g, n); }

const std::map<std::string_view, RuleFn>& Table() {
  static const std::map<std::string_view, RuleFn> table = [] {
    std::map<std::string_view, RuleFn> t = {
        {"transpose", Some<Transpose>}, {"permute", Some<Transpose>}, {"t", Some<Transpose>}, {"numpy_T", Some<Transpose>},
        {"swapaxes", Some<Transpose>}, {"swapdims", Some<Transpose>},
        {"linear", Some<Linear>}, {"matmul", Some<Matmul>}, {"mm", Some<Matmul>}, {"bmm", Some<Matmul>}, {"mv", Some<Matmul>},
        {"dot", Some<Matmul>}, {"addmm", Some<AddMatmul>}, {"baddbmm", Some<AddMatmul>}, {"einsum", Einsum},
        {"embedding", Some<Embedding>}, {"one_hot", Some<OneHot>},
        {"layer_norm", Some<Norm>}, {"rms_norm", Some<Norm>}, {"native_layer_norm", Some<Norm>},
        {"softmax", Some<WholeDim1>}, {"_softmax", Some<WholeDim1>}, {"log_softmax", Some<WholeDim1>},
        {"_log_softmax", Some<WholeDim1>}, {"_safe_softmax", Some<WholeDim1>},
        {"cumsum", Some<WholeDim1>}, {"cumprod", Some<WholeDim1>}, {"logcumsumexp", Some<WholeDim1>}, {"glu", Some<WholeDim1>},
        {"slice", Some<WholeDim1>}, {"narrow", Some<WholeDim1>}, {"sort", Some<WholeDim1>}, {"argsort", Some<WholeDim1>},
        {"split", Some<WholeDim2>}, {"split_with_sizes", Some<WholeDim2>}, {"chunk", Some<WholeDim2>},
        {"tensor_split", Some<WholeDim2>}, {"topk", Some<WholeDim2>}, {"diff", Some<WholeDim2>},
        // Conversions along another axis of the mesh than the one that is partitioned.
        {"vary", Some<Pointwise>}, {"first", Some<Pointwise>}, {"all_reduce", Some<Pointwise>}, {"shard", Some<WholeDim1>},
        {"all_gather", Some<WholeDim1>}, {"reduce_scatter", Some<WholeDim1>}, {"mask", Some<WholeDim1>},
        {"pad_last", Some<WholeDim1>},
        {"select", Some<Select>}, {"unbind", Some<Select>}, {"cat", Some<Cat>}, {"stack", Some<Stack>},
        {"gather", Some<Gather>}, {"index_select", Some<IndexSelect>}, {"index", Index},
        {"sum", Some<Reduction<Combiner::kSum>>}, {"mean", Some<Reduction<Combiner::kMean>>},
        {"amax", Some<Reduction<Combiner::kNone>>}, {"amin", Some<Reduction<Combiner::kNone>>},
        {"logsumexp", Some<Reduction<Combiner::kNone>>}, {"var", Some<Reduction<Combiner::kNone>>},
        {"std", Some<Reduction<Combiner::kNone>>}, {"var_mean", Some<Reduction<Combiner::kNone>>},
        {"linalg_vector_norm", Some<VectorNorm>}, {"norm", Some<VectorNorm>}, {"max", Some<IndexReduction>}, {"min", Some<IndexReduction>}, {"argmax", Some<IndexReduction>},
        {"argmin", Some<IndexReduction>}, {"prod", Some<IndexReduction>}, {"any", Some<IndexReduction>},
        {"all", Some<IndexReduction>}, {"count_nonzero", Some<IndexReduction>},
        {"pad", Some<Pad>}, {"constant_pad_nd", Some<Pad>}, {"tril", Some<LastTwoWhole>}, {"triu", Some<LastTwoWhole>},
        {"flip", Some<FlipRoll>}, {"roll", Some<FlipRoll>}, {"repeat", Some<Repeat>}, {"repeat_interleave", RepeatInterleave},
        {"conv1d", Some<BatchOnly>}, {"conv2d", Some<BatchOnly>}, {"convolution", Some<BatchOnly>},
        {"cross_entropy_loss", RowLoss}, {"nll_loss", RowLoss}, {"nll_loss_nd", RowLoss},
    };
    for (const std::string_view name :
         {"add", "sub", "rsub", "mul", "div", "true_divide", "pow", "neg", "abs", "exp", "exp2", "expm1", "log", "log2", "log10",
          "log1p", "sin", "cos", "tan", "tanh", "sinh", "cosh", "asin", "acos", "atan", "atan2", "sigmoid", "relu", "relu6",
          "gelu", "silu", "mish", "selu", "celu", "elu", "leaky_relu", "hardtanh", "hardswish", "hardsigmoid", "softplus",
          "logsigmoid", "log_sigmoid", "softsign", "tanhshrink", "threshold", "sqrt", "rsqrt", "reciprocal", "square", "erf",
          "erfc", "where", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not", "logical_xor",
          "bitwise_and", "bitwise_or", "bitwise_not", "bitwise_xor", "__and__", "__or__", "__xor__", "maximum", "minimum",
          "fmax", "fmin", "clamp", "clamp_min", "clamp_max", "clip", "to", "_to_copy", "type_as", "masked_fill", "lerp",
          "addcmul", "addcdiv", "remainder", "fmod", "floor_divide", "sign", "sgn", "floor", "ceil", "round", "trunc",
          "frac", "isnan", "isinf", "isfinite", "nan_to_num", "logit", "xlogy", "hypot", "dropout", "alias", "detach", "clone",
          "contiguous", "zeros_like", "ones_like", "full_like", "empty_like", "expand", "expand_as", "broadcast_to", "lift_fresh_copy",
          "float_power", "logaddexp", "copysign", "copy", "fill", "stop_gradient", "total", "positive", "real", "imag", "conj",
          "_conj"}) {
      t.emplace(name, Some<Pointwise>);
    }
    return t;
  }();
  return table;
}

bool OneOf(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

bool FactorRule::InResults(int factor) const {
  return std::any_of(results.begin(), results.end(), [&](const Dims& dims) {
    return std::find(dims.begin(), dims.end(), factor) != dims.end();
  });
}

std::optional<FactorRule> RuleOf(const Graph& graph, const Node& node) {
  const auto it = Table().find(ir::ShortName(node.op));
  if (it == Table().end() || node.results.empty()) return std::nullopt;
  std::optional<FactorRule> rule = it->second(graph, node);
  // Sizes as recorded may be other than what the op makes: a rule for other ranks is none.
  const auto fits = [&](const std::vector<Dims>& dims, const std::vector<ir::ValueId>& values) {
    return std::equal(dims.begin(), dims.end(), values.begin(), values.end(),
                      [&](const Dims& d, ir::ValueId v) { return d.size() == graph.value(v).sizes.size(); });
  };
  if (rule && !(fits(rule->operands, node.Operands()) && fits(rule->results, node.results))) return std::nullopt;
  return rule;
}

bool IsReshape(const Node& node) {
  if (node.op == "aten.view.dtype") return false;
  return OneOf(ir::ShortName(node.op), {"view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze",
                                        "view_as", "reshape_as", "ravel"});
}

std::optional<ir::Placement> MapReshape(const ir::Placement& p, const std::vector<int64_t>& from,
                                        const std::vector<int64_t>& to) {
  const auto product = [](const std::vector<int64_t>& v, size_t begin, size_t end) {
    return std::accumulate(v.begin() + begin, v.begin() + end, int64_t{1}, std::multiplies<>());
  };
  const int64_t before = product(from, 0, p.dim) * p.outer, after = p.inner * product(from, p.dim + 1, from.size());
  if (before == 0 || after == 0) return std::nullopt;
  for (size_t d = 0; d < to.size(); ++d) {
    const int64_t a = product(to, 0, d), c = product(to, d + 1, to.size());
    if (a == 0 || c == 0 || before % a != 0 || after % c != 0) continue;
    if (before / a * p.valid * (after / c) != to[d]) continue;
    return ir::Placement::Sharded(static_cast<int>(d), p.valid, p.block, before / a, after / c);
  }
  return std::nullopt;
}

std::optional<int> LinearOperand(const Node& node) {
  const std::string_view name = ir::ShortName(node.op);
  if (IsReshape(node)) return 0;
  if (OneOf(name, {"neg", "sum", "transpose", "permute", "t", "expand", "clone", "contiguous", "alias", "detach", "stop_gradient",
                   "select", "slice", "mean", "positive", "total", "vary", "first", "shard", "all_gather", "reduce_scatter",
                   "pad_last"})) return 0;
  if (name == "all_reduce" && node.args[1].s == "sum") return 0;
  if (name == "mask" && node.args[3].is_number() && node.args[3].number() == 0) return 0;
  if (name == "mul") return 0;  // or 1: the caller exchanges
  if (name == "div" && node.args.size() == 2) return 0;
  return std::nullopt;
}

std::optional<int> SizesArgument(const Node& node) {
  if (!node.Operands().empty()) return std::nullopt;
  if (OneOf(ir::ShortName(node.op), {"full", "zeros", "ones", "empty"})) return 0;
  return std::nullopt;
}

bool IsRandom(const Node& node) {
  return OneOf(ir::ShortName(node.op), {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like",
                                        "bernoulli", "multinomial", "normal", "uniform", "exponential", "native_dropout",
                                        "feature_dropout", "alpha_dropout", "rrelu", "rrelu_with_noise", "poisson"});
}

}  // namespace autospc::partition
