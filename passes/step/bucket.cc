#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "passes/step/order.h"
#include "passes/step/register.h"

namespace autospc::step {
namespace {

using ir::Arg;
using ir::Graph;
using ir::kNoValue;
using ir::Node;
using ir::NodeId;
using ir::Value;
using ir::ValueId;

class Bucketing {
 public:
  Bucketing(Graph& graph, int64_t bucket_bytes)
      : graph_(graph), order_(graph), users_(graph.AllUsers()), limit_(bucket_bytes), placed_(IsPlaced(graph)) {
    for (const ir::GraphOutput& out : graph.outputs) {
      (out.kind == ir::OutputKind::kGradient ? gradients_ : other_outputs_).insert(out.value);
    }
    for (int i = 0; i < order_.size(); ++i) {
      const Node& node = graph_.node(order_.at(i));
      if (IsGradientReduction(node)) ++reductions_of_[order_.Owner(node.args[0].value)];
    }
  }

  bool Run() {
    std::map<ir::DType, std::vector<NodeId>> open;  // by dtype: the all-reduces that wait
    std::map<ir::DType, int64_t> bytes;
    for (int i = 0; i < order_.size(); ++i) {
      const Node& node = graph_.node(order_.at(i));
      if (!IsGradientReduction(node)) continue;
      const Value& gradient = graph_.value(node.results[0]);
      if (gradient.bytes() >= limit_) {  // a bucket of its own; the small ones beside it go on gathering
        std::vector<NodeId> alone = {node.id};
        Close(alone, order_.Behind(i));
        continue;
      }
      std::vector<NodeId>& bucket = open[gradient.dtype];
      int64_t& filled = bytes[gradient.dtype];
      if (!bucket.empty() && filled + gradient.bytes() > limit_) {
        Close(bucket, node.id);
        filled = 0;
      }
      bucket.push_back(node.id);
      filled += gradient.bytes();
    }
    const NodeId end = EndOfBackward();
    for (auto& [dtype, bucket] : open) {
      if (!bucket.empty()) Close(bucket, end);
    }
    if (replaced_.empty()) return false;
    Replace();
    return true;
  }

 private:
  // Its result is read by nothing, or only through views that are gradients themselves.
  bool IsGradientReduction(const Node& node) const {
    if (node.op != "autosp.all_reduce" || node.phase != ir::Phase::kBackward || node.args[1].s != "sum") return false;
    const ValueId v = node.results[0];
    return graph_.value(v).base == kNoValue && OnlyGradient(v) && graph_.value(node.args[0].value).numel() > 0;
  }

  bool OnlyGradient(ValueId v) const {
    if (other_outputs_.contains(v)) return false;
    const auto users = users_.find(v);
    if (users == users_.end()) return gradients_.contains(v);
    return std::all_of(users->second.begin(), users->second.end(), [&](NodeId id) {
      const Node& user = graph_.node(id);
      return user.results.size() == 1 && graph_.value(user.results[0]).base != kNoValue && OnlyGradient(user.results[0]);
    });
  }

  // What is left unreduced at the end goes before the first node of the step, if there is one already.
  NodeId EndOfBackward() const {
    for (int i = 0; i < order_.size(); ++i) {
      if (graph_.node(order_.at(i)).phase == ir::Phase::kStep) return order_.at(i);
    }
    return ir::kNoNode;
  }

  void Close(std::vector<NodeId>& bucket, NodeId before) {
    if (bucket.size() == 1 && ReduceOwnStorage(bucket[0], before)) {
      bucket.clear();
      return;
    }
    std::vector<ValueId> addends;
    int64_t numel = 0;
    for (NodeId id : bucket) {
      addends.push_back(graph_.node(id).args[0].value);
      numel += graph_.value(addends.back()).numel();
    }
    const Value& first = graph_.value(addends[0]);
    const ir::Placement placement = first.placement;
    const ValueId flat = graph_.AddValue("bucket", first.dtype, {ir::Expr(numel)}, {ir::Expr(1)});
    if (placed_) graph_.value(flat).placement = placement;
    Add("autosp.pack", {Arg::Values(addends)}, {flat}, before, bucket.back());
    Add("autosp.all_reduce_", {Arg::Value(flat), Arg::String("sum")}, {}, before, bucket.back());
    int64_t at = 0;
    for (NodeId id : bucket) {
      const ValueId old = graph_.node(id).results[0];
      const std::vector<ir::Expr> sizes = graph_.value(old).sizes;
      replaced_[old] = ViewOf(flat, sizes, ContiguousStrides(sizes), at, before, id);
      at += graph_.value(old).numel();
    }
    bucket.clear();
  }

  // Elements from the start of the storage of `flat`.
  ValueId ViewOf(ValueId flat, const std::vector<ir::Expr>& sizes, const std::vector<ir::Expr>& strides, int64_t at,
                 NodeId before, NodeId like) {
    const ValueId v = graph_.AddValue("gradient", graph_.value(flat).dtype, sizes, strides);
    graph_.value(v).base = flat;
    graph_.value(v).byte_offset = at * ir::ByteSize(graph_.value(v).dtype);
    if (placed_) graph_.value(v).placement = ir::Placement::Replicated();
    Add("aten.as_strided.default", {Arg::Value(flat), Arg::Ints(sizes), Arg::Ints(strides), Arg::Int(at)}, {v}, before, like);
    return v;
  }

