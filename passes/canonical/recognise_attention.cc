// recognise-attention: attention, however written, becomes autosp.attention over a predicate.
//
// Masks differ in what a row without any allowed key gives: zero for a boolean mask of
// scaled_dot_product_attention (as autosp.attention), the mean of V for a finite minimum, NaN for -inf written by
// hand. So the latter two become predicates only where every row provably has a key.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "passes/canonical/attention.h"
#include "passes/canonical/attention_operands.h"
#include "passes/canonical/decompose_attention.h"
#include "passes/canonical/interpret.h"
#include "passes/canonical/register.h"
#include "passes/canonical/score_chain.h"

namespace autospc::canonical {
namespace {

// Scores of this and below are as good as -inf: exp(x - max) is exactly zero in every type, unless other scores
// of the row lie thousands below zero. Models write -1e4 (GPT-2 of old), -1e9 and the type's minimum.
constexpr double kLargestFill = -1e4;

class Recogniser {
 public:
  Recogniser(Graph& graph, PassContext& context)
      : graph_(graph), context_(context), constants_(graph, context.constants), uses_(graph.AllUsers()) {}

  bool Run() {
    bool changed = false;
    const std::vector<NodeId> nodes(graph_.nodes().begin(), graph_.nodes().end());
    for (const NodeId id : nodes) {
      if (!graph_.has_node(id)) continue;
      const Node& node = graph_.node(id);
      if (Is(node, "aten.scaled_dot_product_attention")) {
        changed |= FromSdpa(id);
      } else if (Is(node, "aten.matmul") || Is(node, "aten.bmm") || Is(node, "aten.einsum")) {
        changed |= FromChain(id);
      }
    }
    if (changed) ForgetStrides();
    changed |= graph_.EliminateDeadCode() > 0;
    NoteScores();
    return changed;
  }

 private:
  // An attention's result is laid out otherwise than what it replaces, and what is computed from it may be, too.
  void ForgetStrides() {
    for (const NodeId id : graph_.nodes()) {
      for (const ValueId v : graph_.node(id).results) graph_.value(v).strides.clear();
    }
  }

  Interpreter& InterpreterFor(const ScoreShape& shape) {
    return interpreters_.try_emplace(shape, graph_, constants_, shape).first->second;
  }

  static ScoreShape ShapeOf(const HeadsOperand& q, const HeadsOperand& k) {
    return {q.sizes[0], q.sizes[1], q.sizes[2], k.sizes[2]};
  }

  // Where an additive mask leaves scores alone, the rest being at most `largest`. Nothing if it does anything else.
  std::optional<Predicate> FromCases(const std::vector<Case>& cases, double factor, double largest) {
    if (cases.size() == 1 && std::isfinite(cases[0].value)) return Predicate::True();  // the same for all: no effect
    std::vector<Predicate> allowed;
    for (const Case& c : cases) {
      if (c.value == 0) {
        allowed.push_back(c.when);
      } else if (!(c.value * factor <= largest)) {
        return std::nullopt;
      }
    }
    return Predicate::Or(std::move(allowed));
  }

  ValueId Emit(Attention a, HeadsOperand q, HeadsOperand k, HeadsOperand v, const Predicate& predicate,
               Interpreter& interpreter, const Node& node) {
    a.q = EmitOperand(graph_, q, node.id, node);
    a.k = EmitOperand(graph_, k, node.id, node);
    a.v = EmitOperand(graph_, v, node.id, node);
    a.predicate = interpreter.Materialise(predicate, &a.vectors);
    return EmitAttention(graph_, a, node.id, node);
  }

  // What stays explicit is said, with its cost: a softmax over keys whose result weights a product.
  void NoteScores() {
    const Uses uses = graph_.AllUsers();
    for (const NodeId id : graph_.nodes()) {
      const Node& node = graph_.node(id);
      if (!Is(node, "aten.softmax") && !Is(node, "aten._softmax")) continue;
      const Value& p = graph_.value(node.results[0]);
      if (p.rank() < 3 || WrapDim(IntAt(node, 1, 0), p.rank()) != p.rank() - 1 || !FeedsProduct(uses, p.id, 0))
        continue;
      Note note;
      note.what = fmt::format("attention with explicit scores {}", fmt::join(p.int_sizes(), " x "));
      note.why = "its mask, bias or score function is no predicate over positions";
      note.source = node.source;
      note.bytes = p.bytes();
      context_.notes.push_back(std::move(note));
    }
  }

