// One instruction with everything resolved: what a kernel sees.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Scalar.h>
#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/base/mesh.h"
#include "runtime/base/result.h"
#include "runtime/package/program_generated.h"

namespace autospc {
class Communicator;
}

namespace autospc::exec {

// The ranks among which a collective runs, and this rank's place among them.
struct Group {
  int rank = 0;
  int size = 1;
  Communicator* communicator = nullptr;  // of `size` ranks; may be null where that is 1
};

// The kernels of our own come in two sets. The host's go through memory by pointers and take their scratch from the plan
// to the byte. The portable ones are made of LibTorch's ops alone, so that they run wherever its tensors are: on a GPU,
// and for tests on the host.
enum class KernelSet : uint8_t { kHost, kPortable };

// What differs from rank to rank and from step to step.
struct Context {
  int rank = 0;  // of all
  int world_size = 1;
  Communicator* communicator = nullptr;  // of world_size ranks
  Group sp, dp;
  uint64_t seed = 0;    // of dropout, in this step
  bool dropout = true;  // false: nothing is dropped (evaluation)
  c10::Device device = c10::Device(c10::DeviceType::CPU);  // where operands, results and workspaces lie
  KernelSet kernels = KernelSet::kHost;

  Group GroupOf(Axis axis) const {
    return axis == Axis::kSp ? sp : axis == Axis::kDp ? dp : Group{rank, world_size, communicator};
  }
};

struct CallArg {
  const program::ArgT* arg = nullptr;
  at::Tensor tensor;                // of a tensor, undefined otherwise
  std::vector<at::Tensor> tensors;  // of a list; undefined where it holds None
};

struct Call {
  const Context* context = nullptr;
  const program::InstructionT* instruction = nullptr;
  Group ranks;                      // see group()
  std::vector<CallArg> args;        // in schema order
  std::vector<at::Tensor> outputs;  // views of the planned buffers; undefined where nobody wants the result
  std::span<std::byte> workspace;   // on the device; empty if none was planned

  bool Has(size_t i) const { return i < args.size() && args[i].arg->kind != program::ArgKind::None; }
  // An argument that the program leaves out throws std::out_of_range, as does a float for which there is no integer.
  const at::Tensor& Tensor(size_t i) const { return args.at(i).tensor; }
  const std::vector<at::Tensor>& Tensors(size_t i) const { return args.at(i).tensors; }
  int64_t Int(size_t i) const;
  double Float(size_t i) const;
  bool Bool(size_t i) const;
  c10::Scalar Number(size_t i) const;
  const std::vector<int64_t>& Ints(size_t i) const { return args.at(i).arg->ints; }
  std::string_view String(size_t i) const { return args.at(i).arg->s; }
  // Along the axis that the op's last argument names, else along the op's usual one.
  const Group& group() const { return ranks; }
};

int64_t Bytes(const at::Tensor& t);
c10::ScalarType ToScalarType(program::DType dtype);
program::DType ToDType(c10::ScalarType type);

// Whether the call's arguments and results are as many and of such kinds as the op's schema says (LibTorch's for its
// ops, runtime/base/autosp_ops.h for ours): kernels index them by position. kBadInput where they are not.
Status CheckCall(const Call& call);
// By position: whether the op writes to that argument. Empty for an op that neither has.
std::vector<bool> WrittenArguments(std::string_view op);
// kBadInput for operands and results that don't fit one another.
Error Misshapen(const Call& call, std::string_view what);
// A tensor of so many elements; what kernels ask of numbers that they read or write through a pointer.
inline bool HasElements(const at::Tensor& t, int64_t count) { return t.defined() && t.numel() == count; }

// Runs the instruction, or on a device other than the host queues its work on the current stream. Tensors that a host
// kernel allocates come from the call's workspace. It may throw c10::Error.
using Kernel = std::function<Status()>;
// Makes the kernel of a call, which outlives it. kBadInput for arguments that don't fit.
using KernelMaker = std::function<Result<Kernel>(const Call& call)>;

// The kernels of our own, by op. Ops of LibTorch are here only where LibTorch has no `.out` that writes in
// place. runtime/package/kernels.cc lists the same names for the compiler; a test holds them together.
class KernelTable {
 public:
  static const KernelTable& Get(KernelSet set = KernelSet::kHost);
  const KernelMaker* Find(std::string_view op) const;
  const std::map<std::string_view, KernelMaker>& all() const { return makers_; }

  // For the kernel files.
  void Add(std::string_view op, KernelMaker maker);
  void Add(std::string_view op, Status (*run)(const Call&));
  // `check` is asked once, at load: what it lets pass, `run` may do to memory without asking again.
  void Add(std::string_view op, Status (*check)(const Call&), Status (*run)(const Call&));

 private:
  std::map<std::string_view, KernelMaker> makers_;
};

// Kernels of both sets.
void AddCreationKernels(KernelTable* table);    // kernels_creation.cc: zeros, full, arange, …
void AddCopyKernels(KernelTable* table);        // kernels_copy.cc: clone, slice_backward, constant_pad_nd, …
void AddArithmeticKernels(KernelTable* table);  // kernels_arithmetic.cc: scalar overloads, relu, logsumexp, …
void AddProductKernels(KernelTable* table);     // kernels_product.cc: addmm, baddbmm
void AddIndexKernels(KernelTable* table);       // kernels_index.cc: embedding, index_put, …
void AddCollectiveKernels(KernelTable* table);  // kernels_collective.cc: all_reduce, all_to_all, …
void AddPlacementKernels(KernelTable* table);   // kernels_placement.cc: mask, take, …
void AddMicroBatchKernels(KernelTable* table);  // kernels_micro_batches.cc: accumulate_, total, …

// The host's. Each has a portable counterpart below, of the same ops.
void AddHostProductKernels(KernelTable* table);    // kernels_product.cc: 16-bit products in float32
void AddHostIndexKernels(KernelTable* table);      // kernels_index.cc: embedding's backward pass
void AddHostPlacementKernels(KernelTable* table);  // kernels_placement.cc: positions, dropout
void AddNormKernels(KernelTable* table);           // kernels_norm.cc: layer norm and its backward
void AddStepKernels(KernelTable* table);           // kernels_step.cc: grad_norm, adamw_, sgd_
void AddCoalescedKernels(KernelTable* table);      // kernels_coalesced.cc: collectives over many tensors at once
void AddAttentionKernels(KernelTable* table);      // kernels_attention.cc

void AddPortableProductKernels(KernelTable* table);    // portable_product.cc
void AddPortableIndexKernels(KernelTable* table);      // portable_index.cc
void AddPortablePlacementKernels(KernelTable* table);  // portable_placement.cc
void AddPortableNormKernels(KernelTable* table);       // portable_norm.cc
void AddPortableStepKernels(KernelTable* table);       // portable_step.cc
void AddPortableCoalescedKernels(KernelTable* table);  // portable_coalesced.cc
void AddPortableAttentionKernels(KernelTable* table);  // portable_attention.cc

}  // namespace autospc::exec
