// The names of one graph of a .pt2 file (the whole model, or the body of a higher-order op) and what they stand for.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/import/sympy.h"
#include "passes/ir/graph.h"

namespace autospc::import {

// Parsed size expressions, by their text: a model repeats a few dozen of them thousands of times.
class SymCache {
 public:
  Result<ir::Expr> Expression(const std::string& text);

 private:
  std::map<std::string, ir::Expr, std::less<>> known_;
};

// Sizes, strides, dtype and device type of a tensor, from the file's "tensor_values".
struct TensorMeta {
  ir::DType dtype = ir::DType::kFloat32;
  std::vector<ir::Expr> sizes, strides;
  std::string device;  // "cpu", "cuda"
  bool requires_grad = false;
};
Result<TensorMeta> ReadTensorMeta(const nlohmann::json& meta, SymCache* cache);

// What a tensor's name stands for.
struct TensorRef {
  ir::ValueId value = ir::kNoValue;
  bool no_grad = false;  // computed where gradients are off
};

// An enabled autocast region.
struct AutocastState {
  ir::DType dtype = ir::DType::kBFloat16;
  bool cache = true;
};

struct Scope {
  Scope(const nlohmann::json& graph, SymCache* cache);

  const nlohmann::json* graph;
  SymCache* cache;
  const nlohmann::json *tensor_values, *sym_ints, *sym_floats, *sym_bools;
  std::map<std::string, TensorRef, std::less<>> tensors;
  std::map<std::string, ir::Expr, std::less<>> ints;  // sizes given to the body of a higher-order op
  bool grad_enabled = true;
  std::map<std::string, AutocastState> autocast;  // by device type ("cpu", "cuda"): they are independent

  Result<ir::ValueId> Tensor(const std::string& name) const;  // kBadInput: dangling
  Result<ir::Expr> Int(const std::string& name) const;
  // A symbolic float or bool as its expression.
  Result<Sym> Number(const std::string& name) const;
  Result<TensorMeta> Meta(const std::string& name) const;
};

}  // namespace autospc::import
