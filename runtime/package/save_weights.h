// Weights out, laid out as Hugging Face's save_pretrained does: model.safetensors, or shards model-00001-of-00003 and
// their index model.safetensors.index.json, so that transformers, safetensors and --weights load them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/package/safetensors.h"

namespace autospc {

struct SaveWeightsOptions {
  int64_t max_shard_bytes = int64_t{5} * 1000 * 1000 * 1000;  // a tensor that is larger has a shard of its own
  // Names that share a saved tensor and are not saved: name -> the saved one. In the files' metadata, where
  // safetensors' load_model looks for them.
  std::map<std::string, std::string> ties;
  std::vector<std::string> copies;  // files that go beside them (config.json), by path
  // False: tensors are produced in the same order, and nothing is written: for ranks that take part in producing them.
  bool write = true;
};

// Whether SaveWeights would refuse the path: kUsage where it is a file, a folder with something in it, or its parent
// does not exist. To be asked before the work.
Status CheckSavePath(const std::string& path);

// Tensors fill shards in the order given. The folder appears whole or not at all. Errors: as above; kFailed: the disk,
// a name twice; what a tensor's `produce` says.
Status SaveWeights(const std::string& path, std::vector<TensorToWrite> tensors, const SaveWeightsOptions& options);

}  // namespace autospc
