#include "compiler/autodiff/ops.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/empty_strided.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "runtime/base/autosp_ops.h"

namespace autospc::autodiff {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

template <typename Signature>
auto Op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

// Calls through the dispatcher, so that each is recorded.
Tensor CallVary(const Tensor& x, c10::string_view axis) {
  static const auto op = Op<Tensor(const Tensor&, c10::string_view)>("autosp::vary");
  return op.call(x, axis);
}
Tensor CallAllReduce(const Tensor& x, c10::string_view how, c10::string_view axis) {
  static const auto op = Op<Tensor(const Tensor&, c10::string_view, c10::string_view)>("autosp::all_reduce");
  return op.call(x, how, axis);
}
Tensor CallFirst(const Tensor& x, c10::string_view axis) {
  static const auto op = Op<Tensor(const Tensor&, c10::string_view)>("autosp::first");
  return op.call(x, axis);
}
Tensor CallShard(const Tensor& x, int64_t dim, int64_t block, bool zero, c10::string_view axis) {
  static const auto op = Op<Tensor(const Tensor&, int64_t, int64_t, bool, c10::string_view)>("autosp::shard");
  return op.call(x, dim, block, zero, axis);
}
Tensor CallAllGather(const Tensor& x, int64_t dim, int64_t valid, bool vary, c10::string_view axis) {
  static const auto op = Op<Tensor(const Tensor&, int64_t, int64_t, bool, c10::string_view)>("autosp::all_gather");
  return op.call(x, dim, valid, vary, axis);
}
Tensor CallReduceScatter(const Tensor& x, int64_t dim, int64_t block, bool zero, c10::string_view axis) {
  static const auto op = Op<Tensor(const Tensor&, int64_t, int64_t, bool, c10::string_view)>("autosp::reduce_scatter");
  return op.call(x, dim, block, zero, axis);
}
Tensor CallAllToAll(const Tensor& x, int64_t from_dim, int64_t from_valid, int64_t to_dim, int64_t to_block, bool zero,
                    c10::string_view axis) {
  static const auto op =
      Op<Tensor(const Tensor&, int64_t, int64_t, int64_t, int64_t, bool, c10::string_view)>("autosp::all_to_all");
  return op.call(x, from_dim, from_valid, to_dim, to_block, zero, axis);
}
Tensor CallMask(const Tensor& x, int64_t dim, int64_t valid, const at::Scalar& fill, c10::string_view axis) {
  static const auto op =
      Op<Tensor(const Tensor&, int64_t, int64_t, const at::Scalar&, c10::string_view)>("autosp::mask");
  return op.call(x, dim, valid, fill, axis);
}
Tensor CallPadLast(const Tensor& x, int64_t dim, int64_t valid, c10::string_view axis) {
  static const auto op = Op<Tensor(const Tensor&, int64_t, int64_t, c10::string_view)>("autosp::pad_last");
  return op.call(x, dim, valid, axis);
}
// How x lies along an axis: dropout's dim, valid, outer, inner, for sp and then for dp.
using DropoutSignature = Tensor(const Tensor&, double, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                                int64_t);
Tensor CallDropout(const Tensor& x, double p, int64_t site, at::IntArrayRef lie) {
  static const auto op = Op<DropoutSignature>("autosp::dropout");
  return op.call(x, p, site, lie[0], lie[1], lie[2], lie[3], lie[4], lie[5], lie[6], lie[7]);
}
using AttentionSignature = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, at::TensorList,
                                                      c10::string_view, double, bool, int64_t, at::IntArrayRef, bool,
                                                      int64_t, double, int64_t, int64_t);
using AttentionBackwardSignature = std::tuple<Tensor, Tensor, Tensor>(
    const Tensor&, const Tensor&, const Tensor&, const Tensor&, at::TensorList, const Tensor&, const Tensor&,
    c10::string_view, double, bool, int64_t, at::IntArrayRef, bool, int64_t, double, int64_t, int64_t);

