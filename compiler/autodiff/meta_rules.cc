// Shape rules on meta tensors for ops of LibTorch that have a CPU and a CUDA kernel and no Meta one (2.11).
// Each gives the sizes, strides and dtype of the CPU kernel; tests/autodiff/meta_rules_test.cc holds them to it.
#include <ATen/ExpandUtils.h>
#include <ATen/native/ConvUtils.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>

namespace autospc::autodiff {
namespace {

using at::Tensor;

Tensor New(const Tensor& like, std::vector<int64_t> sizes) { return at::empty(sizes, like.options()); }

std::vector<int64_t> Joined(at::IntArrayRef a, at::IntArrayRef b) {
  std::vector<int64_t> sizes = a.vec();
  sizes.insert(sizes.end(), b.begin(), b.end());
  return sizes;
}

Tensor Embedding(const Tensor& weight, const Tensor& indices, c10::SymInt, bool, bool) {
  return New(weight, Joined(indices.sizes(), weight.sizes().slice(1)));
}

Tensor EmbeddingDenseBackward(const Tensor& grad, const Tensor&, c10::SymInt rows, c10::SymInt, bool) {
  return New(grad, {rows.expect_int(), grad.size(-1)});
}

Tensor Like(const Tensor& x) { return at::empty_like(x); }

Tensor IndexSelect(const Tensor& self, int64_t dim, const Tensor& index) {
  if (self.dim() == 0) return New(self, {});
  std::vector<int64_t> sizes = self.sizes().vec();
  sizes[c10::maybe_wrap_dim(dim, self.dim())] = index.numel();
  return New(self, sizes);
}

std::tuple<Tensor, Tensor, Tensor> NativeLayerNorm(const Tensor& x, c10::SymIntArrayRef normalized,
                                                   const std::optional<Tensor>& weight, const std::optional<Tensor>&, double) {
  std::vector<int64_t> sizes = x.sizes().vec();
  std::fill(sizes.end() - static_cast<int64_t>(normalized.size()), sizes.end(), 1);
  // 16-bit inputs with float32 weights keep float32 statistics.
  const bool mixed = weight && weight->defined() && weight->scalar_type() == at::kFloat;
  const auto statistics = x.options().dtype(mixed ? at::kFloat : x.scalar_type());
  return {at::empty(x.sizes(), x.options()), at::empty(sizes, statistics), at::empty(sizes, statistics)};
}

std::tuple<Tensor, Tensor, Tensor> NativeLayerNormBackward(const Tensor& grad, const Tensor& input, c10::SymIntArrayRef,
                                                           const Tensor&, const Tensor&, const std::optional<Tensor>& weight,
                                                           const std::optional<Tensor>& bias, std::array<bool, 3> mask) {
  const auto contiguous = [](const Tensor& t) { return at::empty(t.sizes(), t.options()); };
  return {mask[0] ? contiguous(input) : Tensor(), mask[1] && weight ? contiguous(*weight) : Tensor(),
          mask[2] && bias ? contiguous(*bias) : Tensor()};
}

std::tuple<Tensor, Tensor> NativeDropout(const Tensor& x, double, std::optional<bool>) {
  return {at::empty_like(x), at::empty_like(x, x.options().dtype(at::kBool))};
}

Tensor Flip(const Tensor& x, at::IntArrayRef) { return at::empty_like(x, at::MemoryFormat::Preserve); }
Tensor Roll(const Tensor& x, c10::SymIntArrayRef, at::IntArrayRef) { return New(x, x.sizes().vec()); }

// Sizes of `x` reduced over `dims` (none: all).
std::vector<int64_t> ReducedSizes(const Tensor& x, at::OptionalIntArrayRef dims, bool keep) {
  std::vector<bool> reduced(x.dim(), !dims || dims->empty());
  if (dims) {
    for (int64_t d : *dims) reduced[c10::maybe_wrap_dim(d, x.dim())] = true;
  }
  std::vector<int64_t> sizes;
  for (int64_t d = 0; d < x.dim(); ++d) {
    if (!reduced[d]) sizes.push_back(x.size(d));
    if (reduced[d] && keep) sizes.push_back(1);
  }
  return sizes;
}

Tensor Var(const Tensor& x, at::OptionalIntArrayRef dims, const std::optional<at::Scalar>&, bool keep) {
  return New(x, ReducedSizes(x, dims, keep));
}

std::tuple<Tensor, Tensor> VarMean(const Tensor& x, at::OptionalIntArrayRef dims, const std::optional<at::Scalar>& n, bool keep) {
  return {Var(x, dims, n, keep), Var(x, dims, n, keep)};
}

Tensor LogSumExp(const Tensor& x, at::IntArrayRef dims, bool keep) {
  const auto options = at::isIntegralType(x.scalar_type(), true) ? x.options().dtype(at::kFloat) : x.options();
  return at::empty(ReducedSizes(x, dims, keep), options);
}

Tensor MseLossBackward(const Tensor&, const Tensor& self, const Tensor& target, int64_t) {
  return at::empty(at::infer_size(self.sizes(), target.sizes()), self.options());
}

std::tuple<Tensor, Tensor> NllLoss2dForward(const Tensor& self, const Tensor& target, const std::optional<Tensor>&,
                                            int64_t reduction, c10::SymInt) {
  return {New(self, reduction == 0 ? target.sizes().vec() : std::vector<int64_t>{}), New(self, {})};
}
Tensor NllLoss2dBackward(const Tensor&, const Tensor& self, const Tensor&, const std::optional<Tensor>&, int64_t,
                         c10::SymInt, const Tensor&) {
  return New(self, self.sizes().vec());
}

std::vector<int64_t> Ints(c10::SymIntArrayRef symbols) {
  std::vector<int64_t> ints;
  for (const c10::SymInt& s : symbols) ints.push_back(s.expect_int());
  return ints;
}

// LibTorch chooses among its backends by the device, and finds none for meta tensors.
Tensor Convolution(const Tensor& input, const Tensor& weight, const std::optional<Tensor>&, c10::SymIntArrayRef stride,
                   c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed, c10::SymIntArrayRef output_padding,
                   c10::SymInt groups) {
  TORCH_CHECK(input.dim() > 2 && input.dim() == weight.dim(), "a convolution of ", input.dim(), " dims with ", weight.dim());
  const size_t dims = static_cast<size_t>(input.dim()) - 2;
  const auto each = [&](c10::SymIntArrayRef symbols) {  // one number stands for all dims
    std::vector<int64_t> ints = Ints(symbols);
    ints.resize(dims, ints.empty() ? 0 : ints.back());
    return ints;
  };
  const std::vector<int64_t> strides = each(stride);
  TORCH_CHECK(std::all_of(strides.begin(), strides.end(), [](int64_t s) { return s > 0; }), "a convolution's stride is not positive");
  return New(input, transposed ? at::native::conv_input_size(input.sizes(), weight.sizes(), each(padding), each(output_padding), strides,
                                                             each(dilation), groups.expect_int())
                               : at::native::conv_output_size(input.sizes(), weight.sizes(), each(padding), strides, each(dilation)));
}
std::tuple<Tensor, Tensor, Tensor> ConvolutionBackward(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                                       at::OptionalSymIntArrayRef bias_sizes, c10::SymIntArrayRef, c10::SymIntArrayRef,
                                                       c10::SymIntArrayRef, bool, c10::SymIntArrayRef, c10::SymInt, std::array<bool, 3> mask) {
  return {mask[0] ? New(grad, input.sizes().vec()) : Tensor(), mask[1] ? New(grad, weight.sizes().vec()) : Tensor(),
          mask[2] && bias_sizes ? New(grad, Ints(*bias_sizes)) : Tensor()};
}

Tensor UnfoldBackward(const Tensor& grad, c10::SymIntArrayRef sizes, int64_t, int64_t, int64_t) {
  return New(grad, Ints(sizes));
}

template <typename F>
void Rule(torch::Library& m, const char* name, F f) {
  const std::string full(name);
  const size_t dot = full.find('.');
  const auto op = c10::Dispatcher::singleton().findSchema(
      {"aten::" + full.substr(0, dot), dot == std::string::npos ? "" : full.substr(dot + 1)});
  // A newer LibTorch may bring its own.
  if (op && !op->hasKernelForDispatchKey(c10::DispatchKey::Meta)) m.impl(name, f);
}

TORCH_LIBRARY_IMPL(aten, Meta, m) {
  Rule(m, "embedding", &Embedding);
  Rule(m, "embedding_dense_backward", &EmbeddingDenseBackward);
  Rule(m, "relu", &Like);
  Rule(m, "index_select", &IndexSelect);
  Rule(m, "native_layer_norm", &NativeLayerNorm);
  Rule(m, "native_layer_norm_backward", &NativeLayerNormBackward);
  Rule(m, "native_dropout", &NativeDropout);
  Rule(m, "flip", &Flip);
  Rule(m, "roll", &Roll);
  Rule(m, "var_mean.correction", &VarMean);
  Rule(m, "var.correction", &Var);
  Rule(m, "std.correction", &Var);
  Rule(m, "logsumexp", &LogSumExp);
  Rule(m, "mse_loss_backward", &MseLossBackward);
  Rule(m, "nll_loss2d_forward", &NllLoss2dForward);
  Rule(m, "nll_loss2d_backward", &NllLoss2dBackward);
  Rule(m, "unfold_backward", &UnfoldBackward);
  Rule(m, "convolution", &Convolution);
  Rule(m, "convolution_backward", &ConvolutionBackward);
}

}  // namespace

void RegisterMetaRules() {}

}  // namespace autospc::autodiff
