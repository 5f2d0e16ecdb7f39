// Where a node comes from, read off the export's metadata.
#pragma once

#include <string>
#include <string_view>

namespace autospc::import {

// A line of the user's Python code.
struct SourceLine {
  std::string file;  // as the export has it: "/home/me/model.py", "transformers/models/llama/modeling_llama.py"
  std::string line;  // "377"

  std::string Short() const;  // "modeling_llama.py:377", "" for none
  std::string Full() const;   // "transformers/models/llama/modeling_llama.py:377"
};

// The innermost frame of a Python stack trace that lies outside of torch itself; the innermost one if all are inside.
SourceLine SourceOf(std::string_view stack_trace);

// The innermost module of an nn_module_stack ("key,path,type;key,path,type"): "model.layers.0.self_attn". A
// repeated call's mark ("@1") is cut off. Empty for the root or none.
std::string ModuleOf(std::string_view nn_module_stack);

}  // namespace autospc::import
