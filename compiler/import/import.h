// Import of a torch.export archive (.pt2, schema 8) as an ir::Graph.
//
// What comes out: no default argument is missing, no symbolic integer is a node (every size is an Expr over
// graph.symbols), no -1 stands in a view, reshape or expand, every device is "cpu", higher-order regions are
// inlined with their meaning kept, asserts are gone, results that nothing uses are dead code and gone. In-place
// ops are still in place: the canonical passes make them functional.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "compiler/import/sympy.h"
#include "passes/ir/graph.h"
#include "runtime/base/result.h"
#include "runtime/package/weights.h"

namespace autospc::import {

struct ImportOptions {
  // Name of the loss among several scalar outputs: the graph's, or the key under which forward returns it (OutputNames).
  // Empty: the only one that is not logged.
  std::string loss;
  std::vector<std::string> log_outputs;  // further scalar outputs to keep, by such names
};

// A number argument that depends on a size (x / sqrt(S)): the node's argument holds NaN
// (or false) until sizes are bound.
struct PendingNumber {
  ir::NodeId node = ir::kNoNode;
  int arg = 0;
  Sym value;
};

struct Model {
  ir::Graph graph;
  // Parameters, buffers and constants whose data the file holds, by input name. A tied name has none of its own.
  std::map<std::string, WeightSource> weights;
  // A tied name -> the first name of its storage, which alone is an input of the graph.
  std::map<std::string, std::string> ties;
  std::vector<std::string> warnings;
  std::vector<PendingNumber> pending;
  std::vector<std::string> guards;  // conditions on input sizes under which the export holds, as Python text
  std::string torch_version;
  bool decomposed = false;  // the export was run through run_decompositions
};

// kBadInput: the file is no .pt2 of this schema, or broken. kUnsupported: an op that LibTorch has no schema for, a
// data-dependent shape, a higher-order op without a meaning here. kUsage: several scalar outputs and no loss named.
// Errors inside the graph name the node and its Python source line.
Result<Model> ImportPt2(const std::string& path, const ImportOptions& options = {});

// Makes the input `name` the same as `first`, as a checkpoint says that holds only `first` (a tied head whose tie the
// export has lost): all uses go to `first`, and the input `name` is gone. kBadInput: an unknown name, or shapes differ.
Status Tie(Model* model, const std::string& name, const std::string& first);

// Flags that give the export's dynamic dims their sizes.
struct Bindings {
  std::optional<int64_t> seq_len, batch;
  std::vector<std::string> shard;  // "input_ids:1": the dim of that input that is the sequence
};

struct Bound {
  int64_t seq_len = 0;
  int64_t batch = 0;
};

// Gives every size its value: afterwards the graph holds constants only, graph.symbols is empty, model.pending is
// done, and each user input's seq_dim is set (-1: it has no sequence). Without --shard an input's sequence is dim 1
// (dim 0 of a 1-D input) and its batch is dim 0 of two or more; a static dim is taken from the export.
// kUsage: a symbolic dim without its flag, or a malformed --shard. kBadInput: a value that contradicts a static
// dim, or that the export's range, a guard or a position table can't hold. After an error the graph is half bound.
Result<Bound> BindSizes(Model* model, const Bindings& bindings);
// The same for a graph alone: no guards and no pending numbers.
Result<Bound> BindSizes(ir::Graph* graph, const Bindings& bindings);

// A source's bytes: contiguous, row-major, little endian, in its own dtype.
Result<std::vector<uint8_t>> ReadWeight(const WeightSource& source);

}  // namespace autospc::import