// Each Function: the op below autograd forward, the adjoint conversion backward.
struct Vary : torch::autograd::Function<Vary> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, std::string axis) {
    ctx->saved_data["axis"] = axis;
    at::AutoDispatchBelowADInplaceOrView below;
    return CallVary(x, axis);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    return {CallAllReduce(g[0], "sum", ctx->saved_data["axis"].toStringRef()), Variable()};
  }
};

struct AllReduce : torch::autograd::Function<AllReduce> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, std::string how, std::string axis) {
    TORCH_CHECK(how == "sum", "autosp::all_reduce has a derivative for sums alone");
    ctx->saved_data["axis"] = axis;
    at::AutoDispatchBelowADInplaceOrView below;
    return CallAllReduce(x, how, axis);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    return {CallVary(g[0], ctx->saved_data["axis"].toStringRef()), Variable(), Variable()};
  }
};

struct First : torch::autograd::Function<First> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, std::string axis) {
    ctx->saved_data["axis"] = axis;
    at::AutoDispatchBelowADInplaceOrView below;
    return CallFirst(x, axis);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    return {CallFirst(g[0], ctx->saved_data["axis"].toStringRef()), Variable()};
  }
};

struct Shard : torch::autograd::Function<Shard> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, int64_t dim, int64_t block, bool zero, std::string axis) {
    ctx->saved_data["dim"] = dim;
    ctx->saved_data["valid"] = x.size(dim);
    ctx->saved_data["axis"] = axis;
    at::AutoDispatchBelowADInplaceOrView below;
    return CallShard(x, dim, block, zero, axis);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    auto& saved = ctx->saved_data;
    return {CallAllGather(g[0], saved["dim"].toInt(), saved["valid"].toInt(), false, saved["axis"].toStringRef()), Variable(),
            Variable(), Variable(), Variable()};
  }
};

struct AllGather : torch::autograd::Function<AllGather> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, int64_t dim, int64_t valid, bool vary, std::string axis) {
    ctx->saved_data["dim"] = dim;
    ctx->saved_data["block"] = x.size(dim);
    ctx->saved_data["vary"] = vary;
    ctx->saved_data["axis"] = axis;
    at::AutoDispatchBelowADInplaceOrView below;
    return CallAllGather(x, dim, valid, vary, axis);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    auto& saved = ctx->saved_data;
    const int64_t dim = saved["dim"].toInt(), block = saved["block"].toInt();
    const std::string& axis = saved["axis"].toStringRef();
    return {saved["vary"].toBool() ? CallReduceScatter(g[0], dim, block, true, axis) : CallShard(g[0], dim, block, true, axis),
            Variable(), Variable(), Variable(), Variable()};
  }
};

struct ReduceScatter : torch::autograd::Function<ReduceScatter> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, int64_t dim, int64_t block, bool zero, std::string axis) {
    ctx->saved_data["dim"] = dim;
    ctx->saved_data["valid"] = x.size(dim);
    ctx->saved_data["axis"] = axis;
    at::AutoDispatchBelowADInplaceOrView below;
    return CallReduceScatter(x, dim, block, zero, axis);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    auto& saved = ctx->saved_data;
    return {CallAllGather(g[0], saved["dim"].toInt(), saved["valid"].toInt(), true, saved["axis"].toStringRef()), Variable(),
            Variable(), Variable(), Variable()};
  }
};

struct AllToAll : torch::autograd::Function<AllToAll> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, int64_t from_dim, int64_t from_valid, int64_t to_dim,
                        int64_t to_block, bool zero, std::string axis) {
    ctx->saved_data["from_dim"] = to_dim;
    ctx->saved_data["from_valid"] = x.size(to_dim);
    ctx->saved_data["to_dim"] = from_dim;
    ctx->saved_data["to_block"] = x.size(from_dim);
    ctx->saved_data["axis"] = axis;
    at::AutoDispatchBelowADInplaceOrView below;
    return CallAllToAll(x, from_dim, from_valid, to_dim, to_block, zero, axis);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    auto& saved = ctx->saved_data;
    return {CallAllToAll(g[0], saved["from_dim"].toInt(), saved["from_valid"].toInt(), saved["to_dim"].toInt(),
                         saved["to_block"].toInt(), true, saved["axis"].toStringRef()),
            Variable(), Variable(), Variable(), Variable(), Variable(), Variable()};
  }
};

