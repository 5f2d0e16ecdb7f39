#include "codegen/cost.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "codegen/collectives.h"
#include "passes/ir/micro_batches.h"
#include "passes/memory/storage.h"

namespace autospc::codegen {
namespace {

using ir::Arg;
using ir::Graph;
using ir::Node;
using ir::Value;
using ir::ValueId;

constexpr auto kMatmuls = std::to_array<std::string_view>(
    {"addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "convolution", "convolution_backward", "dot", "linear", "matmul", "mm", "mv",
     "vdot"});
constexpr auto kExponentials = std::to_array<std::string_view>(
    {"_log_softmax", "_log_softmax_backward_data", "_softmax", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "celu", "cos",
     "cosh", "digamma", "dropout", "elu", "erf", "erfc", "erfinv", "exp", "exp2", "expm1", "gelu", "gelu_backward", "lgamma", "log", "log10",
     "log1p", "log2", "log_sigmoid_backward", "log_sigmoid_forward", "logaddexp", "logcumsumexp", "logit", "logsumexp", "mish",
     "mish_backward", "sigmoid", "silu", "silu_backward", "sin", "sinh", "softplus", "softplus_backward", "tan", "tanh", "xlogy"});
constexpr auto kReductions = std::to_array<std::string_view>(
    {"all", "amax", "amin", "any", "argmax", "argmin", "cummax", "cumprod", "cumsum", "grad_norm", "linalg_vector_norm", "max", "mean",
     "min", "mse_loss", "native_batch_norm", "native_batch_norm_backward", "native_group_norm", "native_group_norm_backward",
     "native_layer_norm", "native_layer_norm_backward", "norm", "prod", "std", "std_mean", "sum", "var", "var_mean"});
// Ops that read or write only the rows that an index picks.
constexpr auto kGathers = std::to_array<std::string_view>(
    {"_unsafe_index", "_unsafe_index_put", "embedding", "embedding_dense_backward", "gather", "index", "index_add", "index_copy",
     "index_put", "index_select", "nll_loss2d_backward", "nll_loss2d_forward", "nll_loss_backward", "nll_loss_forward",
     "scatter", "scatter_add", "scatter_reduce", "sort", "take", "take_backward", "topk"});
// Of these the first operand is read only where the index says: as many bytes as the result has.
constexpr auto kPicks = std::to_array<std::string_view>(
    {"_unsafe_index", "embedding", "gather", "index", "index_select", "nll_loss2d_forward", "nll_loss_forward", "select_copy",
     "shard", "slice_copy", "take"});
constexpr auto kCopies = std::to_array<std::string_view>(
    {"_reshape_copy", "_to_copy", "alias_copy", "clone", "contiguous", "copy", "copy_", "detach_copy", "expand_copy", "permute_copy",
     "reshape", "t_copy", "transpose_copy", "view_copy"});

template <size_t N>
bool Has(const std::array<std::string_view, N>& sorted, std::string_view name) {
  return std::binary_search(sorted.begin(), sorted.end(), name);
}

// "aten.sum.dim_IntList" and "autosp.take" -> "sum", "take".
std::string_view BaseName(const Node& node) {
  return node.op.starts_with("autosp.") ? std::string_view(node.op).substr(7) : ir::ShortName(node.op);
}

bool IsCollective(std::string_view op) {
  return op.starts_with("autosp.all_to_all") || op.starts_with("autosp.all_gather") || op.starts_with("autosp.reduce_scatter") ||
         op.starts_with("autosp.all_reduce") || op == "autosp.pad_last";
}

// Whether the dim that lies closest in the result's memory is spread out in the operand's.
bool Transposes(const Value& from, const Value& to) {
  if (from.strides.size() != to.sizes.size() || to.strides.size() != to.sizes.size()) return false;
  for (size_t d = to.sizes.size(); d-- > 0;) {
    if (to.sizes[d].value() > 1 && to.strides[d].value() == 1) return from.strides[d].value() > 1;
  }
  return false;
}

// pow(x, 2), pow(x, 0.5) and the like are no exponentials.
bool IsPower(const Node& node, std::string_view name) {
  if (name != "pow") return false;
  if (node.args.size() < 2 || !node.args[1].is_number()) return true;
  const double exponent = node.args[1].number();
  return !(exponent == 2 || exponent == 3 || std::abs(exponent) == 0.5 || std::abs(exponent) == 1 || exponent == -2);
}

// Of memory that a value's elements lie in: expanded dims count once.
double Bytes(const Value& value) {
  return static_cast<double>(std::min(value.bytes(), memory::ExtentBytes(value)));
}

double BytesMoved(const Graph& graph, const Node& node, std::string_view name) {
  double results = 0, moved = 0;
  for (ValueId v : node.results) {
    if (graph.value(v).base == ir::kNoValue) results += Bytes(graph.value(v));
  }
  const std::vector<ValueId> written = memory::WrittenOperands(node);
  // What is wholly overwritten is not read.
  const bool overwrites = name == "copy_" || name == "fill_" || name == "zero_";
  const bool picks = Has(kPicks, name);
  std::vector<ValueId> seen;
  for (ValueId v : node.Operands()) {
    if (std::find(seen.begin(), seen.end(), v) != seen.end()) continue;
    const bool first = seen.empty();
    seen.push_back(v);
    const double bytes = Bytes(graph.value(v));
    if (picks && first) {
      moved += std::min(bytes, results);
    } else if (!(overwrites && first)) {
      moved += bytes;
    }
    if (std::find(written.begin(), written.end(), v) != written.end()) moved += bytes;
  }
  return moved + results;
}

}  // namespace

std::string_view Name(OpKind kind) {
  static constexpr std::array<std::string_view, kNumOpKinds> kNames = {
      "view", "matmul", "attention", "attention backward", "elementwise", "exponential", "reduction", "gather", "transpose", "collective"};
  return kNames[static_cast<size_t>(kind)];
}

OpKind KindOf(const Graph& graph, const Node& node) {
  if (!memory::IsInstruction(graph, node)) return OpKind::kView;
  if (node.op == "autosp.attention") return OpKind::kAttention;
  if (node.op == "autosp.attention_backward") return OpKind::kAttentionBackward;
  if (IsCollective(node.op)) return OpKind::kCollective;
  const std::string_view name = BaseName(node);
  if (name.starts_with("_scaled_dot_product")) return name.find("backward") == name.npos ? OpKind::kAttention : OpKind::kAttentionBackward;
  if (Has(kMatmuls, name)) return OpKind::kMatmul;
  if (Has(kExponentials, name) || IsPower(node, name)) return OpKind::kExponential;
  if (Has(kReductions, name)) return OpKind::kReduction;
  if (Has(kGathers, name)) return OpKind::kGather;
  if (Has(kCopies, name) && !node.results.empty() && node.args[0].is_value() &&
      Transposes(graph.value(node.args[0].value), graph.value(node.results[0]))) {
    return OpKind::kTranspose;
  }
  return OpKind::kElementwise;
}

NodeCost& NodeCost::operator+=(const NodeCost& other) {
  seconds += other.seconds;
  flops += other.flops;
  bytes_moved += other.bytes_moved;
  bytes_sent += other.bytes_sent;
  return *this;
}

double CostModel::ComputeSeconds(const Graph& graph, const Node& node, OpKind kind, const NodeCost& cost) const {
  const auto memory = [&](double rate) {
    const double near = std::min(cost.bytes_moved, rates_.cache_bytes);
    return (near / rates_.cached + cost.bytes_moved - near) / rate;
  };
  switch (kind) {
    case OpKind::kView: return 0;
    case OpKind::kMatmul: {
      const ValueId v = node.results.empty() ? node.Operands()[0] : node.results[0];
      return std::max(cost.flops / rates_.Matmul(graph.value(v).dtype), memory(rates_.elementwise));
    }
    case OpKind::kAttention:
    case OpKind::kAttentionBackward: {
      const bool backward = kind == OpKind::kAttentionBackward;
      const Value& q = graph.value(node.args[backward ? 1 : 0].value);
      const Value& v = graph.value(node.args[backward ? 3 : 2].value);
      // Forward: two products, q k^T and p v; backward five. FlopCounter counts so.
      const double pair = 2.0 * static_cast<double>(q.sizes.back().value() + v.sizes.back().value()) * (backward ? 2.5 : 1);
      const double products = cost.flops / rates_.Attention(q.dtype, backward);
      const double softmax = pair == 0 ? 0 : cost.flops / pair / rates_.scores;
      return std::max(products + softmax, memory(rates_.elementwise));
    }
    case OpKind::kElementwise:
    case OpKind::kCollective: return memory(rates_.elementwise);
    case OpKind::kExponential: return memory(rates_.exponential);
    case OpKind::kReduction: return memory(rates_.reduction);
    case OpKind::kGather: return memory(rates_.gather);
    case OpKind::kTranspose: return memory(rates_.transpose);
  }
  return 0;
}

NodeCost CostModel::Cost(const Graph& graph, const Node& node) {
  const OpKind kind = KindOf(graph, node);
  NodeCost cost;
  if (kind == OpKind::kView) return cost;
  cost.flops = flops_.Count(graph, node);
  cost.bytes_moved = BytesMoved(graph, node, BaseName(node));
  cost.seconds = ComputeSeconds(graph, node, kind, cost) + rates_.instruction;
  if (const std::optional<int64_t> sent = BytesSent(graph, node, mesh_)) {
    cost.bytes_sent = static_cast<double>(*sent);
    // Neighbours along sp are near each other; a group along dp reaches over all ranks.
    const Axis axis = ir::AxisOf(node);
    const int doublings = std::bit_width(static_cast<unsigned>(mesh_.Size(axis) - 1));
    cost.seconds += cost.bytes_sent / rates_.Link(axis == Axis::kSp ? mesh_.sp : mesh_.ranks()) + rates_.latency * doublings;
  }
  return cost;
}

StepCost CostOfStep(const Graph& graph, const Mesh& mesh, const Rates& rates) {
  CostModel model(mesh, rates);
  StepCost step;
  int times = 1;
  for (ir::NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    const OpKind kind = KindOf(graph, node);
    if (kind == OpKind::kView) continue;
    const NodeCost cost = model.Cost(graph, node) * times;
    times = ir::TimesBehind(node, times);
    StepCost::Op& op = step.by_op[node.op];
    op.kind = std::max(op.kind, kind);  // an op's few transposing copies name the row
    ++op.count;
    op.cost += cost;
    step.total += cost;
  }
  return step;
}

namespace {

// All that Cost depends on, as bytes: the op, every operand's and result's type, sizes and strides, and the attributes
// of those ops whose work they decide.
class CostKey {
 public:
  const std::string& Make(const Graph& graph, const Node& node) {
    key_.assign(node.op);
    seen_.clear();
    for (const Arg& arg : node.args) {
      Add(static_cast<int64_t>(arg.kind));
      switch (arg.kind) {
        case Arg::Kind::kValue: AddOperand(graph.value(arg.value)); break;
        case Arg::Kind::kValueList:
          Add(static_cast<int64_t>(arg.values.size()));
          for (ValueId v : arg.values) v == ir::kNoValue ? Add(-1) : AddOperand(graph.value(v));
          break;
        case Arg::Kind::kInt: Add(arg.i.value()); break;
        case Arg::Kind::kFloat: Add(std::bit_cast<int64_t>(arg.f)); break;  // an exponent
        case Arg::Kind::kBool: Add(arg.b); break;
        case Arg::Kind::kBoolList:
          for (bool b : arg.bools) Add(b);
          break;
        case Arg::Kind::kString: Add(static_cast<int64_t>(arg.s.size())), key_ += arg.s; break;
        default: break;
      }
    }
    for (ValueId v : node.results) AddValue(graph.value(v));
    return key_;
  }

