// Layer norm and its backward pass. Sums are taken in float64 over fixed pieces, so that the result does not
// depend on the number of threads. Weight and bias are of the input's type, or float32 beside a 16-bit input.
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>

#include "runtime/exec/call.h"
#include "runtime/exec/kernel_checks.h"

namespace autospc::exec {
namespace {

at::Tensor Contiguous(const at::Tensor& x) {  // a copy lies in the workspace
  if (!x.defined() || x.is_contiguous()) return x;
  at::Tensor copy = at::empty(x.sizes(), x.options());
  copy.copy_(x);
  return copy;
}

// A result that the plan lays out otherwise is computed in the workspace and then copied.
class Target {
 public:
  explicit Target(const at::Tensor& out) : out_(out) {
    dense_ = !out.defined() || out.is_contiguous() ? out : at::empty(out.sizes(), out.options());
  }
  const at::Tensor& dense() const { return dense_; }
  void Finish() {
    if (out_.defined() && !dense_.is_same(out_)) out_.copy_(dense_);
  }

 private:
  at::Tensor out_;
  at::Tensor dense_;
};

int64_t Product(const std::vector<int64_t>& sizes) {  // of sizes that Fits has found to be a tensor's
  int64_t n = 1;
  for (int64_t s : sizes) n *= s;
  return n;
}

// What the kernels reach by pointers: x of a float type ending in the normalized sizes; others as long as its rows
// or as one row, of x's type or of any float type; undefined ones are not there.
class Fit {
 public:
  Fit(const at::Tensor& x, const std::vector<int64_t>& normalized) : x_(x) {
    const auto tail = static_cast<int64_t>(normalized.size());
    good_ = x.defined() && c10::isFloatingType(x.scalar_type()) && tail >= 1 && tail <= x.dim() &&
            x.sizes().slice(static_cast<size_t>(x.dim() - tail)) == at::IntArrayRef(normalized);
    if (!good_) return;
    n_ = Product(normalized);
    good_ = n_ > 0;
    rows_ = good_ ? x.numel() / n_ : 0;
  }
  Fit& Like(const at::Tensor& t) { return Is(!t.defined() || (t.sizes() == x_.sizes() && t.scalar_type() == x_.scalar_type())); }
  // Of the input's type, or float32 beside a narrower one.
  Fit& Row(const at::Tensor& t) {
    const bool wide = t.defined() && t.scalar_type() == at::kFloat && c10::elementSize(x_.scalar_type()) < 4;
    return Is(!t.defined() || (t.numel() == n_ && (wide || t.scalar_type() == x_.scalar_type())));
  }
  Fit& OfRow(const at::Tensor& t) { return Is(!t.defined() || (t.numel() == n_ && c10::isFloatingType(t.scalar_type()))); }
  Fit& OfRows(const at::Tensor& t) { return Is(!t.defined() || (t.numel() == rows_ && c10::isFloatingType(t.scalar_type()))); }
  Fit& There(const at::Tensor& t) { return Is(t.defined()); }
  Status Done(const Call& call) const { return good_ ? Ok() : Status(Misshapen(call, "operands and results that don't fit")); }

