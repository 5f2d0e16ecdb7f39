#include "codegen/flops.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "codegen/pairs.h"

namespace autospc::codegen {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

const Value& Operand(const Graph& graph, const Node& node, size_t i) { return graph.value(node.args[i].value); }

double Numel(const Value& value) { return static_cast<double>(value.numel()); }

double ResultNumel(const Graph& graph, const Node& node) {
  double n = 0;
  for (ir::ValueId v : node.results) n += Numel(graph.value(v));
  return n;
}

// 2 * result elements * length of the contracted dim, the last of operand `i`.
double Product(const Graph& graph, const Node& node, size_t i) {
  const Value& x = Operand(graph, node, i);
  return 2 * ResultNumel(graph, node) * static_cast<double>(x.sizes.empty() ? 1 : x.sizes.back().value());
}

// 2 * output elements * weights that each one reads.
double Convolution(const Value& output, const Value& weight, bool transposed) {
  const double channels = static_cast<double>(weight.sizes[transposed ? 1 : 0].value());
  return channels == 0 ? 0 : 2 * Numel(output) * Numel(weight) / channels;
}

// Transposed, the input elements are what each weight of a channel multiplies.
double ConvolutionForward(const Graph& graph, const Node& node) {
  const bool transposed = node.args.size() > 6 && node.args[6].b;
  const Value& weight = Operand(graph, node, 1);
  if (!transposed) return Convolution(graph.value(node.results[0]), weight, false);
  const double in_channels = static_cast<double>(weight.sizes[0].value());
  return in_channels == 0 ? 0 : 2 * Numel(Operand(graph, node, 0)) * Numel(weight) / in_channels;
}

// The gradients of input and weight cost a forward each, by output_mask (the last argument).
double ConvolutionBackward(const Graph& graph, const Node& node) {
  const double forward = Convolution(Operand(graph, node, 0), Operand(graph, node, 2), false);
  const ir::Arg& mask = node.args.back();
  double times = 0;
  for (size_t i = 0; i < 2 && i < mask.bools.size(); ++i) times += mask.bools[i];
  return forward * times;
}

// Ops whose work is proportional to their first operand, not to their result.
constexpr std::array<std::string_view, 22> kOperandSized = {
    "all", "amax", "amin", "any", "argmax", "argmin", "cumsum", "embedding_dense_backward", "logsumexp", "max", "mean",
    "min", "mse_loss", "native_layer_norm", "nll_loss2d_forward", "nll_loss_forward", "norm", "linalg_vector_norm",
    "prod", "sum", "var", "var_mean"};

double Other(const Graph& graph, const Node& node) {
  const std::string_view name = ir::ShortName(node.op);
  if (std::find(kOperandSized.begin(), kOperandSized.end(), name) != kOperandSized.end() && node.args[0].is_value()) {
    return std::max(Numel(Operand(graph, node, 0)), ResultNumel(graph, node));
  }
  if (node.results.empty()) {  // an effect: the largest operand
    double n = 0;
    for (ir::ValueId v : node.Operands()) n = std::max(n, Numel(graph.value(v)));
    return n;
  }
  return ResultNumel(graph, node);
}

}  // namespace

double FlopCounter::Count(const Graph& graph, const Node& node) {
  const std::string& op = node.op;
  if (op == "autosp.attention") return Attention(graph, node, false);
  if (op == "autosp.attention_backward") return Attention(graph, node, true);
  if (!op.starts_with("aten.")) return op.starts_with("autosp.") ? Other(graph, node) : ResultNumel(graph, node);
  const std::string_view name = ir::ShortName(op);
  if (name == "mm" || name == "bmm" || name == "mv" || name == "matmul" || name == "linear") return Product(graph, node, 0);
  if (name == "addmm" || name == "baddbmm" || name == "addmv") return Product(graph, node, 1);
  if (name == "dot" || name == "vdot") return 2 * Numel(Operand(graph, node, 0));
  if (name == "convolution") return ConvolutionForward(graph, node);
  if (name == "convolution_backward") return ConvolutionBackward(graph, node);
  if (name == "_scaled_dot_product_flash_attention_for_cpu" || name == "_scaled_dot_product_attention_math") {
    const Value& q = Operand(graph, node, 0);
    const Value& k = Operand(graph, node, 1);
    return 4 * Numel(q) * static_cast<double>(k.sizes[k.rank() - 2].value());
  }
  return Other(graph, node);
}

double FlopCounter::Attention(const Graph& graph, const Node& node, bool backward) {
  // attention(q, k, v, vectors, predicate, scale, q_sharded, q_valid, …);
  // attention_backward(grad_out, q, k, v, vectors, out, lse, predicate, scale, q_sharded, q_valid, …).
  const size_t first = backward ? 1 : 0, attributes = backward ? 7 : 4;
  const Value& q = Operand(graph, node, first);
  const Value& k = Operand(graph, node, first + 1);
  const Value& v = Operand(graph, node, first + 2);
  const auto size = [](const Value& x, int d) { return x.sizes[d].value(); };
  const int64_t pairs = Pairs(node.args[attributes].s, node.args[attributes + 2].b, size(q, 2),
                              node.args[attributes + 3].int_value(), size(k, 2));
  const double forward = 2.0 * static_cast<double>(pairs) * static_cast<double>(size(q, 0) * size(q, 1)) *
                         static_cast<double>(size(q, 3) + size(v, 3));
  return backward ? 2.5 * forward : forward;  // five products for two
}

int64_t FlopCounter::Pairs(const std::string& predicate, bool q_sharded, int64_t q_len, int64_t q_valid, int64_t k_len) {
  const auto key = std::tuple(predicate, q_sharded, q_len, q_valid, k_len);
  if (const auto it = pairs_.find(key); it != pairs_.end()) return it->second;
  const Result<Predicate> parsed = Predicate::Parse(predicate);
  int64_t most = 0;
  if (!parsed.ok()) {
    most = q_len * k_len;  // lowering refuses it before
  } else {
    for (int rank = 0; rank < (q_sharded ? mesh_.sp : 1); ++rank) {
      most = std::max(most, CountAllowed(*parsed, rank * q_len, q_len, q_valid, k_len));
    }
  }
  return pairs_[key] = most;
}

}  // namespace autospc::codegen
