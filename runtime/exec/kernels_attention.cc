// autosp.attention and its backward pass: the call's tensors as the views that the kernels take.
#include <algorithm>
#include <memory>

#include "runtime/exec/attention_call.h"
#include "runtime/exec/call.h"

namespace autospc::exec {
namespace {

AttentionView MaybeView(const at::Tensor& t) { return t.defined() ? ViewOf(t) : AttentionView{}; }

// From the call's arguments `q` (index of q) and `rest` (index of the predicate) on.
Result<std::shared_ptr<AttentionCall>> Resolve(const Call& c, size_t q, size_t rest) {
  auto a = std::make_shared<AttentionCall>();
  ASSIGN_OR_RETURN(a->predicate, Predicate::Parse(c.String(rest)));
  for (const at::Tensor& t : c.Tensors(q + 3)) a->vectors.push_back(VectorOf(t));
  AttentionBackwardArgs& args = a->args;
  args.dtype = c.Tensor(q).scalar_type();
  args.q = ViewOf(c.Tensor(q));
  args.k = ViewOf(c.Tensor(q + 1));
  args.v = ViewOf(c.Tensor(q + 2));
  args.scale = c.Float(rest + 1);
  args.q_start = c.Bool(rest + 2) ? c.context->sp.rank * args.q.sizes[2] : 0;
  args.q_valid = c.Int(rest + 3);
  const std::vector<int64_t>& map = c.Ints(rest + 4);
  const int64_t heads = args.q.sizes[1], kv_heads = args.k.sizes[1], rank = c.context->sp.rank;
  if (!map.empty() && static_cast<int64_t>(map.size()) != heads * c.context->sp.size) {
    return Error{Code::kBadInput,
                 fmt::format("the map from query to kv heads has {} entries for {} heads on {} ranks", map.size(),
                             heads, c.context->sp.size),
                 "", "compile the model again"};
  }
  args.heads = c.Int(rest + 6);
  for (int64_t h = 0; h < heads; ++h) {
    a->kv_heads.push_back(static_cast<int>(map.empty() ? h * kv_heads / heads : map[rank * heads + h]));
    a->global_heads.push_back(c.Bool(rest + 5) ? std::min(rank * heads + h, args.heads - 1) : h);
  }
  args.dropout_p = c.Float(rest + 7);
  args.site = c.Int(rest + 8);
  args.batch = c.Has(rest + 9) ? c.Int(rest + 9) : 0;
  args.batch_start = args.batch > 0 ? c.context->dp.rank * args.q.sizes[0] : 0;
  if (args.batch < 0) return Error{Code::kBadInput, "attention has a negative batch", "", "compile the model again"};
  args.vectors = a->vectors;
  args.predicate = &a->predicate;
  args.kv_heads = a->kv_heads;
  args.global_heads = a->global_heads;
  args.workspace = c.workspace;
  return a;
}

// The kernels read and write all of these as elements of q's type, and the log-sum-exp as float32 or wider, row-major.
Status CheckTypes(const Call& c, size_t q, std::initializer_list<const at::Tensor*> others, const at::Tensor& lse) {
  const at::ScalarType type = c.Tensor(q).scalar_type();
  bool good = c.Tensor(q + 1).scalar_type() == type && c.Tensor(q + 2).scalar_type() == type;
  for (const at::Tensor* t : others) good = good && (!t->defined() || t->scalar_type() == type);
  good = good && lse.defined() && lse.is_contiguous() && lse.scalar_type() == (type == at::kDouble ? at::kDouble : at::kFloat) &&
         c.Tensor(q).dim() == 4 && lse.numel() == c.Tensor(q).numel() / std::max<int64_t>(c.Tensor(q).size(3), 1);
  return good ? Ok() : Status(Misshapen(c, "operands and results of different types, or a log-sum-exp that is not one a row"));
}

}  // namespace

Result<std::shared_ptr<AttentionCall>> ResolveAttention(const Call& c) {
  RETURN_IF_ERROR(CheckTypes(c, 0, {&c.outputs[0]}, c.outputs[1]));
  ASSIGN_OR_RETURN(auto a, Resolve(c, 0, 4));
  a->args.out = ViewOf(c.outputs[0]);
  a->args.lse = c.outputs[1].data_ptr();
  RETURN_IF_ERROR(CheckAttentionOperands(a->args));
  return a;
}

Result<std::shared_ptr<AttentionCall>> ResolveAttentionBackward(const Call& c) {
  RETURN_IF_ERROR(CheckTypes(c, 1, {&c.Tensor(0), &c.Tensor(5), &c.outputs[0], &c.outputs[1], &c.outputs[2]}, c.Tensor(6)));
  ASSIGN_OR_RETURN(auto a, Resolve(c, 1, 7));
  a->args.out = ViewOf(c.Tensor(5));
  a->args.lse = c.Tensor(6).data_ptr();
  a->args.grad_out = ViewOf(c.Tensor(0));
  a->args.dq = MaybeView(c.outputs[0]);
  a->args.dk = MaybeView(c.outputs[1]);
  a->args.dv = MaybeView(c.outputs[2]);
  RETURN_IF_ERROR(CheckAttentionBackwardOperands(a->args));
  return a;
}

namespace {

Result<Kernel> MakeForward(const Call& c) {
  ASSIGN_OR_RETURN(auto a, ResolveAttention(c));
  RETURN_IF_ERROR(CheckAttention(a->args));
  return Kernel([a, context = c.context, p = a->args.dropout_p]() -> Status {
    a->args.seed = context->seed;
    a->args.dropout_p = context->dropout ? p : 0;
    AttentionForward(a->args);
    return Ok();
  });
}

Result<Kernel> MakeBackward(const Call& c) {
  ASSIGN_OR_RETURN(auto a, ResolveAttentionBackward(c));
  RETURN_IF_ERROR(CheckAttentionBackward(a->args));
  return Kernel([a, context = c.context]() -> Status {
    a->args.seed = context->seed;
    AttentionBackward(a->args);
    return Ok();
  });
}

}  // namespace

void AddAttentionKernels(KernelTable* table) {
  table->Add("autosp.attention", &MakeForward);
  table->Add("autosp.attention_backward", &MakeBackward);
}

}  // namespace autospc::exec