 private:
  Fit& Is(bool good) {
    good_ = good_ && good;
    return *this;
  }
  const at::Tensor& x_;
  int64_t n_ = 0, rows_ = 0;
  bool good_ = false;
};

template <typename F>
double Sum(int64_t n, F term) {  // four lanes
  double lanes[4] = {};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int64_t l = 0; l < 4; ++l) lanes[l] += term(i + l);
  }
  for (; i < n; ++i) lanes[0] += term(i);
  return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

double Read(const at::Tensor& t, int64_t i) {
  return t.scalar_type() == at::kDouble  ? t.const_data_ptr<double>()[i]
         : t.scalar_type() == at::kFloat ? t.const_data_ptr<float>()[i]
         : t.scalar_type() == at::kHalf  ? static_cast<float>(t.const_data_ptr<at::Half>()[i])
                                         : static_cast<float>(t.const_data_ptr<at::BFloat16>()[i]);
}

void Write(const at::Tensor& t, int64_t i, double value) {
  switch (t.scalar_type()) {
    case at::kDouble:
      t.data_ptr<double>()[i] = value;
      return;
    case at::kFloat:
      t.data_ptr<float>()[i] = static_cast<float>(value);
      return;
    case at::kHalf:
      t.data_ptr<at::Half>()[i] = static_cast<float>(value);
      return;
    default:
      t.data_ptr<at::BFloat16>()[i] = static_cast<float>(value);
      return;
  }
}

// input, normalized_shape, weight, bias, eps: out, mean, rstd.
template <typename T, typename W>
void Forward(const at::Tensor& x, int64_t rows, int64_t n, const at::Tensor& weight, const at::Tensor& bias, double eps,
             const at::Tensor& out, const at::Tensor& mean, const at::Tensor& rstd) {
  using Acc = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const W* w = weight.defined() ? weight.const_data_ptr<W>() : nullptr;
  const W* b = bias.defined() ? bias.const_data_ptr<W>() : nullptr;
  at::parallel_for(0, rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(n, 1)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* from = x.const_data_ptr<T>() + r * n;
      T* to = out.data_ptr<T>() + r * n;
      const double mu = Sum(n, [&](int64_t i) { return static_cast<double>(static_cast<Acc>(from[i])); }) / n;
      const double var = Sum(n,
                             [&](int64_t i) {
                               const double d = static_cast<double>(static_cast<Acc>(from[i])) - mu;
                               return d * d;
                             }) /
                         n;
      const double rs = 1.0 / std::sqrt(var + eps);
      if (mean.defined()) Write(mean, r, mu);
      if (rstd.defined()) Write(rstd, r, rs);
      const Acc scale = static_cast<Acc>(rs), shift = static_cast<Acc>(-mu * rs);
      for (int64_t i = 0; i < n; ++i) {
        Acc y = static_cast<Acc>(from[i]) * scale + shift;
        if (w != nullptr) y *= static_cast<Acc>(w[i]);
        if (b != nullptr) y += static_cast<Acc>(b[i]);
        to[i] = static_cast<T>(y);
      }
    }
  });
}

// Runs body(input's type, weights' type) with values of those types.
template <typename Body>
Status WithTypes(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, Body body) {
  const at::Tensor& given = weight.defined() ? weight : bias;
  const bool wide = given.defined() && given.scalar_type() != x.scalar_type();
  const bool alike = !weight.defined() || !bias.defined() || weight.scalar_type() == bias.scalar_type();
  const bool narrow = x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf;
  if (!alike || (wide && !(narrow && given.scalar_type() == at::kFloat))) {
    return Error{Code::kBadInput, fmt::format("layer norm of {} with {} weights", c10::toString(x.scalar_type()), c10::toString(given.scalar_type())),
                 "", "the package was made by another compiler than this runtime's"};
  }
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "layer_norm", [&] {
    if (wide) {
      body(scalar_t(), float());
    } else {
      body(scalar_t(), scalar_t());
    }
  });
  return Ok();
}

}  // namespace

Status CheckLayerNorm(const Call& c) {
  Fit fit(c.Tensor(0), c.Ints(1));
  return fit.Row(c.Tensor(2)).Row(c.Tensor(3)).Like(c.outputs[0]).OfRows(c.outputs[1]).OfRows(c.outputs[2]).Done(c);
}