  bool FeedsProduct(const Uses& uses, ValueId v, int depth) const {
    const auto it = uses.find(v);
    if (it == uses.end() || depth > 8) return false;
    return std::any_of(it->second.begin(), it->second.end(), [&](NodeId id) {
      const Node& user = graph_.node(id);
      if (Is(user, "aten.matmul") || Is(user, "aten.bmm")) return ValueAt(user, 0) == v;
      if (Is(user, "aten.einsum")) return true;
      static constexpr std::string_view kSteps[] = {
          "aten.to",   "aten.type_as", "aten._to_copy",    "aten.dropout",    "aten.reshape",
          "aten.view", "aten.slice",   "aten.masked_fill", "aten.contiguous", "aten.expand"};
      const bool step = std::find(std::begin(kSteps), std::end(kSteps), BaseName(user.op)) != std::end(kSteps);
      return step && FeedsProduct(uses, user.results[0], depth + 1);
    });
  }

  bool FromSdpa(NodeId id) {
    const Node node = graph_.node(id);  // a copy: emitting moves nothing under it
    Attention a;
    const DType dtype = graph_.value(ValueAt(node, sdpa::kQuery)).dtype;
    HeadsOperand q = TraceOperand(graph_, ValueAt(node, sdpa::kQuery), false, false, dtype);
    HeadsOperand k = TraceOperand(graph_, ValueAt(node, sdpa::kKey), false, false, dtype);
    HeadsOperand v = TraceOperand(graph_, ValueAt(node, sdpa::kValue), false, false, dtype);
    if (!AgreeOnSizes(graph_, &q, &k, &v)) return DecomposeSdpa(graph_, id);
    a.scale = NumberAt(node, sdpa::kScale).value_or(1 / std::sqrt(static_cast<double>(q.sizes[3])));
    a.dropout_p = NumberAt(node, sdpa::kDropout).value_or(0);

    const ScoreShape shape = ShapeOf(q, k);
    Interpreter& interpreter = InterpreterFor(shape);
    std::optional<Predicate> predicate = Predicate::True();
    if (BoolAt(node, sdpa::kCausal, false)) predicate = Predicate::Causal();
    if (const ValueId mask = ValueAt(node, sdpa::kMask); mask != kNoValue) {
      if (graph_.value(mask).dtype == DType::kBool) {
        predicate = interpreter.ReadBoolean(mask);
        if (predicate) predicate = interpreter.Finish(*predicate);
      } else {
        const auto cases = interpreter.ReadCases(mask);
        predicate = cases ? FromCases(*cases, 1, kLargestFill) : std::nullopt;
        if (predicate) predicate = interpreter.Finish(*predicate);
        if (predicate && !NoRowIsEmpty(*predicate, shape.q, shape.k)) predicate.reset();
      }
    }
    if (!predicate) return DecomposeSdpa(graph_, id);
    const ValueId out = Emit(a, q, k, v, *predicate, interpreter, node);
    const std::vector<int64_t> sizes = graph_.value(node.results[0]).int_sizes();
    graph_.ReplaceUses(node.results[0], EmitReshape(graph_, out, sizes, id, node));
    return true;
  }

  std::optional<double> ConstantOf(const Arg& arg, Interpreter& interpreter) {
    if (arg.kind == Arg::Kind::kFloat || arg.kind == Arg::Kind::kBool) return arg.number();
    if (arg.kind == Arg::Kind::kInt && arg.i.is_const()) return arg.number();
    if (!arg.is_value()) return std::nullopt;
    return interpreter.At(arg.value, Index(graph_.value(arg.value).rank())).Constant();
  }

