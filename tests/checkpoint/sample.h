// A program's state without a program: tensors by hand, data that says where it belongs.
#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/checkpoint/layout.h"
#include "runtime/package/dtype.h"

namespace autospc::checkpoint {

// Parameters "w" [3, 5] and "b" [4], a buffer "mean" [2], and "w.exp_avg", "b.exp_avg": whole, or (`blocks`) in blocks.
inline program::ProgramT SampleProgram(int ranks, bool blocks) {
  program::ProgramT p;
  p.world_size = ranks;
  const auto add = [&](program::StorageKind kind, const std::string& name, std::vector<int64_t> sizes, int64_t block_of = 0) {
    auto s = std::make_unique<program::StorageT>();
    auto t = std::make_unique<program::TensorT>();
    s->kind = kind;
    s->name = name;
    s->arena_offset = kind >= program::StorageKind::Gradient ? 0 : -1;
    t->dtype = program::DType::Float32;
    t->sizes = std::move(sizes);
    t->strides = ContiguousStrides(t->sizes);
    t->block_of = block_of;
    t->storage = static_cast<int>(p.storages.size());
    s->bytes = *CheckedNumel(t->sizes) * 4;
    p.storages.push_back(std::move(s));
    p.tensors.push_back(std::move(t));
  };
  const auto state = [&](const std::string& name, std::vector<int64_t> sizes) {
    const int64_t n = *CheckedNumel(sizes);
    if (blocks) add(program::StorageKind::Optimizer, name, {(n + ranks - 1) / ranks}, n);
    else add(program::StorageKind::Optimizer, name, std::move(sizes));
  };
  add(program::StorageKind::Parameter, "w", {3, 5});
  add(program::StorageKind::Parameter, "b", {4});
  add(program::StorageKind::Buffer, "mean", {2});
  state("w.exp_avg", {3, 5});
  state("b.exp_avg", {4});
  add(program::StorageKind::Optimizer, "step", {});
  add(program::StorageKind::Gradient, "g", {3, 5});
  auto scalar = std::make_unique<program::ScalarT>();
  scalar->name = "step";
  scalar->tensor = 5;
  p.scalars.push_back(std::move(scalar));
  return p;
}

// The element that a tensor of that name has at an index, different for every name.
inline float ElementOf(const std::string& name, int64_t index, float salt = 0) {
  return static_cast<float>(name.size() * 100 + static_cast<size_t>(name[0])) + 0.5f * static_cast<float>(index) + salt;
}

inline std::vector<std::byte> SnapshotOf(const Layout& layout, int rank, float salt = 0) {
  const std::vector<Slice> slices = layout.SlicesOf(rank);
  std::vector<std::byte> bytes(static_cast<size_t>(SnapshotBytes(slices)));
  for (const Slice& slice : slices) {
    for (int64_t i = slice.begin; i < slice.end; ++i) {
      const float v = ElementOf(layout.tensors[slice.saved].name, i, salt);
      std::memcpy(bytes.data() + slice.offset + (i - slice.begin) * 4, &v, 4);
    }
  }
  return bytes;
}

}  // namespace autospc::checkpoint
