// A device for tests of what runs on GPUs: LibTorch's CPU kernels on memory that the host cannot reach. Its pointers are
// addresses of pages without access, so that a kernel that goes through one ends the process with SIGSEGV; ops of LibTorch
// reach the same pages by another mapping. An op that mixes its tensors with the host's throws, as on a GPU (numbers are
// let pass). Work is done when an op returns: of streams and events it says nothing.
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/stack.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/EmptyTensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

namespace autospc::far {

inline c10::Device Device() { return c10::Device(c10::DeviceType::PrivateUse1, 0); }

// Pages mapped twice: `far` without access, `near` for the ops.
class Memory {
 public:
  static Memory& Get() {
    static auto* const memory = new Memory;
    return *memory;
  }

  void* Take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    const size_t size = std::bit_ceil(std::max<size_t>(bytes, 64));
    now_ += static_cast<int64_t>(size);
    peak_ = std::max(peak_, now_);
    std::vector<char*>& free = free_[size];
    char* at = nullptr;
    if (!free.empty()) {
      at = free.back();
      free.pop_back();
    } else {
      if (used_ + size > kBytes) std::abort();
      at = far_ + used_;
      used_ += size;
    }
    size_[at] = size;
    return at;
  }
  void Give(void* data) {
    const std::lock_guard lock(mutex_);
    const auto it = size_.find(static_cast<char*>(data));
    now_ -= static_cast<int64_t>(it->second);
    free_[it->second].push_back(it->first);
    size_.erase(it);
  }

  bool IsNear(const void* p) const { return p >= near_ && p < near_ + kBytes; }
  void* Near(const void* far) const { return far == nullptr ? nullptr : near_ + (static_cast<const char*>(far) - far_); }
  void* Far(const void* near) const { return far_ + (static_cast<const char*>(near) - near_); }

  // Bytes given out, in powers of two: the most at a time since Reset, and then.
  void Reset() {
    const std::lock_guard lock(mutex_);
    peak_ = base_ = now_;
  }
  int64_t Risen() {
    const std::lock_guard lock(mutex_);
    return peak_ - base_;
  }

 private:
  static constexpr size_t kBytes = size_t{8} << 30;  // of addresses; pages are taken as they are touched

  Memory() {
    const int file = memfd_create("far", 0);
    if (file < 0 || ftruncate(file, kBytes) != 0) std::abort();
    near_ = static_cast<char*>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0));
    far_ = static_cast<char*>(mmap(nullptr, kBytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE, file, 0));
    close(file);
    if (near_ == MAP_FAILED || far_ == MAP_FAILED) std::abort();
  }

  std::mutex mutex_;
  char *near_ = nullptr, *far_ = nullptr;
  size_t used_ = 0;
  int64_t now_ = 0, peak_ = 0, base_ = 0;
  std::map<size_t, std::vector<char*>> free_;
  std::map<char*, size_t> size_;
};

// What LibTorch allocates on the device by.
class Allocator final : public c10::Allocator {
 public:
  static Allocator* Get() {
    static auto* const allocator = new Allocator;
    return allocator;
  }
  c10::DataPtr allocate(size_t bytes) override {
    void* const data = Memory::Get().Take(bytes);
    return {data, data, raw_deleter(), Device()};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return [](void* data) { Memory::Get().Give(data); };
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(Memory::Get().Near(to), Memory::Get().Near(from), bytes);
  }
};

// A tensor of the device as one of the host's, of the same memory. One whose memory may be exchanged for more is so here.
inline at::Tensor Near(const at::Tensor& t) {
  auto maker = at::for_blob(Memory::Get().Near(t.const_data_ptr()), t.sizes());
  maker.strides(t.strides()).options(at::TensorOptions().dtype(t.scalar_type())).target_device(c10::Device(c10::DeviceType::CPU));
  if (t.storage().resizable()) maker.resizeable_storage().allocator(c10::GetAllocator(c10::DeviceType::CPU));
  return maker.make_tensor();
}

// What is at `data`, which `context` keeps alive.
inline at::Tensor FarAt(void* data, const at::Tensor& like, std::vector<std::pair<at::Tensor, at::Tensor>> context) {
  return at::for_blob(data, like.sizes())
      .strides(like.strides())
      .deleter([context](void*) {})
      .options(at::TensorOptions(Device()).dtype(like.scalar_type()))
      .target_device(Device())
      .make_tensor();
}

// Memory of its own with what is in a tensor of the host.
inline at::Tensor FarCopy(const at::Tensor& t) {
  const size_t bytes = at::detail::computeStorageNbytes(t.sizes(), t.strides(), t.itemsize());
  c10::Storage storage(c10::Storage::use_byte_size_t(), bytes, Allocator::Get(), /*resizable=*/true);
  at::Tensor far = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), t.dtype());
  far.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides());
  if (t.numel() > 0) Near(far).copy_(t);
  return far;
}

