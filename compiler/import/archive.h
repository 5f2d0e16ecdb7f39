// The members of a .pt2 archive: the model's JSON, and where the bytes of its parameters, buffers and
// constants lie. Layout (torch 2.9 and later): ROOT/models/model.json; ROOT/data/weights/ and
// ROOT/data/constants/ with a "…_config.json" that names each tensor's raw storage member. ROOT is the file's
// stem at the time of saving, or "archive". Source: torch/csrc/export/pt2_archive_constants.h.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "compiler/import/zip.h"
#include "passes/ir/types.h"
#include "runtime/package/weights.h"

namespace autospc::import {

// The integer that a JSON value is. Throws as nlohmann-json's getters do, of which the readers here make kBadInput; those
// would convert a float as well, one beyond 64 bits to anything.
int64_t Integer(const nlohmann::json& value);

// The export's own enumeration of element types (not c10's). kUnsupported for one the IR has no type for.
Result<ir::DType> ExportDType(int64_t code);
program::DType ToProgram(ir::DType dtype);

// A tensor that the archive holds, or only describes.
struct Payload {
  WeightSource source;  // offset and bytes are 0 where there is no data
  std::string member;   // "data/weights/weight_3"
  int64_t storage_offset = 0;
  bool has_data = false;
  bool requires_grad = false;
};

struct Archive {
  ZipDirectory zip;
  std::string root;        // "nanogpt"
  std::string model_json;  // text of ROOT/models/model.json
  // By name. Sizes are checked against the member: kBadInput for a weight shorter than its shape.
  std::map<std::string, Payload> weights;
  std::map<std::string, Payload> constants;
};

// kBadInput for a broken zip, no models/model.json, a config that is no JSON, a payload that is missing,
// pickled or too short.
Result<Archive> OpenArchive(const std::string& path);

}  // namespace autospc::import
