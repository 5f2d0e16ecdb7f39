#include "runtime/exec/call.h"

#include <fmt/format.h>

#include <cassert>
#include <cmath>
#include <stdexcept>

namespace autospc::exec {

using program::ArgKind;

int64_t Call::Int(size_t i) const {
  const program::ArgT& a = *args.at(i).arg;
  if (a.kind == ArgKind::Bool) return a.b ? 1 : 0;
  if (a.kind != ArgKind::Float) return a.i;
  if (!(std::abs(a.f) < 0x1p63)) throw std::out_of_range(fmt::format("{} is no 64-bit integer", a.f));
  return static_cast<int64_t>(a.f);
}

double Call::Float(size_t i) const {
  const program::ArgT& a = *args.at(i).arg;
  if (a.kind == ArgKind::Bool) return a.b ? 1 : 0;
  return a.kind == ArgKind::Float ? a.f : static_cast<double>(a.i);
}

bool Call::Bool(size_t i) const {
  const program::ArgT& a = *args.at(i).arg;
  return a.kind == ArgKind::Bool ? a.b : a.i != 0;
}

c10::Scalar Call::Number(size_t i) const {
  const program::ArgT& a = *args.at(i).arg;
  if (a.kind == ArgKind::Bool) return a.b;
  if (a.kind == ArgKind::Float) return a.f;
  return a.i;
}

int64_t Bytes(const at::Tensor& t) { return t.numel() * static_cast<int64_t>(t.element_size()); }

c10::ScalarType ToScalarType(program::DType dtype) {
  using program::DType;
  switch (dtype) {
    case DType::Bool:
      return c10::ScalarType::Bool;
    case DType::UInt8:
      return c10::ScalarType::Byte;
    case DType::Int8:
      return c10::ScalarType::Char;
    case DType::Int16:
      return c10::ScalarType::Short;
    case DType::Int32:
      return c10::ScalarType::Int;
    case DType::Int64:
      return c10::ScalarType::Long;
    case DType::Float16:
      return c10::ScalarType::Half;
    case DType::BFloat16:
      return c10::ScalarType::BFloat16;
    case DType::Float32:
      return c10::ScalarType::Float;
    case DType::Float64:
      return c10::ScalarType::Double;
    case DType::Complex64:
      return c10::ScalarType::ComplexFloat;
    case DType::Complex128:
      return c10::ScalarType::ComplexDouble;
  }
  return c10::ScalarType::Undefined;
}

program::DType ToDType(c10::ScalarType type) {
  for (int d = 0; d <= static_cast<int>(program::DType::MAX); ++d) {
    if (ToScalarType(static_cast<program::DType>(d)) == type) return static_cast<program::DType>(d);
  }
  assert(false && "no program holds this type");
  return program::DType::Float32;
}

const KernelTable& KernelTable::Get(KernelSet set) {
  const auto make = [](std::initializer_list<void (*)(KernelTable*)> own) {
    auto* t = new KernelTable;
    for (auto* add : {&AddCreationKernels, &AddCopyKernels, &AddArithmeticKernels, &AddProductKernels, &AddIndexKernels,
                      &AddCollectiveKernels, &AddPlacementKernels, &AddMicroBatchKernels}) {
      add(t);
    }
    for (auto* add : own) add(t);
    return t;
  };
  static const KernelTable* const host =
      make({&AddHostProductKernels, &AddHostIndexKernels, &AddHostPlacementKernels, &AddNormKernels, &AddStepKernels,
            &AddCoalescedKernels, &AddAttentionKernels});
  static const KernelTable* const portable =
      make({&AddPortableProductKernels, &AddPortableIndexKernels, &AddPortablePlacementKernels, &AddPortableNormKernels,
            &AddPortableStepKernels, &AddPortableCoalescedKernels, &AddPortableAttentionKernels});
  return set == KernelSet::kHost ? *host : *portable;
}

const KernelMaker* KernelTable::Find(std::string_view op) const {
  const auto it = makers_.find(op);
  return it == makers_.end() ? nullptr : &it->second;
}

void KernelTable::Add(std::string_view op, KernelMaker maker) {
  const bool fresh = makers_.emplace(op, std::move(maker)).second;
  assert(fresh && "two kernels for one op");
  (void)fresh;
}

void KernelTable::Add(std::string_view op, Status (*run)(const Call&)) {
  Add(op, [run](const Call& call) -> Result<Kernel> { return Kernel([run, c = &call] { return run(*c); }); });
}

void KernelTable::Add(std::string_view op, Status (*check)(const Call&), Status (*run)(const Call&)) {
  Add(op, [check, run](const Call& call) -> Result<Kernel> {
    RETURN_IF_ERROR(check(call));
    return Kernel([run, c = &call] { return run(*c); });
  });
}

}  // namespace autospc::exec
