#include <algorithm>

#include "runtime/exec/attention_tiles.h"

namespace autospc::exec {
namespace {

Error Bad(std::string what) {
  return {Code::kBadInput, "attention: " + what, "", "the package was made by another compiler than this runtime's"};
}

std::string Sizes(const AttentionView& v) {
  return fmt::format("[{}, {}, {}, {}]", v.sizes[0], v.sizes[1], v.sizes[2], v.sizes[3]);
}

Status CheckSizes(const char* name, const AttentionView& view, std::array<int64_t, 4> expected) {
  if (view.data == nullptr) return Bad(fmt::format("{} has no memory", name));
  if (view.sizes != expected) {
    AttentionView wanted;
    wanted.sizes = expected;
    return Bad(fmt::format("{} is {}, not {}", name, Sizes(view), Sizes(wanted)));
  }
  return Ok();
}

Status CheckPredicate(const Predicate& p, const AttentionArgs& args) {
  using Kind = Predicate::Kind;
  const bool has_operands = p.kind == Kind::kAnd || p.kind == Kind::kOr || p.kind == Kind::kNot;
  if (has_operands == p.operands.empty()) return Bad(fmt::format("a malformed predicate, {}", p.ToString()));
  if (p.kind == Kind::kSameChunk && p.lo < 1) return Bad("chunks of no position");
  for (const Predicate& operand : p.operands) RETURN_IF_ERROR(CheckPredicate(operand, args));
  const bool reads_query = p.kind == Kind::kSame || p.kind == Kind::kQuery || p.kind == Kind::kQueryCmp;
  const bool reads_key = p.kind == Kind::kSame || p.kind == Kind::kKey || p.kind == Kind::kKeyCmp;
  if (!reads_query && !reads_key) return Ok();
  if (p.vector < 0 || static_cast<size_t>(p.vector) >= args.vectors.size()) {
    return Bad(fmt::format("the predicate reads vector {} of {}", p.vector, args.vectors.size()));
  }
  const AttentionVector& v = args.vectors[static_cast<size_t>(p.vector)];
  const int64_t positions = std::max(reads_query ? args.q_valid : 0, reads_key ? args.k.sizes[2] : 0);
  if (v.sizes[1] < positions) {
    return Bad(fmt::format("vector {} has {} positions of {}", p.vector, v.sizes[1], positions));
  }
  return Ok();
}

Status CheckCommon(const AttentionArgs& a) {
  switch (a.dtype) {
    case c10::ScalarType::Float:
    case c10::ScalarType::Double:
    case c10::ScalarType::BFloat16:
    case c10::ScalarType::Half: break;
    default: return Bad(fmt::format("no kernel for {}", c10::toString(a.dtype)));
  }
  const auto [batch, heads, rows, dim] = a.q.sizes;
  const int64_t kv_heads = a.k.sizes[1], keys = a.k.sizes[2], value_dim = a.v.sizes[3];
  if (std::min({batch, heads, rows, dim, kv_heads, keys, value_dim}) < 1) return Bad("an empty operand");
  RETURN_IF_ERROR(CheckSizes("q", a.q, a.q.sizes));
  RETURN_IF_ERROR(CheckSizes("k", a.k, {batch, kv_heads, keys, dim}));
  RETURN_IF_ERROR(CheckSizes("v", a.v, {batch, kv_heads, keys, value_dim}));
  RETURN_IF_ERROR(CheckSizes("out", a.out, {batch, heads, rows, value_dim}));
  if (a.lse == nullptr) return Bad("the log-sum-exp has no memory");
  if (a.q_start < 0 || a.q_valid < 1) {
    return Bad(fmt::format("queries from {} on of {}", a.q_start, a.q_valid));
  }
  if (a.kv_heads.size() != static_cast<size_t>(heads)) {
    return Bad(fmt::format("{} kv heads are named for {} query heads", a.kv_heads.size(), heads));
  }
  for (const int head : a.kv_heads) {
    if (head < 0 || head >= kv_heads) return Bad(fmt::format("kv head {} of {}", head, kv_heads));
  }
  if (!(a.dropout_p >= 0 && a.dropout_p < 1)) return Bad(fmt::format("dropout of {}", a.dropout_p));
  if (!a.global_heads.empty() && a.global_heads.size() != static_cast<size_t>(heads)) {
    return Bad(fmt::format("{} global heads are named for {} query heads", a.global_heads.size(), heads));
  }
  // Dropout numbers the pairs of positions of the whole batch.
  if (a.heads < 0 || a.batch < 0) return Bad(fmt::format("{} heads and {} rows of all ranks", a.heads, a.batch));
  int64_t most_heads = std::max(heads, a.heads), pairs = std::max(batch, a.batch), end = 0;
  for (const int64_t head : a.global_heads) {
    if (head < 0) return Bad(fmt::format("global head {}", head));
    most_heads = std::max(most_heads, head + 1);
  }
  for (const int64_t many : {most_heads, a.q_valid, keys}) {
    if (__builtin_mul_overflow(pairs, many, &pairs)) return Bad("more pairs of positions than 64 bits number");
  }
  if (__builtin_add_overflow(a.q_start, rows, &end) || a.batch_start < 0 || __builtin_add_overflow(a.batch_start, batch, &end))
    return Bad("queries or rows of the batch beyond 64 bits");
  if (a.vectors.size() > HeadMask::kVectorLimit) {
    return Bad(fmt::format("{} vectors, more than {}", a.vectors.size(), HeadMask::kVectorLimit));
  }
  for (size_t i = 0; i < a.vectors.size(); ++i) {
    const AttentionVector& v = a.vectors[i];
    if (v.dtype != c10::ScalarType::Long && v.dtype != c10::ScalarType::Bool) {
      return Bad(fmt::format("vector {} is {}, neither int64 nor bool", i, c10::toString(v.dtype)));
    }
    if (v.data == nullptr || (v.sizes[0] != 1 && v.sizes[0] != batch)) {
      return Bad(fmt::format("vector {} has {} batch rows of {}", i, v.sizes[0], batch));
    }
  }
  if (a.predicate == nullptr) return Bad("no predicate");
  return CheckPredicate(*a.predicate, a);
}

Status CheckWorkspace(const AttentionArgs& a, int64_t slice_bytes) {
  if (reinterpret_cast<uintptr_t>(a.workspace.data()) % 64 != 0 ||
      static_cast<int64_t>(a.workspace.size()) < slice_bytes) {
    return Bad(fmt::format("a workspace of {} bytes, not aligned or less than {}", a.workspace.size(), slice_bytes));
  }
  return Ok();
}

AttentionShape Shape(const AttentionArgs& a) {
  AttentionShape s;
  s.batch = a.q.sizes[0], s.q_heads = a.q.sizes[1], s.kv_heads = a.k.sizes[1];
  s.q_len = a.q.sizes[2], s.k_len = a.k.sizes[2];
  s.dim = a.q.sizes[3], s.value_dim = a.v.sizes[3];
  s.element_size = static_cast<int64_t>(c10::elementSize(a.dtype));
  return s;
}

bool AllDirect(c10::ScalarType dtype, std::initializer_list<const AttentionView*> views) {
  return std::all_of(views.begin(), views.end(),
                     [&](const AttentionView* v) { return v->data == nullptr || IsDirect(*v, dtype); });
}

}  // namespace

AttentionShape ShapeOf(const AttentionArgs& a) {
  AttentionShape s = Shape(a);
  s.direct = AllDirect(a.dtype, {&a.q, &a.k, &a.v});
  return s;
}

AttentionShape ShapeOf(const AttentionBackwardArgs& a) {
  AttentionShape s = Shape(a);
  s.direct = AllDirect(a.dtype, {&a.q, &a.k, &a.v, &a.out, &a.grad_out, &a.dq, &a.dk, &a.dv});
  return s;
}

Status CheckAttentionOperands(const AttentionArgs& args) { return CheckCommon(args); }

Status CheckAttentionBackwardOperands(const AttentionBackwardArgs& args) {
  RETURN_IF_ERROR(CheckCommon(args));
  RETURN_IF_ERROR(CheckSizes("grad_out", args.grad_out, args.out.sizes));
  if (args.dq.data != nullptr) RETURN_IF_ERROR(CheckSizes("dq", args.dq, args.q.sizes));
  if (args.dk.data != nullptr) RETURN_IF_ERROR(CheckSizes("dk", args.dk, args.k.sizes));
  if (args.dv.data != nullptr) RETURN_IF_ERROR(CheckSizes("dv", args.dv, args.v.sizes));
  return Ok();
}

Status CheckAttention(const AttentionArgs& args) {
  RETURN_IF_ERROR(CheckAttentionOperands(args));
  return CheckWorkspace(args, AttentionForwardSliceBytes(ShapeOf(args)));
}

Status CheckAttentionBackward(const AttentionBackwardArgs& args) {
  RETURN_IF_ERROR(CheckAttentionBackwardOperands(args));
  return CheckWorkspace(args, AttentionBackwardSliceBytes(ShapeOf(args)));
}

}  // namespace autospc::exec
