// What LibTorch's dispatcher knows of an op: its parameters in order, their types and defaults.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "passes/ir/graph.h"

namespace autospc::import {

struct Parameter {
  enum class Type : uint8_t {
    kTensor,
    kTensorList,
    kScalar,
    kInt,
    kIntList,
    kFloat,
    kFloatList,
    kBool,
    kBoolList,
    kString,
    kDType,
    kLayout,
    kDevice,
    kMemoryFormat,
    kOther,
  };
  std::string name;
  Type type = Type::kOther;
  bool optional = false;                 // None is a value of it
  bool optional_items = false;           // a list's items may be None
  int list_size = 0;                     // int[2]: one number stands for this many
  std::optional<ir::Arg> default_value;  // none: it must be given
};

struct OpSchema {
  std::string name;  // "aten.add.Tensor"
  std::vector<Parameter> parameters;
  int results = -1;            // tensors that it returns; -1: a list of any length
  bool dynamic_shape = false;  // LibTorch's tag: the shape of its result may depend on data
  bool autocast_cpu = false;   // the dispatcher holds a cast for it, in autocast on CPU and on CUDA
  bool autocast_cuda = false;
};

// By IR name ("aten.add.Tensor", "aten.relu.default"); nullptr if LibTorch has no such op. The answer is kept
// for the life of the process.
const OpSchema* FindOp(std::string_view name);

}  // namespace autospc::import