struct Mask : torch::autograd::Function<Mask> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, int64_t dim, int64_t valid, at::Scalar fill, std::string axis) {
    ctx->saved_data["dim"] = dim;
    ctx->saved_data["valid"] = valid;
    ctx->saved_data["axis"] = axis;
    at::AutoDispatchBelowADInplaceOrView below;
    return CallMask(x, dim, valid, fill, axis);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    auto& saved = ctx->saved_data;
    return {CallMask(g[0], saved["dim"].toInt(), saved["valid"].toInt(), 0, saved["axis"].toStringRef()), Variable(),
            Variable(), Variable(), Variable()};
  }
};

// The cotangent of padding rows is zero (an invariant of placements), so nothing flows back from them.
struct PadLast : torch::autograd::Function<PadLast> {
  static Tensor forward(AutogradContext*, const Tensor& x, int64_t dim, int64_t valid, std::string axis) {
    at::AutoDispatchBelowADInplaceOrView below;
    return CallPadLast(x, dim, valid, axis);
  }
  static variable_list backward(AutogradContext*, variable_list g) { return {g[0], Variable(), Variable(), Variable()}; }
};

struct Dropout : torch::autograd::Function<Dropout> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, double p, int64_t site, std::vector<int64_t> lie) {
    ctx->saved_data["p"] = p;
    ctx->saved_data["site"] = site;
    ctx->saved_data["lie"] = lie;
    at::AutoDispatchBelowADInplaceOrView below;
    return CallDropout(x, p, site, lie);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    auto& saved = ctx->saved_data;
    return {CallDropout(g[0], saved["p"].toDouble(), saved["site"].toInt(), saved["lie"].toIntVector()), Variable(), Variable(),
            Variable()};
  }
};

Tensor CallTotal(const Tensor& x, double seed) {
  static const auto op = Op<Tensor(const Tensor&, double)>("autosp::total");
  return op.call(x, seed);
}

struct Total : torch::autograd::Function<Total> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, double seed) {
    ctx->saved_data["seed"] = seed;
    at::AutoDispatchBelowADInplaceOrView below;
    return CallTotal(x, seed);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    static const auto op = Op<Tensor(const Tensor&, double)>("autosp::total_backward");
    return {op.call(g[0], ctx->saved_data["seed"].toDouble()), Variable()};
  }
};

Tensor CallTake(const Tensor& x, int64_t dim, at::IntArrayRef index) {
  static const auto op = Op<Tensor(const Tensor&, int64_t, at::IntArrayRef)>("autosp::take");
  return op.call(x, dim, index);
}

struct Take : torch::autograd::Function<Take> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, int64_t dim, std::vector<int64_t> index) {
    ctx->saved_data["dim"] = dim;
    ctx->saved_data["index"] = index;
    ctx->saved_data["size"] = x.size(dim);
    at::AutoDispatchBelowADInplaceOrView below;
    return CallTake(x, dim, index);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    static const auto op = Op<Tensor(const Tensor&, int64_t, at::IntArrayRef, int64_t)>("autosp::take_backward");
    return {op.call(g[0], ctx->saved_data["dim"].toInt(), ctx->saved_data["index"].toIntVector(),
                    ctx->saved_data["size"].toInt()),
            Variable(), Variable()};
  }
};

