// What the model asks of its data, read off the imported graph: which input holds token ids, which the loss' targets,
// whether the model itself moves those by one, and which label its loss leaves out. The runtime fills batches by it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "passes/ir/graph.h"

namespace autospc::import {

// As in program.fbs.
enum class InputRole : uint8_t { kOther, kTokens, kLabels, kMask, kPositions, kTokenTypes };
enum class LabelShift : uint8_t { kUnknown, kByModel, kByData };

struct InputContract {
  std::string name;
  InputRole role = InputRole::kOther;
  int64_t limit = 0;  // ids are below it: rows of the table that they index, classes of the loss; 0: not known
};

struct DataContract {
  std::vector<InputContract> inputs;  // the user's, in the graph's order
  LabelShift shift = LabelShift::kUnknown;
  std::optional<int64_t> ignore_index;
};

// `graph` is as imported, with constant sizes. Integer inputs are followed through ops that move values without
// changing them to the embeddings and losses that take them; a mask, positions and token types are told by their names.
// Where tokens themselves are the targets, there is no input of labels and nothing can be ignored.
DataContract FindDataContract(const ir::Graph& graph);

}  // namespace autospc::import
