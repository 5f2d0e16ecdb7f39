// From a graph to storages with lifetimes: which bytes exist, and from which instruction to which.
//
// Instructions are the nodes that do something, numbered in order of execution; nodes that only view or
// alias (every result has a `base`, and nothing is written) are none. A storage holds a value and all its
// views. It lives from the instruction that first writes it to the last one that uses any of its views.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "passes/ir/graph.h"
#include "passes/memory/op_traits.h"
#include "runtime/base/alignment.h"

namespace autospc::memory {

// In the order of program.fbs' StorageKind.
enum class StorageKind : uint8_t {
  kParameter, kBuffer, kConstant, kInput, kOptimizer,  // persistent: outside the arena
  kGradient, kActivation, kWorkspace, kCommunication,
};
inline constexpr int kNumStorageKinds = 9;
std::string_view Name(StorageKind kind);  // "parameter", …
inline bool IsPersistent(StorageKind kind) { return kind <= StorageKind::kOptimizer; }

struct Storage {
  StorageKind kind = StorageKind::kActivation;
  int64_t bytes = 0;              // exact; the arena rounds up to kAlignment
  int64_t offset = -1;            // in the arena, bytes; -1: persistent
  int first = -1, last = -1;      // instructions, inclusive
  ir::ValueId value = ir::kNoValue;  // the value that first occupies it; kNoValue: scratch
  ir::NodeId node = ir::kNoNode;  // its producer, or the node whose scratch it is
};

struct Location {
  int storage = -1;  // -1: the value does not exist at run time
  int64_t byte_offset = 0;
};

struct MemoryPlan {
  std::vector<ir::NodeId> instructions;  // in order
  std::vector<int> instruction_of;       // by node id; -1: a view
  std::vector<Storage> storages;
  std::vector<Location> locations;       // by value id
  std::vector<int> scratch_of;           // by node id: index of its workspace or staging storage, -1: none
  std::vector<int> output_after;         // by index in graph.outputs: the instruction after which it is final, -1: at the start
  int64_t arena_bytes = 0;
  int64_t live_bytes = 0;                // the most bytes alive at one instruction: no plan can be smaller
};

// The storage's own value: `v` or what it is a view of.
inline ir::ValueId Root(const ir::Graph& graph, ir::ValueId v) {
  const ir::ValueId base = graph.value(v).base;
  return base == ir::kNoValue ? v : base;
}

// Whether one may lie over the other: the same dtype, sizes and strides.
bool SameGeometry(const ir::Value& a, const ir::Value& b);

// Bytes from the first to behind the last element; empty strides mean contiguous.
int64_t ExtentBytes(const ir::Value& value);

// Whether `node` becomes an instruction.
bool IsInstruction(const ir::Graph& graph, const ir::Node& node);

// The operands that an effectful op writes, by its schema; none for other ops.
std::vector<ir::ValueId> WrittenOperands(const ir::Node& node);

// Storages and lifetimes, in-place reuse decided, nothing placed (offsets -1, arena_bytes 0).
MemoryPlan FindStorages(const ir::Graph& graph, const OpTraitsFn& traits);

}  // namespace autospc::memory
