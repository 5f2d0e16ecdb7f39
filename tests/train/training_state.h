// A program that only updates: parameters "w" [7, 33] and "b" [5] by AdamW from gradients that are given, its states
// whole or (ZeRO) in blocks, on ranks that are threads. `dropout`: gradients go through it (not in blocks).
#pragma once

#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <functional>
#include <thread>
#include <vector>

#include "runtime/exec/blocks.h"
#include "runtime/package/dtype.h"
#include "tests/exec/programs.h"

namespace autospc::train {

using exec::Executor;
using exec::ProgramBuilder;
using program::StorageKind;

struct Parameter {
  std::string name;
  std::vector<int64_t> sizes;
  at::ScalarType type = at::kFloat;
  int64_t numel() const { return *CheckedNumel(sizes); }
};

inline std::vector<Parameter> TwoParameters(at::ScalarType type = at::kFloat) {
  return {{"w", {7, 33}, type}, {"b", {5}, type}};
}

// The gradient's element at an index of the flattened whole.
inline float GradientAt(int64_t index) { return 0.01f * static_cast<float>((index * 37) % 101 - 50); }

inline ProgramBuilder UpdateProgram(int ranks, bool blocks, const std::vector<Parameter>& parameters, bool adam = true,
                                    double dropout = 0) {
  using B = ProgramBuilder;
  B b(ranks);
  const int lr = b.Tensor(at::kDouble, {}, {}, StorageKind::Optimizer, "lr");
  const int step = b.Tensor(at::kLong, {}, {}, StorageKind::Optimizer, "step");
  for (const auto& [name, tensor] : {std::pair{"lr", lr}, {"step", step}}) {
    auto scalar = std::make_unique<program::ScalarT>();
    scalar->name = name;
    scalar->tensor = tensor;
    b.program().scalars.push_back(std::move(scalar));
  }
  std::vector<int64_t> updated;
  for (const Parameter& p : parameters) {
    const int64_t n = p.numel(), block = exec::BlockLength(n, ranks);
    const std::vector<int64_t> own = blocks ? std::vector<int64_t>{block} : p.sizes;
    const bool narrow = p.type == at::kBFloat16;
    const auto state = [&](const char* suffix) {
      const int t = b.Tensor(at::kFloat, own, {}, StorageKind::Optimizer, p.name + suffix);
      if (blocks) b.program().tensors[t]->block_of = n;
      return t;
    };
    const int w = b.Tensor(p.type, p.sizes, {}, StorageKind::Parameter, p.name);
    int g = b.Tensor(p.type, own, {}, StorageKind::Input, "grad." + p.name);
    if (dropout > 0) {
      const int dropped = b.Tensor(p.type, own, {}, StorageKind::Activation);
      b.Add("autosp.dropout", {B::T(g), B::F(dropout), B::I(w), B::I(-1), B::I(0), B::I(1), B::I(1)}, {dropped});
      g = dropped;
    }
    const auto master = narrow ? B::T(state(".master")) : B::None();
    const std::string suffix = blocks ? "_shard_" : "_";
    if (adam) {
      const int m = state(".exp_avg"), v = state(".exp_avg_sq");
      b.Add("autosp.adamw" + suffix, {B::T(w), master, B::T(g), B::T(m), B::T(v), B::None(), B::T(lr), B::T(step), B::F(0.9),
                                      B::F(0.999), B::F(1e-8), B::F(0.01)}, {});
    } else {
      b.Add("autosp.sgd" + suffix, {B::T(w), master, B::T(g), B::None(), B::T(lr), B::F(0.1)}, {});
    }
    updated.push_back(w);
  }
  if (blocks) b.Add("autosp.all_gather_coalesced_", {B::Ts(updated)}, {});
  b.program().name = "updates";
  b.program().optimizer = adam ? "adamw" : "sgd";
  return b;
}

inline at::Tensor Named(Executor& e, const std::string& name) {
  for (size_t t = 0; t < e.program().tensors.size(); ++t) {
    if (e.program().storages[e.program().tensors[t]->storage]->name == name) return e.tensor(static_cast<int>(t));
  }
  throw std::runtime_error("no tensor " + name);
}

// Parameters, masters and gradients as they begin.
inline void Begin(Executor& e) {
  for (size_t t = 0; t < e.program().tensors.size(); ++t) {
    const program::TensorT& desc = *e.program().tensors[t];
    const std::string& name = e.program().storages[desc.storage]->name;
    const bool gradient = name.starts_with("grad."), weight = e.program().storages[desc.storage]->kind == StorageKind::Parameter;
    if (!gradient && !weight && !name.ends_with(".master")) continue;
    const at::Tensor& x = e.tensor(static_cast<int>(t));
    // An input has no block_of: gradients are as long as the block where the parameter is longer than they are.
    const std::string owner = gradient ? name.substr(5) : name.ends_with(".master") ? name.substr(0, name.size() - 7) : name;
    const int64_t whole = Named(e, owner).numel(), begin = x.numel() == whole ? 0 : e.context().rank * x.numel();
    at::Tensor values = at::zeros({x.numel()}, at::TensorOptions().dtype(at::kFloat));
    for (int64_t i = 0; i < x.numel() && begin + i < whole; ++i) {
      values.data_ptr<float>()[i] = gradient ? GradientAt(begin + i) : 1 + 0.125f * static_cast<float>((begin + i) % 17);
    }
    x.copy_(values.view(x.sizes()));
  }
}

inline Status UpdateOnce(Executor& e) {
  e.SetScalar("lr", 0.01 / static_cast<double>(e.steps() + 1));
  e.SetScalar("step", static_cast<double>(e.steps() + 1));
  return e.Step({});
}

// Runs `body` on every rank, each with an executor of its own; the first error of any rank, which ends the others.
inline Status OnRanks(const ProgramBuilder& builder, int ranks, const std::function<Status(Executor&, Communicator*)>& body,
                      uint64_t seed = 0) {
  auto communicators = MakeInProcessCommunicators(ranks);
  std::vector<std::unique_ptr<Executor>> executors;
  for (int r = 0; r < ranks; ++r) {
    ASSIGN_OR_RETURN(auto executor, builder.Build(r, communicators[r].get(), seed));
    executors.push_back(std::move(executor));
  }
  std::vector<Status> results(ranks, Ok());
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      results[r] = body(*executors[r], communicators[r].get());
      if (!results[r].ok()) communicators[r]->Abort();
    });
  }
  for (std::thread& t : threads) t.join();
  // The cause before its echo.
  for (const bool peers : {false, true}) {
    for (const Status& s : results) {
      const bool echo = !s.ok() && (s.error().code == Code::kPeerFailed || s.error().code == Code::kInterrupted);
      if (!s.ok() && echo == peers) return s;
    }
  }
  return Ok();
}

}  // namespace autospc::train
