// Shapes on meta tensors of the ops that have a CPU kernel and no rule at all, of LibTorch's or in meta_rules.cc: the
// CPU kernel says them. Pointwise ops are asked with one element and broadcast; the others run once on zeros of the
// real sizes, which take address space and, as far as the kernel writes, memory until it returns.
#include <ATen/EmptyTensor.h>
#include <ATen/ExpandUtils.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/strides.h>
#include <sys/mman.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "compiler/autodiff/ops.h"
#include "runtime/base/bytes.h"

namespace autospc::autodiff {
namespace {

using at::Tensor;
using torch::jit::Stack;

thread_local int64_t most_bytes = int64_t{16} << 30;  // of an op's operands together

// Zeros on the host: pages of their own, which take no memory while they are only read. The bytes are added to `taken`.
Tensor Zeros(const Tensor& like, at::IntArrayRef sizes, at::IntArrayRef strides, int64_t* taken) {
  const auto bytes = static_cast<int64_t>(at::detail::computeStorageNbytes(sizes, strides, like.itemsize()));
  *taken += bytes;
  TORCH_CHECK_NOT_IMPLEMENTED(*taken <= most_bytes,
                              "the op has no shape rule on meta tensors, and its operands have more than ",
                              FormatBytes(most_bytes), ", too many to ask its kernel");
  const auto options = at::TensorOptions().dtype(like.scalar_type());
  if (bytes == 0) return at::empty_strided(sizes, strides, options);
  void* const data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  TORCH_CHECK(data != MAP_FAILED, "no address space for ", bytes, " bytes");
  return at::from_blob(
      data, sizes, strides, [bytes](void* p) { munmap(p, static_cast<size_t>(bytes)); }, options);
}

// The layout of the first operand that has the full shape, as TensorIterator permutes; else row-major.
std::vector<int64_t> Layout(at::IntArrayRef sizes, const std::vector<Tensor>& operands) {
  for (const Tensor& t : operands) {
    if (t.sizes() == sizes && t.is_non_overlapping_and_dense()) return t.strides().vec();
  }
  const auto strides = c10::contiguous_strides(sizes);
  return {strides.begin(), strides.end()};
}

// One call: its tensors as the host's, and back.
class HostCall {
 public:
  HostCall(const c10::OperatorHandle& op, Stack* stack) : op_(op), stack_(*stack) {}

  // On zeros of the operands' sizes.
  void Run() {
    Replace([&](const Tensor& t) { return Zeros(t, t.sizes(), t.strides(), &taken_); });
    Call();
    for (auto& [meta, host] : pairs_) {  // what was written may have been given another shape
      if (meta.sizes() != host.sizes()) Reshape(meta, host.sizes(), host.strides());
    }
    Return([&](const Tensor& host) {
      return at::empty_strided(host.sizes(), host.strides(), host.options().device(c10::kMeta));
    });
  }

  // On one element of each.
  void RunPointwise() {
    Replace([&](const Tensor& t) {
      if (written_.defined() && t.is_same(written_) && t.numel() == 0)
        return Zeros(t, t.sizes(), t.strides(), &taken_);  // to be given its shape
      const std::vector<int64_t> ones(t.dim(), 1);
      return Zeros(t, ones, ones, &taken_);
    });
    std::vector<int64_t> sizes;
    std::vector<Tensor> read;
    for (size_t i = 0; i < pairs_.size(); ++i) {
      if (i == written_at_) continue;  // an operand in place is there a second time
      sizes = at::infer_size(sizes, pairs_[i].first.sizes());
      read.push_back(pairs_[i].first);
    }
    Call();
    const std::vector<int64_t> strides = Layout(sizes, read);
    if (written_.defined() && written_.sizes() != at::IntArrayRef(sizes)) Reshape(written_, sizes, strides);
    Return([&](const Tensor& host) { return at::empty_strided(sizes, strides, host.options().device(c10::kMeta)); });
  }

 private:
  template <typename Make>
  void Replace(const Make& make) {
    const auto& arguments = op_.schema().arguments();
    const size_t first = stack_.size() - arguments.size();
    for (size_t i = 0; i < arguments.size(); ++i) {
      c10::IValue& v = stack_[first + i];
      const auto* alias = arguments[i].alias_info();
      if (v.isTensor() && alias != nullptr && alias->isWrite()) {
        written_ = v.toTensor();
        if (arguments[i].is_out()) written_at_ = pairs_.size();
      }
      v = ToHost(v, make);
    }
  }

