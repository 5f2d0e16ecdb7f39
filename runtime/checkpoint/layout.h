// What of a program's state a checkpoint keeps, and which rank writes which elements of it.
//
// Kept are parameters, the buffers of the state dict, buffers that a step writes, and the optimiser's states. What is
// the same on every rank (parameters; states without ZeRO) is shared out by bytes, so that each rank copies and writes
// its part; of what is cut into blocks (ZeRO) a rank writes its own.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/package/program_generated.h"

namespace autospc::checkpoint {

struct SavedTensor {
  int storage = -1;  // in Program.storages
  int tensor = -1;   // in Program.tensors: what a rank has of it
  std::string name;  // the storage's
  program::DType dtype = program::DType::Float32;
  std::vector<int64_t> sizes;  // of the whole
  bool weight = false;         // belongs to the model's state dict: a parameter, or a persistent buffer
  int64_t block = 0;           // elements of a rank's block of the flattened whole; 0: the whole is on every rank
  int writer = 0;              // where block is 0: the rank that writes it

  int64_t numel() const;
};

// A rank's part of a saved tensor: elements [begin, end) of the flattened whole, at byte `offset` (a multiple of 64) of
// the rank's snapshot.
struct Slice {
  int saved = -1;  // in Layout::tensors
  int64_t begin = 0, end = 0;
  int64_t offset = 0, bytes = 0;
};

struct Layout {
  int ranks = 1;
  std::vector<SavedTensor> tensors;  // in the order of storages

  // In the order of `tensors`. A tensor without elements has a slice too; a rank behind the last block has none of it.
  std::vector<Slice> SlicesOf(int rank) const;
};

// `written`: storages that a step writes (train::WrittenStorages).
Layout MakeLayout(const program::ProgramT& program, const std::map<int, bool>& written);

// Bytes of a rank's snapshot.
int64_t SnapshotBytes(const std::vector<Slice>& slices);

}  // namespace autospc::checkpoint
