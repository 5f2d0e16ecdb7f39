// Where nodes stand in the order of execution, and what reads and writes a storage: shared by the step's passes.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "passes/ir/graph.h"

namespace autospc::step {

// A snapshot: nodes added later are not in it.
class Order {
 public:
  explicit Order(const ir::Graph& graph);

  int size() const { return static_cast<int>(nodes_.size()); }
  ir::NodeId at(int position) const { return nodes_[position]; }
  int position(ir::NodeId node) const { return positions_[node]; }
  // Of the node that makes `v`; -1 for an input.
  int born(ir::ValueId v) const;
  // The last node that uses (or makes) any view of v's storage, aliases of inputs included; -1: none.
  int last_use(ir::ValueId v) const { return last_use_[Owner(v)]; }
  // The last node that writes v's storage, v's own producer included; -1: an input nobody writes.
  int final_at(ir::ValueId v) const;

  // The node before which a node goes that shall follow `position`; kNoNode: the end.
  ir::NodeId Behind(int position) const { return position + 1 < size() ? nodes_[position + 1] : ir::kNoNode; }
  // The value that stands for v's storage: its base, and for an input that is an alias the one it names.
  ir::ValueId Owner(ir::ValueId v) const { return owner_[v]; }

 private:
  const ir::Graph& graph_;
  std::vector<ir::NodeId> nodes_;
  std::vector<int> positions_;       // by node id
  std::vector<ir::ValueId> owner_;   // by value id
  std::vector<int> last_use_, last_write_;  // by owner
};

// The axes of the mesh along which values of a graph have placements.
struct PlacedAxes {
  bool sp = false, dp = false;

  explicit operator bool() const { return sp || dp; }
  // The same along all of them.
  void Put(ir::Value* value, const ir::Placement& p) const {
    if (sp) value->placement = p;
    if (dp) value->dp_placement = p;
  }
};
PlacedAxes IsPlaced(const ir::Graph& graph);
// Along any axis.
inline bool IsSharded(const ir::Value& v) { return v.placement.is_sharded() || v.dp_placement.is_sharded(); }

// Strides of a contiguous tensor.
std::vector<ir::Expr> ContiguousStrides(const std::vector<ir::Expr>& sizes);
// Each element between the first and the last once: a permutation of a contiguous layout.
bool IsDense(const ir::Value& x);

// Which values are gradients, and what nothing reads but as gradients.
class GradientUses {
 public:
  explicit GradientUses(const ir::Graph& graph);

  // Gradient outputs, and all others.
  const std::set<ir::ValueId>& gradients() const { return gradients_; }
  const std::set<ir::ValueId>& others() const { return others_; }
  const std::map<ir::ValueId, std::vector<ir::NodeId>>& users() const { return users_; }
  // Whether nothing reads `v`, or only views that are gradients themselves.
  bool OnlyGradient(ir::ValueId v) const;

 private:
  const ir::Graph& graph_;
  const std::map<ir::ValueId, std::vector<ir::NodeId>> users_;  // as they were at the beginning
  std::set<ir::ValueId> gradients_, others_;
};

}  // namespace autospc::step