// One op: its tensors as the host's, its results as the device's. Results that are operands stay those; others that lie in
// the device's memory are views of an operand.
class NearCall {
 public:
  explicit NearCall(const c10::OperatorHandle& op) : op_(op) {}

  void Run(torch::jit::Stack* stack) {
    const size_t arguments = op_.schema().arguments().size();
    for (size_t i = stack->size() - arguments; i < stack->size(); ++i) (*stack)[i] = ToNear((*stack)[i]);
    op_.callBoxed(stack);
    for (const auto& [near, far] : pairs_) {
      if (near.sizes() == far.sizes() && near.strides() == far.strides()) continue;  // else the op has given it another shape
      const at::Tensor whole = FarCopy(near);
      far.unsafeGetTensorImpl()->set_storage_keep_dtype(whole.storage());
      far.unsafeGetTensorImpl()->set_sizes_and_strides(near.sizes(), near.strides());
    }
    for (size_t i = stack->size() - op_.schema().returns().size(); i < stack->size(); ++i) (*stack)[i] = ToFar((*stack)[i]);
  }

 private:
  at::Tensor ToNear(const at::Tensor& t) {
    if (!t.defined()) return t;
    if (t.device().type() != c10::DeviceType::PrivateUse1) {
      TORCH_CHECK(t.dim() == 0, op_.schema().name(), " mixes tensors of the host and of the far device");
      return t;
    }
    pairs_.emplace_back(Near(t), t);
    return pairs_.back().first;
  }
  c10::IValue ToNear(const c10::IValue& value) {
    if (value.isTensor()) return ToNear(value.toTensor());
    if (value.isDevice()) return c10::Device(c10::DeviceType::CPU);
    if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& t : value.toTensorVector()) list.push_back(ToNear(t));
      return list;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const std::optional<at::Tensor>& t : value.toOptionalTensorVector()) {
        list.push_back(t ? std::optional<at::Tensor>(ToNear(*t)) : std::nullopt);
      }
      return list;
    }
    return value;
  }
  at::Tensor ToFar(const at::Tensor& t) {
    if (!t.defined()) return t;
    for (const auto& [near, far] : pairs_) {
      if (near.is_same(t)) return far;
    }
    Memory& memory = Memory::Get();
    if (t.numel() > 0 && memory.IsNear(t.const_data_ptr())) {
      return FarAt(memory.Far(t.const_data_ptr()), t, pairs_);
    }
    return FarCopy(t);
  }
  c10::IValue ToFar(const c10::IValue& value) {
    if (value.isTensor()) return ToFar(value.toTensor());
    if (!value.isTensorList()) return value;
    c10::List<at::Tensor> list;
    for (const at::Tensor& t : value.toTensorVector()) list.push_back(ToFar(t));
    return list;
  }

  const c10::OperatorHandle& op_;
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs_;
};

inline void RunNear(const c10::OperatorHandle& op, torch::jit::Stack* stack) { NearCall(op).Run(stack); }

// Between the two memories, and within the far one: what copy_ comes to for a device that LibTorch does not know.
inline at::Tensor CopyAcross(const at::Tensor& from, const at::Tensor& to, bool) {
  const auto near = [](const at::Tensor& t) { return t.device() == Device() ? Near(t) : t; };
  near(to).copy_(near(from));
  return to;
}

struct Guard final : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::PrivateUse1> {
  c10::Device exchangeDevice(c10::Device) const override { return Device(); }
  c10::Device getDevice() const override { return Device(); }
  void synchronizeDevice(c10::DeviceIndex) const override {}
};

// Makes the device known to LibTorch, once; returns it.
inline c10::Device Install() {
  static const bool installed = [] {
    static at::PrivateUse1HooksInterface hooks;
    at::RegisterPrivateUse1HooksInterface(&hooks);
    static const Guard guard;
    c10::SetAllocator(c10::DeviceType::PrivateUse1, Allocator::Get());
    c10::impl::registerDeviceGuard(c10::DeviceType::PrivateUse1, &guard);
    static torch::Library all(torch::Library::IMPL, "_", c10::DispatchKey::PrivateUse1, __FILE__, __LINE__);
    all.fallback(torch::CppFunction::makeFromBoxedFunction<&RunNear>());
    static torch::Library aten(torch::Library::IMPL, "aten", c10::DispatchKey::PrivateUse1, __FILE__, __LINE__);
    aten.impl("_copy_from", &CopyAcross);
    return true;
  }();
  (void)installed;
  return Device();
}

}  // namespace autospc::far
