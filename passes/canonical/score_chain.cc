#include "passes/canonical/score_chain.h"

#include <algorithm>
#include <set>

namespace autospc::canonical {
namespace {

using Kind = ScoreStep::Kind;

// "bhid,bhjd->bhij": the labels of both operands and of the result. Nothing for ellipses, repeated labels
// and other numbers of operands.
std::optional<std::vector<std::string>> Labels(const Node& node) {
  const Arg* equation = ArgAt(node, 0);
  if (!equation || equation->kind != Arg::Kind::kString) return std::nullopt;
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < equation->s.size(); ++i) {
    const char c = equation->s[i];
    if (c == ' ') continue;
    if (c == ',' || c == '-') {
      parts.emplace_back();
    } else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      parts.back() += c;
    } else if (c != '>') {
      return std::nullopt;
    }
  }
  if (parts.size() != 3 || node.args[1].values.size() != 2) return std::nullopt;
  for (const std::string& p : parts) {
    if (std::set<char>(p.begin(), p.end()).size() != p.size()) return std::nullopt;
  }
  return parts;
}

// The permutation that brings labels `from` to the order `to`; nothing if they differ.
std::optional<std::vector<int64_t>> Order(const std::string& from, const std::string& to) {
  if (from.size() != to.size()) return std::nullopt;
  std::vector<int64_t> order;
  for (const char c : to) {
    const size_t at = from.find(c);
    if (at == std::string::npos) return std::nullopt;
    order.push_back(static_cast<int64_t>(at));
  }
  return order;
}

class Matcher {
 public:
  Matcher(const Graph& graph, const Uses& uses) : graph_(graph), uses_(uses) {}

  std::optional<ScoreChain> Match(NodeId output) {
    const Node& node = graph_.node(output);
    chain_.output = output;
    ValueId probabilities = kNoValue;
    if (Is(node, "aten.matmul") || Is(node, "aten.bmm")) {
      probabilities = ValueAt(node, 0);
      chain_.v = ValueAt(node, 1);
    } else if (Is(node, "aten.einsum")) {
      probabilities = OutputEinsum(node);
    }
    if (probabilities == kNoValue || !Probabilities(probabilities)) return std::nullopt;
    std::reverse(chain_.steps.begin(), chain_.steps.end());
    return std::move(chain_);
  }

 private:
  bool OnlyHere(ValueId v) const {
    const auto it = uses_.find(v);
    if (it == uses_.end() || it->second.size() != 1) return false;
    return std::none_of(graph_.outputs.begin(), graph_.outputs.end(),
                        [&](const ir::GraphOutput& o) { return o.value == v; });
  }

  // Ops that leave each element where it is, or merge or split the leading dims only.
  ValueId Through(const Node& node) const {
    const ValueId x = ValueAt(node, 0);
    if (x == kNoValue || node.results.size() != 1) return kNoValue;
    const Value& in = graph_.value(x);
    const Value& out = graph_.value(node.results[0]);
    const std::string_view base = BaseName(node.op);
    if (base == "aten.contiguous" || base == "aten.clone" || base == "aten.alias") return x;
    if (base == "aten.to" || base == "aten._to_copy" || base == "aten.type_as") {
      return IsFloating(in.dtype) && IsFloating(out.dtype) ? x : kNoValue;
    }
    const bool same_rows = in.rank() >= 2 && out.rank() >= 2 && in.sizes[in.rank() - 1] == out.sizes[out.rank() - 1] &&
                           in.sizes[in.rank() - 2] == out.sizes[out.rank() - 2];
    const bool reshape = base == "aten.reshape" || base == "aten.view" || base == "aten._unsafe_view" ||
                         base == "aten.unsqueeze" || base == "aten.squeeze";
    if (reshape && same_rows) return x;
    return base == "aten.expand" && in.sizes == out.sizes ? x : kNoValue;
  }

  // From what multiplies v up to the softmax.
  bool Probabilities(ValueId v) {
    for (;;) {
      const Node* node = graph_.producer(v);
      if (!node || !OnlyHere(v)) return false;
      if (const ValueId x = Through(*node); x != kNoValue) {
        v = x;
      } else if ((Is(*node, "aten.dropout") || Is(*node, "aten.native_dropout")) && chain_.dropout_p == 0) {
        const bool train = BoolAt(*node, 2, true);
        if (train) chain_.dropout_p = NumberAt(*node, 1).value_or(0);
        v = ValueAt(*node, 0);
      } else if (Is(*node, "aten.softmax") || Is(*node, "aten._softmax") || Is(*node, "aten.special_softmax")) {
        const ValueId scores = ValueAt(*node, 0);
        const int rank = graph_.value(scores).rank();
        return WrapDim(IntAt(*node, 1, 0), rank) == rank - 1 && Scores(scores, 0);
      } else {
        return false;
      }
    }
  }