namespace {

Status LayerNorm(const Call& c) {
  const at::Tensor x = Contiguous(c.Tensor(0));
  const int64_t n = Product(c.Ints(1));
  const at::Tensor weight = Contiguous(c.Tensor(2)), bias = Contiguous(c.Tensor(3));
  Target out(c.outputs[0]), mean(c.outputs[1]), rstd(c.outputs[2]);
  at::Tensor dense = out.dense();
  if (!dense.defined()) dense = at::empty(x.sizes(), x.options());
  RETURN_IF_ERROR(WithTypes(x, weight, bias, [&](auto input, auto weights) {
    Forward<decltype(input), decltype(weights)>(x, x.numel() / std::max<int64_t>(n, 1), n, weight, bias, c.Float(4),
                                                dense, mean.dense(), rstd.dense());
  }));
  out.Finish(), mean.Finish(), rstd.Finish();
  return Ok();
}

constexpr int64_t kPieces = 8;  // of the rows, each with its own sums for weight and bias

template <typename T, typename W>
void Backward(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& mean, const at::Tensor& rstd, int64_t rows,
              int64_t n, const at::Tensor& weight, const at::Tensor& dx, const at::Tensor& dw, const at::Tensor& db) {
  using Acc = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const W* w = weight.defined() ? weight.const_data_ptr<W>() : nullptr;
  at::Tensor sums = at::empty({kPieces, 2, n}, at::TensorOptions().dtype(at::kDouble));
  sums.zero_();
  double* all = sums.data_ptr<double>();
  const int64_t piece = (rows + kPieces - 1) / kPieces;
  at::parallel_for(0, kPieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      double* sw = all + p * 2 * n;
      double* sb = sw + n;
      for (int64_t r = p * piece; r < std::min(rows, (p + 1) * piece); ++r) {
        const T* g = grad.const_data_ptr<T>() + r * n;
        const T* from = x.const_data_ptr<T>() + r * n;
        const double mu = Read(mean, r), rs = Read(rstd, r);
        const auto normed = [&](int64_t i) { return (static_cast<double>(static_cast<Acc>(from[i])) - mu) * rs; };
        const auto scaled = [&](int64_t i) {
          const double v = static_cast<Acc>(g[i]);
          return w != nullptr ? v * static_cast<Acc>(w[i]) : v;
        };
        if (dw.defined() || db.defined()) {
          for (int64_t i = 0; i < n; ++i) {
            const double v = static_cast<Acc>(g[i]);
            sw[i] += v * normed(i);
            sb[i] += v;
          }
        }
        if (!dx.defined()) continue;
        const double a = Sum(n, scaled) / n;
        const double b = Sum(n, [&](int64_t i) { return scaled(i) * normed(i); }) / n;
        T* to = dx.data_ptr<T>() + r * n;
        for (int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(static_cast<Acc>(rs * (scaled(i) - a - normed(i) * b)));
      }
    }
  });
  for (int which = 0; which < 2; ++which) {
    const at::Tensor& out = which == 0 ? dw : db;
    if (!out.defined()) continue;
    for (int64_t i = 0; i < n; ++i) {
      double sum = 0;
      for (int64_t p = 0; p < kPieces; ++p) sum += all[p * 2 * n + which * n + i];
      Write(out, i, sum);
    }
  }
}

}  // namespace

Status CheckLayerNormBackward(const Call& c) {
  if (c.Ints(7).size() != 3) return Misshapen(c, "a mask of another number of results");
  const auto wanted = [&](size_t i) { return c.Ints(7)[i] != 0 ? c.outputs[i] : at::Tensor(); };
  Fit fit(c.Tensor(1), c.Ints(2));
  fit.There(c.Tensor(0)).Like(c.Tensor(0)).There(c.Tensor(3)).OfRows(c.Tensor(3)).There(c.Tensor(4)).OfRows(c.Tensor(4));
  return fit.Row(c.Tensor(5)).Like(wanted(0)).OfRow(wanted(1)).OfRow(wanted(2)).Done(c);
}

namespace {

// grad_out, input, normalized_shape, mean, rstd, weight, bias, output_mask: dx, dweight, dbias.
Status LayerNormBackward(const Call& c) {
  const at::Tensor grad = Contiguous(c.Tensor(0)), x = Contiguous(c.Tensor(1));
  const int64_t n = Product(c.Ints(2));
  const at::Tensor mean = Contiguous(c.Tensor(3)), rstd = Contiguous(c.Tensor(4)), weight = Contiguous(c.Tensor(5));
  // A result that the mask leaves out has a tensor without elements in its place.
  const auto wanted = [&](size_t i) { return c.Ints(7).at(i) != 0 ? c.outputs[i] : at::Tensor(); };
  Target dx(wanted(0)), dw(wanted(1)), db(wanted(2));
  RETURN_IF_ERROR(WithTypes(x, weight, at::Tensor(), [&](auto input, auto weights) {
    Backward<decltype(input), decltype(weights)>(grad, x, mean, rstd, x.numel() / std::max<int64_t>(n, 1), n, weight,
                                                 dx.dense(), dw.dense(), db.dense());
  }));
  dx.Finish(), dw.Finish(), db.Finish();
  return Ok();
}

}  // namespace

void AddNormKernels(KernelTable* table) {
  table->Add("aten.native_layer_norm.default", &CheckLayerNorm, &LayerNorm);
  table->Add("aten.native_layer_norm_backward.default", &CheckLayerNormBackward, &LayerNormBackward);
}

}  // namespace autospc::exec