struct Attention : torch::autograd::Function<Attention> {
  static variable_list forward(AutogradContext* ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                               std::vector<Tensor> vectors, std::string predicate, double scale, bool q_sharded,
                               int64_t q_valid, std::vector<int64_t> kv_map, bool head_sharded, int64_t heads,
                               double dropout_p, int64_t site, int64_t batch) {
    static const auto op = Op<AttentionSignature>("autosp::attention");
    std::tuple<Tensor, Tensor> result;
    {
      at::AutoDispatchBelowADInplaceOrView below;
      result = op.call(q, k, v, vectors, predicate, scale, q_sharded, q_valid, kv_map, head_sharded, heads, dropout_p, site,
                       batch);
    }
    const auto& [out, lse] = result;
    variable_list saved{q, k, v, out, lse};
    saved.insert(saved.end(), vectors.begin(), vectors.end());
    ctx->save_for_backward(saved);
    auto& data = ctx->saved_data;
    data["predicate"] = predicate;
    data["scale"] = scale;
    data["q_sharded"] = q_sharded;
    data["q_valid"] = q_valid;
    data["kv_map"] = kv_map;
    data["head_sharded"] = head_sharded;
    data["heads"] = heads;
    data["dropout_p"] = dropout_p;
    data["site"] = site;
    data["batch"] = batch;
    ctx->mark_non_differentiable({lse});
    return {out, lse};
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    static const auto op = Op<AttentionBackwardSignature>("autosp::attention_backward");
    const variable_list s = ctx->get_saved_variables();
    const std::vector<Tensor> vectors(s.begin() + 5, s.end());
    auto& data = ctx->saved_data;
    const auto [dq, dk, dv] =
        op.call(g[0], s[0], s[1], s[2], vectors, s[3], s[4], data["predicate"].toStringRef(), data["scale"].toDouble(),
                data["q_sharded"].toBool(), data["q_valid"].toInt(), data["kv_map"].toIntVector(),
                data["head_sharded"].toBool(), data["heads"].toInt(), data["dropout_p"].toDouble(), data["site"].toInt(),
                data["batch"].toInt());
    variable_list gradients(14);
    gradients[0] = dq;
    gradients[1] = dk;
    gradients[2] = dv;
    return gradients;
  }
};

// Shapes.
Tensor LikeSizes(const Tensor& x, at::IntArrayRef sizes) { return at::empty(sizes, x.options()); }

Tensor WithSize(const Tensor& x, int64_t dim, int64_t size) {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.at(dim) = size;
  return LikeSizes(x, sizes);
}

Tensor MetaStopGradient(const Tensor& x) { return at::empty_strided(x.sizes(), x.strides(), x.options()); }
Tensor MetaVary(const Tensor& x, c10::string_view) { return MetaStopGradient(x); }
Tensor MetaFirst(const Tensor& x, c10::string_view) { return LikeSizes(x, x.sizes()); }
Tensor MetaAllReduce(const Tensor& x, c10::string_view, c10::string_view) { return LikeSizes(x, x.sizes()); }
Tensor MetaShard(const Tensor& x, int64_t dim, int64_t block, bool, c10::string_view) { return WithSize(x, dim, block); }
Tensor MetaAllGather(const Tensor& x, int64_t dim, int64_t valid, bool, c10::string_view) {
  return WithSize(x, dim, valid);
}
Tensor MetaAllToAll(const Tensor& x, int64_t from_dim, int64_t from_valid, int64_t to_dim, int64_t to_block, bool,
                    c10::string_view) {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.at(from_dim) = from_valid;
  sizes.at(to_dim) = to_block;
  return LikeSizes(x, sizes);
}
Tensor MetaMask(const Tensor& x, int64_t, int64_t, const at::Scalar&, c10::string_view) { return at::empty_like(x); }
Tensor MetaPadLast(const Tensor& x, int64_t, int64_t, c10::string_view) { return at::empty_like(x); }
Tensor MetaPositions(const at::Scalar&, const at::Scalar&, int64_t block, int64_t, at::ScalarType dtype,
                     c10::string_view) {
  return at::empty({block}, at::TensorOptions().dtype(dtype).device(c10::kMeta));
}
Tensor MetaDropout(const Tensor& x, double, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t) {
  return at::empty_like(x);
}
Tensor MetaTotal(const Tensor& x, double) { return LikeSizes(x, x.sizes()); }
Tensor MetaTake(const Tensor& x, int64_t dim, at::IntArrayRef index) {
  return WithSize(x, dim, static_cast<int64_t>(index.size()));
}
Tensor MetaTakeBackward(const Tensor& g, int64_t dim, at::IntArrayRef, int64_t size) { return WithSize(g, dim, size); }

