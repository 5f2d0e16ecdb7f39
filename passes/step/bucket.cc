#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "passes/step/order.h"
#include "passes/step/register.h"
#include "passes/step/zero.h"

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
  Bucketing(Graph& graph, const PassContext& context)
      : graph_(graph),
        order_(graph),
        uses_(graph),
        mesh_(context.mesh()),
        ranks_(context.ranks),
        placed_(IsPlaced(graph)),
        scatters_(placed_ && ZeroStage(context) == 2) {
    for (int i = 0; i < order_.size(); ++i) {
      const Node& node = graph_.node(order_.at(i));
      if (!IsGradientReduction(node)) continue;
      ++reductions_of_[order_.Owner(node.args[0].value)];
      gradient_bytes_ += graph_.value(node.results[0]).bytes();
    }
    limit_ = context.bucket_bytes > 0 ? context.bucket_bytes : DefaultBucketBytes(gradient_bytes_);
  }

  int64_t limit() const { return limit_; }

  bool Run() {
    std::map<Kind, Bucket> open;
    for (int i = 0; i < order_.size(); ++i) {
      const Node& node = graph_.node(order_.at(i));
      if (!IsGradientReduction(node)) continue;
      const Value& gradient = graph_.value(node.results[0]);
      const Axis axis = ir::AxisOf(node);
      const Kind kind = {gradient.dtype, axis, scatters_ && mesh_.Size(axis) == ranks_ && MayScatter(gradient.id)};
      if (gradient.bytes() >= limit_) {  // a bucket of its own; the small ones beside it go on gathering
        Bucket alone = {{node.id}, gradient.bytes()};
        Close(kind, alone, order_.Behind(i));
        continue;
      }
      Bucket& bucket = open[kind];
      if (!bucket.nodes.empty() && bucket.bytes + gradient.bytes() > limit_) Close(kind, bucket, node.id);
      bucket.nodes.push_back(node.id);
      bucket.bytes += gradient.bytes();
    }
    const NodeId end = EndOfBackward();
    for (auto& [kind, bucket] : open) {
      if (!bucket.nodes.empty()) Close(kind, bucket, end);
    }
    if (replaced_.empty() && scattered_.empty()) return false;
    Replace();
    return true;
  }

 private:
  struct Kind {
    ir::DType dtype;
    Axis axis;  // along which they are summed
    bool scatter;
    auto operator<=>(const Kind&) const = default;
  };
  struct Bucket {
    std::vector<NodeId> nodes;  // the all-reduces that wait
    int64_t bytes = 0;
  };

  // Eight of them: the last one, which nothing can hide, stays short, and so does what waits in memory.
  static int64_t DefaultBucketBytes(int64_t gradient_bytes) {
    return std::clamp<int64_t>(gradient_bytes / 8, int64_t{1} << 20, int64_t{25} << 20);
  }

  // Its result is read by nothing, or only through views that are gradients themselves.
  bool IsGradientReduction(const Node& node) const {
    if (node.op != "autosp.all_reduce" || node.phase != ir::Phase::kBackward || node.args[1].s != "sum") return false;
    const ValueId v = node.results[0];
    return graph_.value(v).base == kNoValue && uses_.OnlyGradient(v) && graph_.value(node.args[0].value).numel() > 0;
  }

  // Whether a block of the gradient is a block of this result: it is the result itself, or all of it in other dims.
  bool MayScatter(ValueId result) const {
    const Value& whole = graph_.value(result);
    return std::all_of(uses_.gradients().begin(), uses_.gradients().end(), [&](ValueId g) {
      const Value& v = graph_.value(g);
      return v.base != result ||
             (v.byte_offset == 0 && v.numel() == whole.numel() && v.strides == ContiguousStrides(v.sizes) &&
              whole.strides == ContiguousStrides(whole.sizes));
    });
  }

  // What is left unreduced at the end goes before the first node of the step, if there is one already.
  NodeId EndOfBackward() const {
    for (int i = 0; i < order_.size(); ++i) {
      if (graph_.node(order_.at(i)).phase == ir::Phase::kStep) return order_.at(i);
    }
    return ir::kNoNode;
  }

  void Close(Kind kind, Bucket& bucket, NodeId before) {
    kind.scatter ? Scatter(bucket.nodes, before) : Reduce(bucket.nodes, before);
    bucket = {};
  }

  // Gradients are reduced in their own storages, so that a bucket takes no bytes beside them.
  void Reduce(const std::vector<NodeId>& nodes, NodeId before) {
    std::vector<ValueId> storages;
    std::vector<bool> as_they_lie;
    for (NodeId id : nodes) {
      as_they_lie.push_back(OwnsStorage(id));
      const ValueId x = graph_.node(id).args[0].value;
      storages.push_back(as_they_lie.back() ? order_.Owner(x) : Clone(x, id));
    }
    if (nodes.size() == 1) {
      Add("autosp.all_reduce_", WithAxisOf(nodes[0], Arg::Value(storages[0])), {}, before, nodes[0]);
    } else {
      Add("autosp.all_reduce_coalesced_", WithAxisOf(nodes[0], Arg::Values(storages)), {}, before, nodes.back());
    }
    for (size_t i = 0; i < nodes.size(); ++i) {
      const Value& x = graph_.value(graph_.node(nodes[i]).args[0].value);
      const std::vector<ir::Expr> sizes = x.sizes, strides = as_they_lie[i] ? x.strides : ContiguousStrides(x.sizes);
      replaced_[graph_.node(nodes[i]).results[0]] = ViewOf(storages[i], sizes, strides, before, nodes[i]);
    }
  }

  // An all-reduce's arguments with another operand.
  std::vector<Arg> WithAxisOf(NodeId reduction, Arg operand) const {
    std::vector<Arg> args = graph_.node(reduction).args;
    args[0] = std::move(operand);
    return args;
  }

  // Each rank gets its own block of each sum, and the gradients die.
  void Scatter(const std::vector<NodeId>& nodes, NodeId before) {
    std::vector<ValueId> addends, blocks;
    for (NodeId id : nodes) {
      addends.push_back(graph_.node(id).args[0].value);
      const Value& x = graph_.value(addends.back());
      const int64_t n = x.numel();
      blocks.push_back(graph_.AddValue("gradient_block", x.dtype, {ir::Expr(BlockLength(n, ranks_))}, {ir::Expr(1)}));
      placed_.Put(&graph_.value(blocks.back()), BlockPlacement(n, ranks_));
      scattered_[graph_.node(id).results[0]] = blocks.back();
    }
    Add("autosp.reduce_scatter_coalesced", {Arg::Values(addends)}, blocks, before, nodes.back());
  }

  // `x` row-major in a storage of its own, made when it is born.
  ValueId Clone(ValueId x, NodeId before) {
    const Value& value = graph_.value(x);
    const ir::Placement placement = value.placement, dp_placement = value.dp_placement;
    const ValueId copy = graph_.AddValue("addend", value.dtype, value.sizes, ContiguousStrides(value.sizes));
    graph_.value(copy).placement = placement;
    graph_.value(copy).dp_placement = dp_placement;
    Add("aten.clone.default", {Arg::Value(x), Arg::MemoryFormat("contiguous")}, {copy}, before, before);
    return copy;
  }

  ValueId ViewOf(ValueId storage, const std::vector<ir::Expr>& sizes, const std::vector<ir::Expr>& strides,
                 NodeId before, NodeId like) {
    const ValueId v = graph_.AddValue("gradient", graph_.value(storage).dtype, sizes, strides);
    graph_.value(v).base = storage;
    placed_.Put(&graph_.value(v), ir::Placement::Replicated());
    Add("aten.as_strided.default", {Arg::Value(storage), Arg::Ints(sizes), Arg::Ints(strides), Arg::Int(0)}, {v},
        before, like);
    return v;
  }

  // The addend's storage holds it and nothing else, contiguous, and nobody reads it but this all-reduce and nodes
  // that stand before it and stay there (another bucket's would come later): then it is reduced where it lies, and
  // the gradient has the addend's strides. Views of the old result count on row-major ones.
  bool OwnsStorage(NodeId id) const {
    const Node& node = graph_.node(id);
    const Value& x = graph_.value(node.args[0].value);
    const ValueId root = order_.Owner(x.id);
    const Value& own = graph_.value(root);
    const bool whole = own.producer != ir::kNoNode && own.dtype == x.dtype && own.numel() == x.numel() &&
                       own.strides == ContiguousStrides(own.sizes) && x.byte_offset == 0 && IsDense(x);
    if (!whole || order_.last_use(root) > order_.position(id) || IsOutput(root)) return false;
    if (reductions_of_.at(root) > 1) return false;
    return !uses_.users().contains(node.results[0]) || x.strides == ContiguousStrides(x.sizes);
  }

  // An output with views of `root`: it must keep its unreduced value.
  bool IsOutput(ValueId root) const {
    const auto same = [&](ValueId v) { return v == root || graph_.value(v).base == root; };
    return std::any_of(uses_.gradients().begin(), uses_.gradients().end(), same) ||
           std::any_of(uses_.others().begin(), uses_.others().end(), same);
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
    std::vector<NodeId> views_of_scattered;
    const std::vector<NodeId> nodes(graph_.nodes().begin(), graph_.nodes().end());
    for (NodeId id : nodes) {
      Node& node = graph_.node(id);
      for (Arg& a : node.args) {
        if (a.kind == Arg::Kind::kValue) Rename(a.value);
        for (ValueId& v : a.values) Rename(v);
      }
      for (ValueId r : node.results) {
        Value& value = graph_.value(r);
        if (scattered_.contains(value.base)) views_of_scattered.push_back(id);
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
    for (ir::GraphOutput& out : graph_.outputs) {
      Rename(out.value);
      const ValueId base = graph_.value(out.value).base;
      const auto it = scattered_.find(base == kNoValue ? out.value : base);
      if (it != scattered_.end()) out.value = it->second;
    }
    // Views stand behind what they are views of.
    for (size_t i = views_of_scattered.size(); i-- > 0;) graph_.EraseNode(views_of_scattered[i]);
    for (const auto& [old, now] : scattered_) graph_.EraseNode(graph_.value(old).producer);
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
  const GradientUses uses_;
  Mesh mesh_;
  int ranks_;
  PlacedAxes placed_;
  bool scatters_;
  int64_t gradient_bytes_ = 0, limit_ = 0;
  std::map<ValueId, int> reductions_of_;  // by storage: the all-reduces that read it
  std::map<ValueId, ValueId> replaced_;   // an all-reduce's result -> the gradient that takes its place
  std::map<ValueId, ValueId> scattered_;  // an all-reduce's result -> the rank's block of it
};

}  // namespace

Result<bool> BucketGradients(Graph& graph, PassContext& context) {
  const int merged = context.dp > 1 ? MergeReductions(graph) : 0;
  Bucketing bucketing(graph, context);
  context.chosen_bucket_bytes = bucketing.limit();
  return bucketing.Run() || merged > 0;
}

}  // namespace autospc::step
