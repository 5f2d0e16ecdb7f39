// Parameters that may be meant as one: an output projection (a head) and the embedding of its shape.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "compiler/import/import.h"

namespace autospc::import {

// By name, in order of the graph: (head, embedding), two parameters of one shape and type. An embedding is a table
// looked up by what comes from an input (not by positions), a head the weight of a linear layer or of a product with
// its transpose. Every pair that is possible; a graph whose head is the embedding already has none for it.
std::vector<std::pair<std::string, std::string>> TieCandidates(const ir::Graph& graph);

// --tie-embeddings: makes the only candidate one parameter. Nothing to do where the head is an embedding already.
// kBadInput: no candidate, or several.
Status TieEmbeddings(Model* model);

}  // namespace autospc::import
