// The graph's signature: which inputs are parameters, buffers, constants and the user's, where their data lies,
// which of them share a storage, and which outputs leave the step.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <utility>

#include "compiler/import/archive.h"
#include "compiler/import/graph_reader.h"
#include "compiler/import/import.h"
#include "compiler/import/scope.h"

namespace autospc::import {

class Signature {
 public:
  // `graph_module` is the file's "graph_module".
  Signature(const nlohmann::json& graph_module, const Archive& archive, Model* model)
      : module_(graph_module), archive_(archive), model_(model) {}

  // Before the nodes: adds the graph's inputs, and their names to `scope`. Names whose storage is one become one
  // input, the first's.
  Status AddInputs(Scope* scope, GraphReader* reader);
  // After the nodes: the loss, the outputs to log, and new values of buffers.
  Status AddOutputs(const Scope& scope, const ImportOptions& options);
  // After dead code is gone: ties that only the graph shows (an export without weights), unused inputs dropped, and
  // no buffer or constant without its data.
  Status Finish();

 private:
  Status AddTensorInput(const std::string& placeholder, ir::GraphInput input,
                        const std::map<std::string, Payload>& payloads, Scope* scope, GraphReader* reader);
  void TieWithoutData();
  // An output that forward returns: its value, and what it may be called.
  struct Returned {
    std::string name;  // the graph's
    std::string key;   // the user's; may be empty
    ir::ValueId value = ir::kNoValue;
    bool scalar = false;  // one floating-point number
    bool Is(const std::string& wanted) const { return wanted == name || (wanted == key && !key.empty()); }
    const std::string& shown() const { return key.empty() ? name : key; }
  };
  Status AddLoss(const std::vector<Returned>& all, const std::string& wanted, const std::vector<std::string>& logged);
  Status AddLogged(const std::vector<Returned>& all, const std::vector<std::string>& logged);

  const nlohmann::json& module_;
  const Archive& archive_;
  Model* model_;
  std::set<std::pair<bool, std::string>> names_;         // of inputs: whether the user's, the name
  std::map<std::string, std::string> first_of_storage_;  // a storage and a view of it -> the first name that has it
  std::map<std::string, std::string> no_data_;           // inputs without data: name -> member
};

}  // namespace autospc::import
