// Where a node comes from, read off the export's metadata.
#pragma once

#include <string>
#include <string_view>

namespace autospc::import {

// Innermost frame of a Python stack trace outside of torch itself, the innermost one if all are inside:
// "modeling_llama.py:377". Empty for no frame.
std::string SourceOf(std::string_view stack_trace);

// The innermost module of an nn_module_stack ("key,path,type;key,path,type"): "model.layers.0.self_attn". A
// repeated call's mark ("@1") is cut off. Empty for the root or none.
std::string ModuleOf(std::string_view nn_module_stack);

}  // namespace autospc::import