 private:
  void Add(int64_t x) { key_.append(reinterpret_cast<const char*>(&x), sizeof(x)); }
  // An operand that stands twice is read once.
  void AddOperand(const Value& value) {
    Add(std::find(seen_.begin(), seen_.end(), value.id) - seen_.begin());
    seen_.push_back(value.id);
    AddValue(value);
  }
  void AddValue(const Value& value) {
    Add(static_cast<int64_t>(value.dtype) | (value.base == ir::kNoValue ? 0 : 256) | static_cast<int64_t>(value.sizes.size()) << 9 |
        static_cast<int64_t>(value.strides.size()) << 20);
    for (const ir::Expr& e : value.sizes) Add(e.value());
    for (const ir::Expr& e : value.strides) Add(e.value());
  }

  std::string key_;
  std::vector<ValueId> seen_;
};

}  // namespace

recompute::CostFn KernelCosts(const Mesh& mesh, const Rates& rates) {
  struct State {
    State(const Mesh& mesh, const Rates& rates) : model(mesh, rates) {}
    CostModel model;
    CostKey key;
    std::unordered_map<std::string, double> known;  // looked up only: no order shows
  };
  auto state = std::make_shared<State>(mesh, rates);
  return [state](const Graph& graph, const Node& node) {
    if (!memory::IsInstruction(graph, node)) return 0.0;
    const auto [it, added] = state->known.try_emplace(state->key.Make(graph, node), 0);
    if (added) it->second = state->model.Cost(graph, node).seconds;
    return it->second;
  };
}

}  // namespace autospc::codegen