// [B, H, S, D] with the strides of a contiguous [B, S, H, D].
Tensor HeadsInside(const Tensor& like, int64_t b, int64_t h, int64_t s, int64_t d) {
  return at::empty({b, s, h, d}, like.options()).transpose(1, 2);
}
std::tuple<Tensor, Tensor> MetaAttention(const Tensor& q, const Tensor& k, const Tensor& v, at::TensorList,
                                         c10::string_view, double, bool, int64_t, at::IntArrayRef, bool, int64_t, double,
                                         int64_t, int64_t) {
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4 && q.size(3) == k.size(3) && k.size(2) == v.size(2),
              "attention takes q [B, Hq, Sq, D], k [B, Hkv, Sk, D], v [B, Hkv, Sk, Dv]");
  const auto statistics = q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return {HeadsInside(q, q.size(0), q.size(1), q.size(2), v.size(3)),
          at::empty({q.size(0), q.size(1), q.size(2)}, q.options().dtype(statistics))};
}
std::tuple<Tensor, Tensor, Tensor> MetaAttentionBackward(const Tensor&, const Tensor& q, const Tensor& k, const Tensor& v,
                                                         at::TensorList, const Tensor&, const Tensor&, c10::string_view,
                                                         double, bool, int64_t, at::IntArrayRef, bool, int64_t, double,
                                                         int64_t, int64_t) {
  const auto like = [](const Tensor& t) { return HeadsInside(t, t.size(0), t.size(1), t.size(2), t.size(3)); };
  return {like(q), like(k), like(v)};
}

// What autograd sees.
Tensor AutogradVary(const Tensor& x, c10::string_view axis) { return Vary::apply(x, std::string(axis)); }
Tensor AutogradAllReduce(const Tensor& x, c10::string_view how, c10::string_view axis) {
  return AllReduce::apply(x, std::string(how), std::string(axis));
}
Tensor AutogradFirst(const Tensor& x, c10::string_view axis) { return First::apply(x, std::string(axis)); }
Tensor AutogradShard(const Tensor& x, int64_t dim, int64_t block, bool zero, c10::string_view axis) {
  return Shard::apply(x, dim, block, zero, std::string(axis));
}
Tensor AutogradAllGather(const Tensor& x, int64_t dim, int64_t valid, bool vary, c10::string_view axis) {
  return AllGather::apply(x, dim, valid, vary, std::string(axis));
}
Tensor AutogradReduceScatter(const Tensor& x, int64_t dim, int64_t block, bool zero, c10::string_view axis) {
  return ReduceScatter::apply(x, dim, block, zero, std::string(axis));
}
Tensor AutogradAllToAll(const Tensor& x, int64_t from_dim, int64_t from_valid, int64_t to_dim, int64_t to_block, bool zero,
                        c10::string_view axis) {
  return AllToAll::apply(x, from_dim, from_valid, to_dim, to_block, zero, std::string(axis));
}
Tensor AutogradMask(const Tensor& x, int64_t dim, int64_t valid, const at::Scalar& fill, c10::string_view axis) {
  return Mask::apply(x, dim, valid, fill, std::string(axis));
}
Tensor AutogradPadLast(const Tensor& x, int64_t dim, int64_t valid, c10::string_view axis) {
  return PadLast::apply(x, dim, valid, std::string(axis));
}
Tensor AutogradDropout(const Tensor& x, double p, int64_t site, int64_t dim, int64_t valid, int64_t outer, int64_t inner,
                       int64_t dp_dim, int64_t dp_valid, int64_t dp_outer, int64_t dp_inner) {
  return Dropout::apply(x, p, site, std::vector<int64_t>{dim, valid, outer, inner, dp_dim, dp_valid, dp_outer, dp_inner});
}
Tensor AutogradTotal(const Tensor& x, double seed) { return Total::apply(x, seed); }
Tensor AutogradTake(const Tensor& x, int64_t dim, at::IntArrayRef index) { return Take::apply(x, dim, index.vec()); }
std::tuple<Tensor, Tensor> AutogradAttention(const Tensor& q, const Tensor& k, const Tensor& v, at::TensorList vectors,
                                             c10::string_view predicate, double scale, bool q_sharded, int64_t q_valid,
                                             at::IntArrayRef kv_map, bool head_sharded, int64_t heads, double dropout_p,
                                             int64_t site, int64_t batch) {
  const variable_list r = Attention::apply(q, k, v, vectors.vec(), std::string(predicate), scale, q_sharded, q_valid,
                                           kv_map.vec(), head_sharded, heads, dropout_p, site, batch);
  return {r[0], r[1]};
}
Tensor AutogradStopGradient(const Tensor& x) {
  static const auto op = Op<Tensor(const Tensor&)>("autosp::stop_gradient");
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(x);
}

