// Parameters by name from safetensors: one file, or a Hugging Face folder (model.safetensors, or shards named
// by model.safetensors.index.json).
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/package/safetensors.h"
#include "runtime/package/weights.h"

namespace autospc {

struct WantedTensor {
  std::string name;
  program::DType dtype = program::DType::Float32;  // what it is converted to: any float type serves a float type
  std::vector<int64_t> sizes;
};

struct ResolveOptions {
  // Tied names, pairs (a name, the name it shares its tensor with): any name of such a group finds the tensor.
  // (A Hugging Face graph uses lm_head.weight, its checkpoint holds only model.embed_tokens.weight.)
  std::vector<std::pair<std::string, std::string>> ties;
  // --weights-prefix. "P": taken off the wanted names where all begin with it, else put before them. "A=B": a
  // wanted name's leading A becomes B; either may be empty. "": names are matched as they are, or, where that
  // finds not all of them, with one prefix taken off or put before all, if exactly one such prefix finds all.
  std::string prefix;
  bool strict = false;  // a tensor of the checkpoint that nobody wants is an error, where nothing else is wrong
};

class Checkpoint {
 public:
  // kBadInput: nothing of the kind at `path`, a shard that is missing or broken, an index that contradicts
  // its shards, a tensor in two shards.
  static Result<Checkpoint> Open(const std::string& path);

  const std::string& path() const { return path_; }
  size_t size() const { return tensors_.size(); }
  const std::map<std::string, WeightSource, std::less<>>& tensors() const { return tensors_; }  // by name
  // A source for each wanted tensor, in order, named as wanted and of the checkpoint's own type. kBadInput
  // lists every missing, misshapen and extra tensor at once: the extra ones often tell which prefix is the wrong one.
  // Extra ones alone are no error, but for `strict`.
  Result<std::vector<WeightSource>> Resolve(const std::vector<WantedTensor>& wanted,
                                            const ResolveOptions& options = {}) const;
  // For each wanted tensor, in order, the names under which the checkpoint holds it: one, or several of a group of ties;
  // none where it has not got it. kBadInput as Resolve for names that could be taken in several ways.
  Result<std::vector<std::vector<std::string>>> NamesOf(const std::vector<WantedTensor>& wanted,
                                                        const ResolveOptions& options = {}) const;

 private:
  Status AddFile(const std::string& path);
  std::string path_;
  std::map<std::string, WeightSource, std::less<>> tensors_;
};

}  // namespace autospc