  // x's storage holds x and nothing else, contiguous, and nobody reads it but this all-reduce and nodes that stand
  // before it and stay there (another bucket's pack would come later): then it is reduced where it lies, and the
  // gradient has x's strides.
  bool ReduceOwnStorage(NodeId id, NodeId before) {
    const Node& node = graph_.node(id);
    const Value& x = graph_.value(node.args[0].value);
    const ValueId root = x.base == kNoValue ? x.id : x.base;
    const Value& own = graph_.value(root);
    const bool whole = own.producer != ir::kNoNode && own.dtype == x.dtype && own.numel() == x.numel() &&
                       own.strides == ContiguousStrides(own.sizes) && x.byte_offset == 0 && IsDense(x);
    if (!whole || order_.last_use(root) > order_.position(id) || IsOutput(root)) return false;
    if (reductions_of_[root] > 1 || users_.contains(node.results[0])) return false;
    Add("autosp.all_reduce_", {Arg::Value(root), Arg::String("sum")}, {}, before, id);
    replaced_[node.results[0]] = ViewOf(root, x.sizes, x.strides, 0, before, id);
    return true;
  }

  // Each element of the storage once: a permutation of a contiguous layout.
  static bool IsDense(const Value& x) {
    std::vector<std::pair<int64_t, int64_t>> dims;  // stride, size
    for (size_t d = 0; d < x.sizes.size(); ++d) {
      if (x.sizes[d].value() != 1) dims.emplace_back(x.strides[d].value(), x.sizes[d].value());
    }
    std::sort(dims.begin(), dims.end());
    int64_t expected = 1;
    for (const auto& [stride, size] : dims) {
      if (stride != expected) return false;
      expected *= size;
    }
    return true;
  }

  // An output with views of `root`: it must keep its unreduced value.
  bool IsOutput(ValueId root) const {
    const auto same = [&](ValueId v) { return v == root || graph_.value(v).base == root; };
    return std::any_of(gradients_.begin(), gradients_.end(), same) ||
           std::any_of(other_outputs_.begin(), other_outputs_.end(), same);
  }

  void Add(std::string op, std::vector<Arg> args, std::vector<ValueId> results, NodeId before, NodeId like) {
    Node& node = graph_.node(graph_.AddNode(std::move(op), std::move(args), std::move(results), before));
    node.phase = ir::Phase::kBackward;
    node.source = graph_.node(like).source;
    node.module = graph_.node(like).module;
  }

  // One sweep: uses and bases of the old results, views that now stand before their bucket, then the old nodes.
  void Replace() {
    std::vector<NodeId> old_nodes;
    for (const auto& [old, now] : replaced_) old_nodes.push_back(graph_.value(old).producer);
    std::vector<std::pair<NodeId, NodeId>> moves;  // a view of an old result, and the node that now makes its operand
    const std::vector<NodeId> nodes(graph_.nodes().begin(), graph_.nodes().end());
    for (NodeId id : nodes) {
      Node& node = graph_.node(id);
      for (Arg& a : node.args) {
        if (a.kind == Arg::Kind::kValue) Rename(a.value);
        for (ValueId& v : a.values) Rename(v);
      }
      for (ValueId r : node.results) {
        Value& value = graph_.value(r);
        const auto it = value.base == kNoValue ? replaced_.end() : replaced_.find(value.base);
        if (it == replaced_.end()) continue;
        const Value& now = graph_.value(it->second);
        value.byte_offset += now.byte_offset;
        value.base = now.base;
        moves.emplace_back(id, now.producer);
      }
    }
    // A view follows its operand, in the order in which the views stood.
    std::map<NodeId, NodeId> last_behind;
    for (const auto& [view, producer] : moves) {
      const NodeId anchor = last_behind.contains(producer) ? last_behind[producer] : producer;
      graph_.MoveBefore(view, Next(anchor));
      last_behind[producer] = view;
    }
    for (ir::GraphOutput& out : graph_.outputs) Rename(out.value);
    for (NodeId id : old_nodes) graph_.EraseNode(id);
  }

  NodeId Next(NodeId id) const {
    auto it = std::find(graph_.nodes().begin(), graph_.nodes().end(), id);
    return ++it == graph_.nodes().end() ? ir::kNoNode : *it;
  }

  void Rename(ValueId& v) const {
    const auto it = replaced_.find(v);
    if (it != replaced_.end()) v = it->second;
  }

  Graph& graph_;
  Order order_;
  std::map<ValueId, std::vector<NodeId>> users_;
  int64_t limit_;
  bool placed_;
  std::set<ValueId> gradients_, other_outputs_;
  std::map<ValueId, int> reductions_of_;  // by storage: the all-reduces that read it
  std::map<ValueId, ValueId> replaced_;  // an all-reduce's result -> the gradient in its bucket
};

}  // namespace

Result<bool> BucketGradients(Graph& graph, PassContext& context) {
  return Bucketing(graph, std::max<int64_t>(context.bucket_bytes, 1)).Run();
}

}  // namespace autospc::step
