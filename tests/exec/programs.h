// Programs built by hand for the executor's tests: tensors of their own storages, instructions one by one.
#pragma once

#include <ATen/ops/allclose.h>
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
#include "runtime/package/portable_workspace.h"
#include "tests/exec/far_device.h"

namespace autospc::exec {

inline std::vector<int64_t> RowMajor(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t d = sizes.size(); d-- > 1;) strides[d - 1] = strides[d] * std::max<int64_t>(sizes[d], 1);
  return strides;
}

class ProgramBuilder {
 public:
  // `portable`: for the portable kernels, on the host.
  explicit ProgramBuilder(int world_size = 1, bool portable = false)
      : portable_(portable), program_(std::make_shared<program::ProgramT>()) {
    program_->world_size = world_size;
  }
  // The same so far, to go on otherwise.
  ProgramBuilder Copy() const {
    ProgramBuilder copy(*this);
    copy.program_ = std::make_shared<program::ProgramT>(*program_);
    return copy;
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
    const int64_t bytes = (portable_ ? PortableWorkspace(op, operands, results)
                                     : KernelWorkspace(op, operands, results, program_->world_size, OutVariant(op).has_value())) +
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
  const program::ProgramT& program() const { return *program_; }
  Result<std::unique_ptr<Executor>> Build(int rank = 0, Communicator* communicator = nullptr, uint64_t seed = 0,
                                          c10::Device device = at::kCPU, std::shared_ptr<SideStream> side = nullptr) const {
    ExecutorOptions options;
    options.side_stream = std::move(side);
    options.device = device;
    options.portable_kernels = portable_;
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

  bool portable_ = false;
  std::shared_ptr<program::ProgramT> program_;
};

// Every rank's first step, each in a thread of its own.
inline void StepTogether(const std::vector<std::unique_ptr<Executor>>& executors,
                         const std::vector<std::unique_ptr<Communicator>>& communicators) {
  std::vector<Status> results(executors.size(), Ok());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < executors.size(); ++r) {
    threads.emplace_back([&, r] {
      results[r] = executors[r]->Step({});
      if (!results[r].ok() && !communicators.empty()) communicators[r]->Abort();
    });
  }
  for (std::thread& t : threads) t.join();
  for (const Status& result : results) ASSERT_TRUE(result.ok()) << result.error().Format();
}

// The portable kernels on memory that the host cannot reach, beside the host's: makes executors of the same content, to be
// stepped, whose tensors then hold the same. Differences are those of the order of sums.
class FarAway {
 public:
  FarAway(const ProgramBuilder& builder, const std::vector<std::unique_ptr<Executor>>& host, uint64_t seed = 0)
      : host_(host), communicators_(MakeInProcessCommunicators(static_cast<int>(host.size()), far::Install())) {
    for (size_t r = 0; r < host.size(); ++r) {
      auto executor = builder.Build(static_cast<int>(r), communicators_[r].get(), seed, far::Device());
      if (!executor.ok()) ADD_FAILURE() << executor.error().Format();
      if (!executor.ok()) continue;
      executors_.push_back(std::move(executor).value());
      for (size_t s = 0; s < host[r]->program().storages.size(); ++s) {
        const int64_t bytes = host[r]->program().storages[s]->bytes;
        const auto at = [&](Executor& e) { return TensorAt(e.device(), e.storage(static_cast<int>(s)), {bytes}, {1}, at::kByte); };
        at(*executors_[r]).copy_(at(*host[r]));
      }
    }
  }

  void Step() const { StepTogether(executors_, communicators_); }
  void ExpectSame() const {
    for (size_t r = 0; r < executors_.size(); ++r) {
      for (size_t t = 0; t < host_[r]->program().tensors.size(); ++t) {
        const at::Tensor expected = host_[r]->tensor(static_cast<int>(t)), got = executors_[r]->tensor(static_cast<int>(t)).cpu();
        const bool narrow = expected.scalar_type() == at::kBFloat16 || expected.scalar_type() == at::kHalf;
        const double tolerance = !expected.is_floating_point() ? 0 : narrow ? 1e-2 : expected.scalar_type() == at::kFloat ? 1e-5 : 1e-9;
        const at::Tensor a = got.to(at::kDouble), b = expected.to(at::kDouble);
        EXPECT_TRUE(at::allclose(a, b, tolerance, tolerance, /*equal_nan=*/true))
            << "tensor " << t << " of rank " << r << " is otherwise on the far device, by " << a.sub(b).abs().max().item<double>();
      }
    }
  }

 private:
  const std::vector<std::unique_ptr<Executor>>& host_;
  std::vector<std::unique_ptr<Communicator>> communicators_;
  std::vector<std::unique_ptr<Executor>> executors_;
};

// Runs the program on P ranks as threads; `fill` and `check` see each rank's executor, before and after. The portable
// kernels must come to the same.
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
  const FarAway far(builder, executors, seed);
  StepTogether(executors, communicators);
  if (testing::Test::HasFatalFailure()) return;
  for (int r = 0; r < ranks; ++r) check(r, *executors[r]);
  far.Step();
  far.ExpectSame();
}

}  // namespace autospc::exec