  template <typename Make>
  c10::IValue ToHost(const c10::IValue& v, const Make& make) {
    const auto one = [&](const Tensor& t) -> Tensor {
      if (!t.defined() || !t.is_meta()) return t;
      pairs_.emplace_back(t, make(t));
      return pairs_.back().second;
    };
    if (v.isTensor()) return one(v.toTensor());
    if (v.isDevice()) return c10::Device(c10::kCPU);
    if (v.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& t : v.toTensorVector()) list.push_back(one(t));
      return list;
    }
    if (v.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> list;
      for (const std::optional<Tensor>& t : v.toOptionalTensorVector())
        list.push_back(t ? std::optional<Tensor>(one(*t)) : std::nullopt);
      return list;
    }
    return v;
  }

  void Call() { op_.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack_); }

  template <typename Make>
  void Return(const Make& make) {
    const auto one = [&](const Tensor& host) -> Tensor {
      if (!host.defined()) return host;
      for (const auto& [meta, twin] : pairs_) {
        if (twin.is_same(host)) return meta;
      }
      return make(host);
    };
    for (size_t i = stack_.size() - op_.schema().returns().size(); i < stack_.size(); ++i) {
      c10::IValue& v = stack_[i];
      if (v.isTensor()) {
        v = one(v.toTensor());
      } else if (v.isTensorList()) {
        c10::List<Tensor> list;
        for (const Tensor& t : v.toTensorVector()) list.push_back(one(t));
        v = list;
      }
    }
  }

  static void Reshape(const Tensor& meta, at::IntArrayRef sizes, at::IntArrayRef strides) {
    meta.resize_(sizes);
    meta.as_strided_(sizes, strides);
  }

  const c10::OperatorHandle& op_;
  Stack& stack_;
  std::vector<std::pair<Tensor, Tensor>> pairs_;  // the meta tensor and the host's in its place
  Tensor written_;
  size_t written_at_ = std::numeric_limits<size_t>::max();  // in pairs_, of an argument that is written and not read
  int64_t taken_ = 0;
};

void OnHost(const c10::OperatorHandle& op, Stack* stack) { HostCall(op, stack).Run(); }
void OnOneElement(const c10::OperatorHandle& op, Stack* stack) { HostCall(op, stack).RunPointwise(); }

bool OnlyTensors(const c10::FunctionSchema& schema) {
  return std::all_of(schema.returns().begin(), schema.returns().end(), [](const c10::Argument& r) {
    return r.type()->kind() == c10::TypeKind::TensorType || r.type()->isSubtypeOf(*c10::ListType::ofTensors());
  });
}

}  // namespace

ShapesWithin::ShapesWithin(int64_t bytes) : before_(std::exchange(most_bytes, bytes)) {}
ShapesWithin::~ShapesWithin() { most_bytes = before_; }

void RegisterMetaFallbacks() {
  static torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__, __LINE__);
  static const bool registered = [] {
    for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames()) {
      if (!name.name.starts_with("aten::")) continue;
      const auto op = c10::Dispatcher::singleton().findSchema(name);
      if (!op || op->hasKernelForDispatchKey(c10::DispatchKey::Meta) ||
          !op->hasKernelForDispatchKey(c10::DispatchKey::CPU))
        continue;
      // Zeros would say nothing of a shape that depends on what is in them.
      if (op->hasTag(at::Tag::dynamic_output_shape) || op->hasTag(at::Tag::data_dependent_output) ||
          !OnlyTensors(op->schema()))
        continue;
      const std::string full = name.name.substr(6) + (name.overload_name.empty() ? "" : "." + name.overload_name);
      library.impl(full.c_str(), op->hasTag(at::Tag::pointwise)
                                     ? torch::CppFunction::makeFromBoxedFunction<&OnOneElement>()
                                     : torch::CppFunction::makeFromBoxedFunction<&OnHost>());
    }
    return true;
  }();
  (void)registered;
}

}  // namespace autospc::autodiff