TORCH_LIBRARY(autosp, m) {
  for (const std::string_view schema : kAutospSchemas) m.def(std::string(schema).c_str());
}

TORCH_LIBRARY_IMPL(autosp, Meta, m) {
  m.impl("vary", &MetaVary);
  m.impl("stop_gradient", &MetaStopGradient);
  m.impl("all_reduce", &MetaAllReduce);
  m.impl("first", &MetaFirst);
  m.impl("shard", &MetaShard);
  m.impl("all_gather", &MetaAllGather);
  m.impl("reduce_scatter", &MetaShard);
  m.impl("all_to_all", &MetaAllToAll);
  m.impl("mask", &MetaMask);
  m.impl("pad_last", &MetaPadLast);
  m.impl("dropout", &MetaDropout);
  m.impl("total", &MetaTotal);
  m.impl("total_backward", &MetaTotal);
  m.impl("take", &MetaTake);
  m.impl("take_backward", &MetaTakeBackward);
  m.impl("attention", &MetaAttention);
  m.impl("attention_backward", &MetaAttentionBackward);
}
// No tensor operand: no dispatch key but the fallback's, so the rule stands for every backend.
TORCH_LIBRARY_IMPL(autosp, CompositeExplicitAutograd, m) { m.impl("positions", &MetaPositions); }

TORCH_LIBRARY_IMPL(autosp, Autograd, m) {
  m.impl("vary", &AutogradVary);
  m.impl("stop_gradient", &AutogradStopGradient);
  m.impl("all_reduce", &AutogradAllReduce);
  m.impl("first", &AutogradFirst);
  m.impl("shard", &AutogradShard);
  m.impl("all_gather", &AutogradAllGather);
  m.impl("reduce_scatter", &AutogradReduceScatter);
  m.impl("all_to_all", &AutogradAllToAll);
  m.impl("mask", &AutogradMask);
  m.impl("pad_last", &AutogradPadLast);
  m.impl("dropout", &AutogradDropout);
  m.impl("attention", &AutogradAttention);
  m.impl("take", &AutogradTake);
  m.impl("total", &AutogradTotal);
}

}  // namespace

void RegisterMetaRules();      // meta_rules.cc
void RegisterMetaFallbacks();  // meta_fallback.cc

void RegisterOps() {
  RegisterMetaRules();
  RegisterMetaFallbacks();
}

bool IsAliasOp(std::string_view op) { return op == "autosp.vary" || op == "autosp.stop_gradient"; }

}  // namespace autospc::autodiff
