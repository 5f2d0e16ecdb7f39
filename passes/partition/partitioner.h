// Turns a global graph into one program for all ranks along one axis of the mesh: local shapes, a placement on every
// value, and the conversions between placements as explicit autosp.* nodes. Along sp the sequence is split, along dp the
// batch. A mesh with both is two runs, dp first: to the second, the first one's conversions are ordinary ops, which
// act along their own dim alone, and its placements stay on the values (where values are born in the second run
// VerifyPlacements infers them).
//
// The calculus (DESIGN: placements R, S, P, V): an op runs replicated, all operands R and the result R, or
// local, operands S or V. Values that depend on no sharded one stay unevaluated until somebody asks for them
// whole (GetR) or as a shard (GetS): a shard is then pushed up through row-wise ops to where the value is
// born (positions instead of a slice of arange), and what nobody asks for is never emitted.
#pragma once

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "passes/framework/pass.h"
#include "passes/ir/graph.h"
#include "passes/partition/rules.h"

namespace autospc::partition {

class Partitioner {
 public:
  // `global`: bound, canonical; user inputs carry seq_dim and batch_dim. ctx must outlive the partitioner.
  Partitioner(const ir::Graph& global, PassContext& ctx, Axis axis);

  // kUnsupported: under ctx.strict, an op that would have to be gathered; random ops without global index.
  // kBadInput: no user input has a dim of the kind that the axis splits, though it has more ranks than one.
  Result<ir::Graph> Run();

 private:
  // The forms in which a global value exists in the local graph; kNoValue: not (yet).
  struct Forms {
    ir::ValueId r = ir::kNoValue;
    ir::ValueId v = ir::kNoValue;
    ir::ValueId p = ir::kNoValue;
    std::vector<std::pair<ir::Placement, ir::ValueId>> shards;
  };

  // partitioner.cc: the walk over the nodes.
  Status Inputs();
  Status Process(ir::NodeId id);
  Status ProcessReplicated(const ir::Node& node);
  Status ProcessReshape(const ir::Node& node, const ir::Placement& p);
  Status ProcessSharded(const ir::Node& node, const FactorRule& rule, int lead, const ir::Placement& p);
  Status ProcessPartial(const ir::Node& node, bool* done);
  Status Gathered(const ir::Node& node, const std::string& why);
  std::optional<ir::Placement> TagOf(const ir::Node& node, int result) const;
  std::optional<int> LeadOperand(const ir::Node& node, const FactorRule& rule,
                                 const std::vector<std::optional<ir::Placement>>& where) const;
  Status Outputs();

  // forms.cc: values in the form that is asked for.
  Result<ir::ValueId> GetR(ir::ValueId x);
  Result<ir::ValueId> GetV(ir::ValueId x);
  Result<ir::ValueId> GetS(ir::ValueId x, const ir::Placement& p);
  Result<std::optional<ir::ValueId>> Push(ir::ValueId x, const ir::Placement& p);
  Status EmitWhole(const ir::Node& node);
  // The node on local operands; its results are recorded under `placements` (one a result).
  Status EmitLocal(const ir::Node& node, const std::vector<ir::ValueId>& operands,
                   const std::vector<ir::Placement>& placements);
  ir::ValueId Emit(std::string op, std::vector<ir::Arg> args, ir::DType dtype, std::vector<int64_t> sizes,
                   const ir::Placement& p, const ir::Node* like);
  // `op` on the sharded factor as a dim of its own: the operand is unflattened for it, and flattened after it.
  // `rows`: the result's length along the factor; `make` gives the op's arguments after the operand.
  ir::ValueId OnFactor(const std::string& op, ir::ValueId x, const ir::Placement& p, int64_t rows_in, int64_t rows_out,
                       const ir::Placement& result, const ir::Node* like,
                       const std::function<std::vector<ir::Arg>(int dim)>& make);
  ir::ValueId MaskRows(ir::ValueId x, const ir::Placement& p, const ir::Arg& fill, const ir::Node* like);
  void Record(ir::ValueId global, const ir::Placement& p, ir::ValueId local);
  bool IsSharded(ir::ValueId x) const;
  bool IsPartial(ir::ValueId x) const;
  const ir::Placement& ShardOf(ir::ValueId x) const;
  std::vector<int64_t> LocalSizes(ir::ValueId global, const ir::Placement& p) const;

  // special.cc: ops with handlers of their own. Each sets `done` where it took the node.
  Status Attention(const ir::Node& node);
  Status AttentionOverBatch(const ir::Node& node, const ir::Placement& batch);
  // Attention on these local operands, all results under `p`.
  void EmitAttention(const ir::Node& node, std::vector<ir::Arg> args, const ir::Placement& p);
  Status Ulysses(const ir::Node& node, const ir::Placement& rows);
  Status AllGatherKv(const ir::Node& node, const ir::Placement& rows);
  Status CrossEntropy(const ir::Node& node, bool* done);
  Status Dropout(const ir::Node& node);
  Status SliceRows(const ir::Node& node, const ir::Placement& p, bool* done);
  Status SelectRow(const ir::Node& node, const ir::Placement& p, bool* done);
  Status Reduce(const ir::Node& node, int lead, const ir::Placement& p, const FactorRule& rule, bool* done);
  Status Decompose(const ir::Node& node, const ir::Placement& p, bool* done);
  // A new node of the global graph, processed at once; its result.
  Result<ir::ValueId> Global(std::string op, std::vector<ir::Arg> args, ir::DType dtype, std::vector<ir::Expr> sizes,
                             const ir::Node& like);
  void Same(ir::ValueId x, ir::ValueId y);  // x has y's forms

  // "sequence" or "batch": what this run splits.
  const char* subject() const { return axis_ == Axis::kDp ? "batch" : "sequence"; }
  // The first of the runs over a mesh numbers the dropout sites.
  bool is_first() const { return axis_ == Axis::kDp || ctx_.dp == 1; }
  void Place(ir::ValueId local, const ir::Placement& p) {
    (axis_ == Axis::kDp ? local_.value(local).dp_placement : local_.value(local).placement) = p;
  }

  ir::Graph global_;  // a copy: decompositions add nodes to it
  ir::Graph local_;
  PassContext& ctx_;
  const Axis axis_;
  const int64_t ranks_;  // along it
  std::map<ir::ValueId, Forms> forms_;
  std::map<ir::ValueId, ir::Placement> primary_;  // sharded or partial; absent: replicated, maybe not evaluated
  std::map<ir::ValueId, ir::Placement> tags_;     // of replicated values: how they would be sharded
  int64_t next_site_ = 0;                         // dropout sites
  int pushing_ = 0;                               // how deep Push is within itself
};

}  // namespace autospc::partition
