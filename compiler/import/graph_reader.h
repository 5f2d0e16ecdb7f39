// Nodes of a .pt2 graph to nodes of an ir::Graph, higher-order regions inlined.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "compiler/import/arguments.h"
#include "compiler/import/import.h"
#include "compiler/import/scope.h"

namespace autospc::import {

class GraphReader {
 public:
  // Nodes are added to model->graph, pending numbers and warnings to the model.
  explicit GraphReader(Model* model) : model_(model), graph_(&model->graph) {}

  // A graph input's value, under the name it has in `scope`.
  void AddInput(Scope* scope, const std::string& name, ir::ValueId value, const TensorMeta& meta);
  // All nodes of scope->graph, in order. Errors name the node and its Python source line.
  Status ReadNodes(Scope* scope);
  // "node 'add_3' (model.py:7)": what was being read, for errors of the JSON itself.
  const std::string& place() const { return place_; }

 private:
  Status ReadNode(const nlohmann::json& node, Scope* scope);
  Status ReadOp(const std::string& op, const nlohmann::json& node, Scope* scope);
  bool SelectsByData(const OpSchema& schema, const std::vector<ir::Arg>& args) const;
  void WarnOfSplitAutocast(const nlohmann::json& node, const nlohmann::json* previous);
  Status ReadRegion(std::string_view op, const nlohmann::json& node, Scope* scope);
  Status BindRegionInputs(const nlohmann::json& inputs, size_t first, const Scope& outer, Scope* body);
  Status BindRegionOutputs(const nlohmann::json& node, const Scope& body, Scope* outer);
  Result<std::vector<std::pair<std::string, TensorMeta>>> ReadResults(const nlohmann::json& outputs,
                                                                      const Scope& scope) const;
  Status AddOp(const OpSchema& schema, ReadArgs read, const nlohmann::json& node, Scope* scope);
  Status Autocast(const OpSchema& schema, ir::DType result, const Scope& scope, std::vector<ir::Arg>* args);
  ir::ValueId Cast(ir::ValueId value, ir::DType dtype, bool cache, bool grad_enabled);
  ir::ValueId StopGradient(ir::ValueId value);
  void SetDevice(ir::ValueId value, const std::string& device);

  Model* model_;
  ir::Graph* graph_;
  std::string place_, source_, module_;
  std::vector<std::string> devices_;  // by value id: the export's device type
  // Casts of parameters inside an autocast region: made once, as LibTorch's cache does.
  std::map<std::tuple<ir::ValueId, ir::DType, bool>, ir::ValueId> cast_cache_;
  int autocast_depth_ = 0;
  int depth_ = 0;
  bool warned_of_autocast_ = false;
};

}  // namespace autospc::import
