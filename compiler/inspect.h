// What a package or a model is, as text for people (at most 100 columns) or JSON for programs.
#pragma once

#include <string>

#include "runtime/base/result.h"

namespace autospc {

namespace import {
struct Model;
}
class Package;

// A package (a folder) or a .pt2 (a file), whichever `path` is. The errors of opening it.
Result<std::string> Inspect(const std::string& path, bool json);

// What it is; a rank's memory by kind, the arena's as it is at its peak; its collectives and the bytes that one
// rank sends in them; the largest buffers; what was gathered or computed whole, and why; FLOPs of a rank and step.
// The JSON form has keys "format_version", "name", "ranks", "seq_len", "batch", "strategy", "optimizer", "device",
// "compiler", "digest", "options", "instructions" (by phase), "flops", "memory" (bytes by kind, "total", "arena",
// "live_at_peak", "peak"), "collectives", "largest", "notes", "weights_missing", "blobs". Keys are never renamed.
std::string DescribePackage(const Package& package, bool json);
Result<std::string> InspectPackage(const std::string& path, bool json);

// Inputs, symbols with their ranges, parameters and buffers in number and bytes, ties, ops by number, outputs.
// JSON keys: "name", "torch", "decomposed", "inputs", "symbols", "guards", "parameters", "buffers", "constants",
// "ties", "ops", "outputs", "warnings".
std::string DescribeModel(const import::Model& model, bool json);

}  // namespace autospc