  // The scale and the predicate of the steps between q k^T and the softmax.
  std::optional<Predicate> ReadSteps(const std::vector<ScoreStep>& steps, Interpreter& interpreter, double* scale) {
    Predicate allowed = Predicate::True();
    double later = 1;  // the factors still to come, by which a fill is scaled
    for (size_t i = steps.size(); i-- > 0;) {
      const ScoreStep& step = steps[i];
      if (step.kind == ScoreStep::Kind::kScale) {
        if (step.operand.is_value() && graph_.value(step.operand.value).numel() != 1) return std::nullopt;
        const auto c = ConstantOf(step.operand, interpreter);
        if (!c || !(*c > 0) || !std::isfinite(*c)) return std::nullopt;
        later *= step.inverted ? 1 / *c : *c;
        continue;
      }
      std::optional<Predicate> keeps;
      if (step.kind == ScoreStep::Kind::kAdd) {
        const double sign = (step.inverted ? -1 : 1) * step.times;
        if (step.operand.is_value()) {
          const auto cases = interpreter.ReadCases(step.operand.value);
          if (cases) keeps = FromCases(*cases, sign * later, kLargestFill);
        } else if (ConstantOf(step.operand, interpreter)) {
          keeps = Predicate::True();
        }
      } else {
        std::optional<double> fill = ConstantOf(step.operand, interpreter);
        if (step.operand.is_value() && graph_.value(step.operand.value).numel() != 1) {
          const auto cases = interpreter.ReadCases(step.operand.value);
          fill = cases && cases->size() == 1 ? std::optional(cases->front().value) : std::nullopt;
        }
        if (!fill || !(*fill * later <= kLargestFill)) return std::nullopt;
        keeps = interpreter.ReadBoolean(step.condition);
        if (keeps && step.kind == ScoreStep::Kind::kFill) keeps = Predicate::Not(*keeps);
      }
      if (!keeps) return std::nullopt;
      allowed = Predicate::And({allowed, *keeps});
    }
    *scale *= later;
    return interpreter.Finish(allowed);
  }

  bool FromChain(NodeId id) {
    const auto chain = MatchScoreChain(graph_, uses_, id);
    if (!chain) return false;
    const Node node = graph_.node(id);
    const auto ordered = [&](ValueId v, const std::vector<int64_t>& order) {
      return order.empty() ? v : EmitPermute(graph_, v, order, id, node);  // dead again if this comes to nothing
    };
    const DType dtype = graph_.value(chain->v).dtype;
    HeadsOperand q = TraceOperand(graph_, ordered(chain->q, chain->q_order), false, true, dtype);
    HeadsOperand k = TraceOperand(graph_, ordered(chain->k, chain->k_order), chain->k_transposed, true, dtype);
    HeadsOperand v = TraceOperand(graph_, ordered(chain->v, chain->v_order), false, false, dtype);
    if (!AgreeOnSizes(graph_, &q, &k, &v)) return false;

    const ScoreShape shape = ShapeOf(q, k);
    Interpreter& interpreter = InterpreterFor(shape);
    Attention a;
    a.scale = q.scale * k.scale;
    a.dropout_p = chain->dropout_p;
    const auto predicate = ReadSteps(chain->steps, interpreter, &a.scale);
    if (!predicate || !NoRowIsEmpty(*predicate, shape.q, shape.k)) return false;
    ValueId out = Emit(a, q, k, v, *predicate, interpreter, node);
    const Value result = graph_.value(node.results[0]);
    if (!chain->out_order.empty()) {
      if (chain->out_order.size() == 3) {
        out = EmitReshape(graph_, out, {shape.batch * shape.heads, shape.q, v.sizes[3]}, id, node);
      }
      out = EmitPermute(graph_, out, chain->out_order, id, node);
    }
    out = EmitReshape(graph_, out, result.int_sizes(), id, node);
    if (graph_.value(out).dtype != result.dtype) {
      out = graph_.Emit("aten.to.dtype",
                        {Arg::Value(out), Arg::Type(result.dtype), Arg::Bool(false), Arg::Bool(false), Arg::None()},
                        result.dtype, result.sizes, id, &node);
    }
    graph_.ReplaceUses(node.results[0], out);
    return true;
  }

  Graph& graph_;
  PassContext& context_;
  Constants constants_;
  const Uses uses_;
  std::map<ScoreShape, Interpreter> interpreters_;
};

}  // namespace

Result<bool> RecogniseAttention(ir::Graph& graph, PassContext& context) { return Recogniser(graph, context).Run(); }

}  // namespace autospc::canonical
