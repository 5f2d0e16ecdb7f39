#include "compiler/import/autocast.h"

#include <ATen/autocast_mode.h>

#include <map>
#include <set>
#include <string>

namespace autospc::import {
namespace {

using ir::Arg;
using ir::DType;
using ir::ValueId;
using Lists = std::map<std::string, CastPolicy, std::less<>>;

// _(op) and _(op, overload) of the header's lists.
std::string OpName(const char* name) { return fmt::format("aten.{}.default", name); }
std::string OpName(const char* name, const char* overload) { return fmt::format("aten.{}.{}", name, overload); }
#define AUTOSPC_OVERLOAD_NAME(_1, _2, N, ...) N
#define AUTOSPC_NAME1(op) OpName(#op)
#define AUTOSPC_NAME2(op, overload) OpName(#op, #overload)
#define AUTOSPC_OP_NAME(...) AUTOSPC_OVERLOAD_NAME(__VA_ARGS__, AUTOSPC_NAME2, AUTOSPC_NAME1)(__VA_ARGS__)

Lists CudaLists() {
  Lists lists;
#define AUTOSPC_LOWER(...) lists[AUTOSPC_OP_NAME(__VA_ARGS__)] = CastPolicy::kLower;
#define AUTOSPC_FP32(...) lists[AUTOSPC_OP_NAME(__VA_ARGS__)] = CastPolicy::kFloat32;
#define AUTOSPC_DTYPE(...) lists[AUTOSPC_OP_NAME(__VA_ARGS__)] = CastPolicy::kFloat32Dtype;
#define AUTOSPC_PROMOTE(...) lists[AUTOSPC_OP_NAME(__VA_ARGS__)] = CastPolicy::kPromote;
  AT_FORALL_LOWER_PRECISION_FP(AUTOSPC_LOWER)
  AT_FORALL_FP32(AUTOSPC_FP32)
  AT_FORALL_FP32_SET_OPT_DTYPE(AUTOSPC_DTYPE)
  AT_FORALL_PROMOTE(AUTOSPC_PROMOTE)
#undef AUTOSPC_LOWER
#undef AUTOSPC_FP32
#undef AUTOSPC_DTYPE
#undef AUTOSPC_PROMOTE
  // What autocast_mode.cpp adds. "Append a dtype": float32 operands give the same.
  for (const char* norm : {"aten.norm.Scalar", "aten.norm.ScalarOpt_dim", "aten.norm.names_ScalarOpt_dim"}) {
    lists[norm] = CastPolicy::kFloat32;
  }
  lists["aten.cudnn_convolution.default"] = lists["aten.cudnn_convolution_transpose.default"] = CastPolicy::kLower;
  lists["aten.binary_cross_entropy.default"] = CastPolicy::kBanned;
  return lists;
}

Lists CpuLists() {
  Lists lists;
  for (const char* op : {"conv1d.default",
                         "conv1d.padding",
                         "conv2d.default",
                         "conv2d.padding",
                         "conv3d.default",
                         "conv3d.padding",
                         "bmm.default",
                         "mm.default",
                         "linalg_vecdot.default",
                         "baddbmm.default",
                         "addmm.default",
                         "_addmm_activation.default",
                         "addbmm.default",
                         "linear.default",
                         "_convolution.deprecated",
                         "matmul.default",
                         "conv_tbc.default",
                         "mkldnn_rnn_layer.default",
                         "conv_transpose1d.default",
                         "conv_transpose2d.input",
                         "conv_transpose3d.input",
                         "prelu.default",
                         "scaled_dot_product_attention.default",
                         "_native_multi_head_attention.default"}) {
    lists[fmt::format("aten.{}", op)] = CastPolicy::kLower;
  }
  for (const char* op : {"avg_pool3d.default",
                         "binary_cross_entropy.default",
                         "grid_sampler.default",
                         "polar.default",
                         "prod.default",
                         "prod.dim_int",
                         "prod.dim_Dimname",
                         "quantile.default",
                         "quantile.scalar",
                         "nanquantile.default",
                         "nanquantile.scalar",
                         "stft.default",
                         "stft.center",
                         "cdist.default",
                         "grid_sampler_2d.default",
                         "_grid_sampler_2d_cpu_fallback.default",
                         "grid_sampler_3d.default",
                         "trace.default",
                         "view_as_complex.default",
                         "cholesky.default",
                         "cholesky_inverse.default",
                         "cholesky_solve.default",
                         "inverse.default",
                         "lu_solve.default",
                         "orgqr.default",
                         "ormqr.default",
                         "pinverse.default",
                         "max_pool3d.default",
                         "max_unpool2d.default",
                         "max_unpool3d.default",
                         "adaptive_avg_pool3d.default",
                         "reflection_pad1d.default",
                         "reflection_pad2d.default",
                         "replication_pad1d.default",
                         "replication_pad2d.default",
                         "replication_pad3d.default",
                         "mse_loss.default",
                         "cosine_embedding_loss.default",
                         "nll_loss.default",
                         "nll_loss2d.default",
                         "hinge_embedding_loss.default",
                         "poisson_nll_loss.default",
                         "smooth_l1_loss.default",
                         "cross_entropy_loss.default",
                         "l1_loss.default",
                         "huber_loss.default",
                         "margin_ranking_loss.default",
                         "soft_margin_loss.default",
                         "triplet_margin_loss.default",
                         "multi_margin_loss.default",
                         "ctc_loss.IntList",
                         "ctc_loss.Tensor",
                         "kl_div.default",
                         "multilabel_margin_loss.default",
                         "binary_cross_entropy_with_logits.default",
                         "fft_fft.default",
                         "fft_ifft.default",
                         "fft_fft2.default",
                         "fft_ifft2.default",
                         "fft_fftn.default",
                         "fft_ifftn.default",
                         "fft_rfft.default",
                         "fft_irfft.default",
                         "fft_rfft2.default",
                         "fft_irfft2.default",
                         "fft_rfftn.default",
                         "fft_irfftn.default",
                         "fft_hfft.default",
                         "fft_ihfft.default",
                         "linalg_cond.default",
                         "linalg_cond.p_str",
                         "linalg_matrix_rank.default",
                         "linalg_matrix_rank.tol_tensor",
                         "linalg_matrix_rank.atol_rtol_tensor",
                         "linalg_matrix_rank.atol_rtol_float",
                         "linalg_solve.default",
                         "linalg_cholesky.default",
                         "linalg_svdvals.default",
                         "linalg_eigvals.default",
                         "linalg_eigvalsh.default",
                         "linalg_inv.default",
                         "linalg_householder_product.default",
                         "linalg_tensorinv.default",
                         "linalg_tensorsolve.default",
                         "fake_quantize_per_tensor_affine.default",
                         "geqrf.default",
                         "lstsq.default",
                         "_lu_with_info.default",
                         "qr.default",
                         "svd.default",
                         "triangular_solve.default",
                         "fractional_max_pool2d.default",
                         "fractional_max_pool3d.default",
                         "adaptive_max_pool3d.default",
                         "multilabel_margin_loss_forward.default",
                         "linalg_qr.default",
                         "linalg_cholesky_ex.default",
                         "linalg_svd.default",
                         "linalg_eig.default",
                         "linalg_eigh.default",
                         "linalg_lstsq.default",
                         "linalg_inv_ex.default"}) {
    lists[fmt::format("aten.{}", op)] = CastPolicy::kFloat32;
  }
  for (const char* op : {"stack.default", "cat.default", "index_copy.default", "index_copy.dimname"}) {
    lists[fmt::format("aten.{}", op)] = CastPolicy::kPromote;
  }
  return lists;
}

// Casts every eligible operand to `to`.
void CastAll(const Caster& caster, DType to, std::vector<Arg>* args) {
  const auto one = [&](ValueId& v) {
    if (v != ir::kNoValue && caster.eligible(v) && caster.dtype(v) != to) v = caster.cast(v, to);
  };
  for (Arg& a : *args) {
    if (a.kind == Arg::Kind::kValue) one(a.value);
    if (a.kind == Arg::Kind::kValueList) std::for_each(a.values.begin(), a.values.end(), one);
  }
}

// The dtypes of the eligible operands.
std::set<DType> EligibleTypes(const Caster& caster, const std::vector<Arg>& args) {
  std::set<DType> types;
  const auto one = [&](ValueId v) {
    if (v != ir::kNoValue && caster.eligible(v)) types.insert(caster.dtype(v));
  };
  for (const Arg& a : args) {
    if (a.kind == Arg::Kind::kValue) one(a.value);
    if (a.kind == Arg::Kind::kValueList) std::for_each(a.values.begin(), a.values.end(), one);
  }
  return types;
}

// Ops whose result's dtype is their own business.
bool ChoosesDtype(const OpSchema& op, const std::vector<Arg>& args) {
  if (op.name == "aten.type_as.default" || op.name == "aten.to.other") return true;
  for (const Arg& a : args) {
    if (a.kind == Arg::Kind::kDType) return true;
  }
  return false;
}

}  // namespace

CastPolicy AutocastPolicy(std::string_view op, std::string_view device) {
  static const Lists cpu = CpuLists(), cuda = CudaLists();
  const Lists& lists = device == "cpu" ? cpu : cuda;
  const auto it = lists.find(op);
  return it == lists.end() ? CastPolicy::kNone : it->second;
}

Status ApplyAutocast(const OpSchema& op, std::string_view device, DType lower, DType result, const Caster& caster,
                     std::vector<Arg>* args) {
  const std::set<DType> types = EligibleTypes(caster, *args);
  if (types.empty()) return Ok();
  switch (AutocastPolicy(op.name, device)) {
    case CastPolicy::kLower:
      CastAll(caster, lower, args);
      break;
    case CastPolicy::kFloat32:
      CastAll(caster, DType::kFloat32, args);
      break;
    case CastPolicy::kPromote:
      CastAll(caster, types.contains(DType::kFloat32) ? DType::kFloat32 : lower, args);
      break;
    case CastPolicy::kFloat32Dtype:
      for (size_t i = 0; i < args->size(); ++i) {
        const bool first_eligible = args->front().is_value() && caster.eligible(args->front().value);
        if (op.parameters[i].name == "dtype" && (*args)[i].is_none() && first_eligible)
          (*args)[i] = Arg::Type(DType::kFloat32);
      }
      break;
    case CastPolicy::kBanned:
      return Error{Code::kUnsupported, fmt::format("autocast refuses {}", op.name), "",
                   "use binary_cross_entropy_with_logits"};
    case CastPolicy::kNone:
      if (types.size() == 1 && *types.begin() != result && (result == DType::kFloat32 || result == lower) &&
          !ChoosesDtype(op, *args)) {
        CastAll(caster, result, args);
      }
      break;
  }
  return Ok();
}

}  // namespace autospc::import