  // From the softmax's operand up to q k^T. Steps are appended outermost first.
  bool Scores(ValueId v, int depth) {
    constexpr int kLongest = 32;
    const Node* node = graph_.producer(v);
    if (!node || !OnlyHere(v) || depth > kLongest || node->results.size() != 1) return false;
    if (Product(*node)) return true;
    if (const ValueId x = Through(*node); x != kNoValue) return Scores(x, depth + 1);

    const size_t mark = chain_.steps.size();
    // Follows operand i with the step that `node` is; undone where it leads nowhere.
    const auto follow = [&](size_t i, ScoreStep step) {
      const ValueId x = ValueAt(*node, i);
      if (x == kNoValue || !IsFloating(graph_.value(x).dtype) || graph_.value(x).sizes != graph_.value(v).sizes)
        return false;
      step.node = node->id;
      chain_.steps.push_back(std::move(step));
      if (Scores(x, depth + 1)) return true;
      chain_.steps.resize(mark);
      return false;
    };
    const auto arg = [&](size_t i) { return i < node->args.size() ? node->args[i] : Arg::None(); };
    const std::string_view base = BaseName(node->op);
    if (base == "aten.mul" || (base == "aten.div" && node->args.size() == 2)) {
      const bool divides = base == "aten.div";
      if (follow(0, {.kind = Kind::kScale, .operand = arg(1), .inverted = divides})) return true;
      return !divides && follow(1, {.kind = Kind::kScale, .operand = arg(0)});
    }
    if (base == "aten.add" || base == "aten.sub") {
      if (NumberAt(*node, 2).value_or(1) != 1) return false;
      if (follow(0, {.kind = Kind::kAdd, .operand = arg(1), .inverted = base == "aten.sub"})) return true;
      return base == "aten.add" && follow(1, {.kind = Kind::kAdd, .operand = arg(0)});
    }
    if (base == "aten.masked_fill") {
      return follow(0, {.kind = Kind::kFill, .operand = arg(2), .condition = ValueAt(*node, 1)});
    }
    if (base == "aten.where" && node->args.size() == 3) {
      const ValueId condition = ValueAt(*node, 0);
      if (follow(1, {.kind = Kind::kKeep, .operand = arg(2), .condition = condition})) return true;
      return follow(2, {.kind = Kind::kFill, .operand = arg(1), .condition = condition});
    }
    return false;
  }

  // q k^T itself.
  bool Product(const Node& node) {
    if (Is(node, "aten.matmul") || Is(node, "aten.bmm")) {
      chain_.q = ValueAt(node, 0);
      chain_.k = ValueAt(node, 1);
      chain_.k_transposed = true;
    } else if (Is(node, "aten.baddbmm")) {
      chain_.q = ValueAt(node, 1);
      chain_.k = ValueAt(node, 2);
      chain_.k_transposed = true;
      const double beta = NumberAt(node, 3).value_or(1), alpha = NumberAt(node, 4).value_or(1);
      if (beta != 0)
        chain_.steps.push_back({.kind = Kind::kAdd, .node = node.id, .operand = node.args[0], .times = beta});
      if (alpha != 1) chain_.steps.push_back({.kind = Kind::kScale, .node = node.id, .operand = Arg::Float(alpha)});
    } else if (!Is(node, "aten.einsum") || !ProductEinsum(node)) {
      return false;
    }
    chain_.product = node.id;
    return chain_.q != kNoValue && chain_.k != kNoValue;
  }

  bool ProductEinsum(const Node& node) {
    const auto labels = Labels(node);
    if (!labels || (*labels)[2].size() < 2) return false;
    const std::string& out = (*labels)[2];
    const char i = out[out.size() - 2], j = out[out.size() - 1];
    const std::string batch = out.substr(0, out.size() - 2);
    for (const int left : {0, 1}) {
      const std::string& l = (*labels)[left];
      const std::string& r = (*labels)[1 - left];
      if (l.find(i) == std::string::npos || r.find(j) == std::string::npos) continue;
      std::string summed;
      for (const char c : l) {
        if (out.find(c) == std::string::npos) summed += c;
      }
      if (summed.size() != 1) return false;
      const auto left_order = Order(l, batch + i + summed), right_order = Order(r, batch + j + summed);
      if (!left_order || !right_order) return false;
      chain_.q = node.args[1].values[left];
      chain_.k = node.args[1].values[1 - left];
      chain_.q_order = *left_order;
      chain_.k_order = *right_order;
      chain_.k_transposed = false;
      return true;
    }
    return false;
  }

  // The product with v as an einsum: the probabilities, or kNoValue.
  ValueId OutputEinsum(const Node& node) {
    const auto labels = Labels(node);
    if (!labels) return kNoValue;
    const std::string& out = (*labels)[2];
    for (const int left : {0, 1}) {
      const std::string& p = (*labels)[left];
      const std::string& v = (*labels)[1 - left];
      if (p.size() < 2) continue;
      const char i = p[p.size() - 2], j = p[p.size() - 1];
      const std::string batch = p.substr(0, p.size() - 2);
      std::string width;
      for (const char c : v) {
        if (p.find(c) == std::string::npos) width += c;
      }
      if (width.size() != 1 || out.find(j) != std::string::npos) continue;
      const auto v_order = Order(v, batch + j + width), out_order = Order(batch + i + width, out);
      if (!v_order || !out_order) continue;
      chain_.v = node.args[1].values[1 - left];
      chain_.v_order = *v_order;
      chain_.out_order = *out_order;
      return node.args[1].values[left];
    }
    return kNoValue;
  }

  const Graph& graph_;
  const Uses& uses_;
  ScoreChain chain_;
};

}  // namespace

std::optional<ScoreChain> MatchScoreChain(const Graph& graph, const Uses& uses, NodeId output) {
  return Matcher(graph, uses).Match(output);
}

}  // namespace autospc::canonical
