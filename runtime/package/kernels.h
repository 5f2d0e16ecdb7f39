// What the compiler must know about the kernels of the runtime: which ops have a kernel of our own, what
// may run in place, and how many bytes of scratch an instruction needs. Compiler and runtime link the same
// table, so that the memory plan and the executor cannot disagree. No LibTorch here.
//
// An instruction runs in one of these ways, tried in this order:
//   own kernel   listed in the table below: writes where it is told;
//   in place     a LibTorch op that writes to its operands ("aten.copy_.default");
//   out variant  LibTorch has an `.out` overload registered for the device itself (a composite one allocates
//                a full result and does not count): writes where it is told;
//   fallback     the functional op runs, its allocations are served from the planned workspace, and the
//                results are copied out.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/package/program_generated.h"

namespace autospc {

// A tensor's geometry; strides in elements.
struct TensorMeta {
  program::DType dtype = program::DType::Float32;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;

  int64_t numel() const;
  int64_t bytes() const;  // of its elements: numel * element size
  bool is_contiguous() const;
};

int64_t ElementBytes(program::DType dtype);

enum class KernelWay : uint8_t { kOwn, kInPlace, kOut, kFallback };

// An op that the runtime executes with a kernel of its own.
struct KernelEntry {
  std::string_view op;  // "autosp.mask", "aten.embedding.default"
  // The kernel is right when its result lies exactly on its first operand, if that has the same dtype, sizes and
  // strides and dies here.
  bool in_place_ok = false;
};

const KernelEntry* FindKernel(std::string_view op);  // nullptr: none of our own
KernelWay WayOf(std::string_view op, bool has_out_variant);

// An elementwise op of LibTorch whose `.out` overload (or own kernel) may write over an operand of the
// same dtype, sizes and strides: each element is read before it is written (TensorIterator checks full
// overlap and allows it).
bool IsElementwise(std::string_view op);

// On which dying operand of the same dtype, sizes and strides a result may lie exactly: kernels of our own that
// say so take the first, elementwise ones any, and so do those that run elsewhere and copy their one result out
// at the end.
enum class InPlace : uint8_t { kNever, kFirst, kAny };
InPlace MayRunInPlace(std::string_view op, bool has_out_variant, size_t num_results);

// Bytes of scratch of one instruction: what its kernel may allocate besides its results, in units that the
// workspace allocator serves (each allocation is rounded up to 64). `operands` and `results` as in the
// instruction, lists flattened, None left out.
//   own kernel   the kernel's own formula, 0 for most;
//   out variant  elementwise: temporaries for operands and results that are not of the common dtype;
//                other ops: contiguous copies of operands that are not, except where any strides are read;
//   fallback     twice its results, contiguous copies of its operands, and 64 KiB.
int64_t KernelWorkspace(std::string_view op, const std::vector<TensorMeta>& operands,
                        const std::vector<TensorMeta>& results, int world_size, bool has_out_variant);

// Bytes of staging that a collective needs besides its operands and results: buffers in rank order that
// the transport reads from and writes to. 0 for other ops.
int64_t CommunicationWorkspace(std::string_view op, const std::vector<TensorMeta>& operands,
                               const std::vector<TensorMeta>& results, int world_size);

}  // namespace autospc
