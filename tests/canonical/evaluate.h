// Graphs built by running them on LibTorch, and run again after a pass: what a pass must not change.
// No ATen type shows, so that tests compile quickly; the other half is evaluate_test.cc.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "passes/framework/pass.h"
#include "passes/ir/graph.h"

namespace autospc::testing {

using ir::Arg;
using ir::DType;
using ir::Graph;
using ir::ValueId;

inline Arg V(ValueId v) { return Arg::Value(v); }
inline Arg I(int64_t i) { return Arg::Int(i); }
inline Arg Is(std::vector<int64_t> v) { return Arg::Ints(std::move(v)); }

// Row-major elements as doubles.
struct Tensor {
  DType dtype = DType::kFloat64;
  std::vector<int64_t> sizes;
  std::vector<double> data;
};

// Seeded normal numbers.
Tensor Random(std::vector<int64_t> sizes, int seed, DType dtype = DType::kFloat64);
Tensor Integers(std::vector<int64_t> sizes, const std::vector<int64_t>& data, DType dtype = DType::kInt64);

// Builds a graph op by op. Sizes, strides and dtypes of results are LibTorch's.
class Builder {
 public:
  Builder();
  ~Builder();

  Graph graph;

  ValueId Input(ir::InputKind kind, const std::string& name, const Tensor& data);
  ValueId Parameter(const std::string& name, const Tensor& data) {
    return Input(ir::InputKind::kParameter, name, data);
  }
  ValueId Buffer(const std::string& name, const Tensor& data) { return Input(ir::InputKind::kBuffer, name, data); }
  ValueId User(const std::string& name, const Tensor& data) { return Input(ir::InputKind::kUser, name, data); }
  // Missing arguments at the end take the schema's defaults. Throws where LibTorch does.
  ValueId Op(const std::string& op, std::vector<Arg> args);
  std::vector<ValueId> Ops(const std::string& op, std::vector<Arg> args);
  void Output(ValueId v) {
    graph.outputs.push_back({v, ir::OutputKind::kUser, "out" + std::to_string(graph.outputs.size())});
  }

  Tensor At(ValueId v) const;  // as it was computed
  // What the inputs held before anything ran, by name.
  const std::map<std::string, Tensor>& inputs() const { return inputs_; }
  // Reads buffers and constants, as PassContext.constants.
  ConstantReader Reader() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::map<std::string, Tensor> inputs_;
};

// Runs a graph: its outputs by name, and under a buffer's name what the buffer holds after the step.
// autosp.attention is computed entry by entry from its predicate.
std::map<std::string, Tensor> Evaluate(const Graph& graph, const std::map<std::string, Tensor>& inputs);

// The largest difference over all tensors of both; NaNs at the same place are equal. Infinity where names, sizes
// or dtypes differ.
double Difference(const std::map<std::string, Tensor>& a, const std::map<std::string, Tensor>& b);

int Count(const Graph& graph, const std::string& op);             // nodes of this op
const ir::Node* Only(const Graph& graph, const std::string& op);  // the one node of this op, else null

}  // namespace autospc::testing
