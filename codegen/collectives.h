// Bytes that a collective moves.
#pragma once

#include <cstdint>
#include <optional>

#include "passes/ir/graph.h"
#include "runtime/base/mesh.h"

namespace autospc::codegen {

// Bytes that one rank sends in this node, nullopt if the node is no collective (or sends nothing). P are the ranks of
// its group along the node's axis:
//   all_reduce, all_reduce_  2 (P-1)/P n, the ring's, n the tensor's bytes
//   all_gather               (P-1) n, n the local block's
//   reduce_scatter           (P-1) n, n the block that a rank keeps ((P-1)/P of the padded operand)
//   all_to_all               (P-1) pieces, each the local rows of from_dim by to_block of to_dim, padding included
//   pad_last                 (P-1) rows, sent by the rank that owns the last valid row, where others need it
std::optional<int64_t> BytesSent(const ir::Graph& graph, const ir::Node& node, const Mesh& mesh);

}  // namespace autospc::codegen
