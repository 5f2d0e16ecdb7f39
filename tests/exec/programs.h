// Programs built by hand for the executor's tests: tensors of their own storages, instructions one by one.
#pragma once

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "runtime/dist/in_process.h"
#include "runtime/exec/executor.h"
#include "runtime/outvariant/out_variant.h"
#include "runtime/package/kernels.h"

namespace autospc::exec {

inline std::vector<int64_t> RowMajor(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t d = sizes.size(); d-- > 1;) strides[d - 1] = strides[d] * std::max<int64_t>(sizes[d], 1);
  return strides;
}

class ProgramBuilder {
 public:
  explicit ProgramBuilder(int world_size = 1) : program_(std::make_shared<program::ProgramT>()) {
    program_->world_size = world_size;
  }

  // A tensor with a storage of its own: persistent, of that kind, or (kActivation) in the arena.
  int Tensor(at::ScalarType type, std::vector<int64_t> sizes, std::vector<int64_t> strides = {},
             program::StorageKind kind = program::StorageKind::Input, const std::string& name = "") {
    if (strides.empty()) strides = RowMajor(sizes);
    auto t = std::make_unique<program::TensorT>();
    t->dtype = ToDType(type);
    int64_t last = 0;
    for (size_t d = 0; d < sizes.size(); ++d) last += (sizes[d] - 1) * strides[d];
    t->sizes = sizes;
    t->strides = strides;
    t->name = name;
    t->storage = Storage((last + 1) * static_cast<int64_t>(c10::elementSize(type)), kind, name);
    program_->tensors.push_back(std::move(t));
    return static_cast<int>(program_->tensors.size()) - 1;
  }
  int Like(const at::Tensor& t) { return Tensor(t.scalar_type(), t.sizes().vec(), t.strides().vec()); }

  int Storage(int64_t bytes, program::StorageKind kind, const std::string& name = "") {
    auto s = std::make_unique<program::StorageT>();
    s->kind = kind;
    s->bytes = bytes;
    s->name = name;
    if (kind >= program::StorageKind::Gradient) {
      s->arena_offset = program_->arena_bytes;
      program_->arena_bytes += (bytes + 63) / 64 * 64;
    }
    program_->storages.push_back(std::move(s));
    return static_cast<int>(program_->storages.size()) - 1;
  }

  static program::ArgT None() { return {}; }
  static program::ArgT T(int tensor) {
    return Of(program::ArgKind::Tensor, [&](auto& a) { a.tensor = tensor; });
  }
  static program::ArgT Ts(std::vector<int64_t> tensors) {
    return Of(program::ArgKind::TensorList, [&](auto& a) { a.ints = tensors; });
  }
  static program::ArgT I(int64_t i) {
    return Of(program::ArgKind::Int, [&](auto& a) { a.i = i; });
  }
  static program::ArgT Is(std::vector<int64_t> is) {
    return Of(program::ArgKind::IntList, [&](auto& a) { a.ints = is; });
  }
  static program::ArgT Bs(std::vector<int64_t> is) {
    return Of(program::ArgKind::BoolList, [&](auto& a) { a.ints = is; });
  }
  static program::ArgT F(double f) {
    return Of(program::ArgKind::Float, [&](auto& a) { a.f = f; });
  }
  static program::ArgT B(bool b) {
    return Of(program::ArgKind::Bool, [&](auto& a) { a.b = b; });
  }
  static program::ArgT S(std::string s) {
    return Of(program::ArgKind::String, [&](auto& a) { a.s = s; });
  }
  static program::ArgT D(at::ScalarType t) {
    return Of(program::ArgKind::DType, [&](auto& a) { a.dtype = ToDType(t); });
  }

  // An instruction with the workspace that the compiler would plan.
  void Add(const std::string& op, const std::vector<program::ArgT>& args, const std::vector<int>& outputs) {
    auto ins = std::make_unique<program::InstructionT>();
    ins->op = op;
    std::vector<TensorMeta> operands, results;
    for (const program::ArgT& a : args) {
      ins->args.push_back(std::make_unique<program::ArgT>(a));
      if (a.kind == program::ArgKind::Tensor) operands.push_back(Meta(a.tensor));
      if (a.kind != program::ArgKind::TensorList) continue;
      for (int64_t t : a.ints) {
        if (t >= 0) operands.push_back(Meta(static_cast<int>(t)));
      }
    }
    for (int out : outputs) {
      if (out >= 0) results.push_back(Meta(out));
    }
    ins->outputs = outputs;
    const int64_t bytes = KernelWorkspace(op, operands, results, program_->world_size, OutVariant(op).has_value()) +
                          CommunicationWorkspace(op, operands, results, program_->world_size);
    if (bytes > 0) ins->workspace = Storage(bytes, program::StorageKind::Workspace);
    program_->instructions.push_back(std::move(ins));
  }

  void Output(program::OutputKind kind, const std::string& name, int tensor, int after) {
    auto out = std::make_unique<program::OutputT>();
    out->kind = kind;
    out->name = name;
    out->tensor = tensor;
    out->after = after;
    program_->outputs.push_back(std::move(out));
  }

  program::ProgramT& program() { return *program_; }
  Result<std::unique_ptr<Executor>> Build(int rank = 0, Communicator* communicator = nullptr, uint64_t seed = 0) const {
    ExecutorOptions options;
    options.rank = rank;
    options.communicator = communicator;
    options.seed = seed;
    return Executor::Create(program_, options);
  }

 private:
  template <typename Set>
  static program::ArgT Of(program::ArgKind kind, Set set) {
    program::ArgT arg;
    arg.kind = kind;
    set(arg);
    return arg;
  }
  TensorMeta Meta(int tensor) const {
    const program::TensorT& t = *program_->tensors[tensor];
    return {t.dtype, t.sizes, t.strides};
  }

  std::shared_ptr<program::ProgramT> program_;
};

// Runs the program on P ranks as threads; `fill` and `check` see each rank's executor, before and after.
template <typename Fill, typename Check>
void RunRanks(const ProgramBuilder& builder, int ranks, Fill fill, Check check, uint64_t seed = 0) {
  auto communicators = MakeInProcessCommunicators(ranks);
  std::vector<std::unique_ptr<Executor>> executors;
  for (int r = 0; r < ranks; ++r) {
    auto executor = builder.Build(r, communicators[r].get(), seed);
    ASSERT_TRUE(executor.ok()) << executor.error().Format();
    executors.push_back(std::move(executor).value());
    fill(r, *executors.back());
  }
  std::vector<Status> results(ranks, Ok());
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      results[r] = executors[r]->Step({});
      if (!results[r].ok()) communicators[r]->Abort();
    });
  }
  for (std::thread& t : threads) t.join();
  for (int r = 0; r < ranks; ++r) {
    ASSERT_TRUE(results[r].ok()) << results[r].error().Format();
    check(r, *executors[r]);
  }
}

}  // namespace autospc::exec
