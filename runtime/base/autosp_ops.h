// The schemas of our own ops: the contract between the compiler (which traces them on meta tensors and
// gives them adjoints) and the runtime (whose kernels run them). "block", "valid", "rank" as in
// passes/ir/placement.h: a rank holds rows [rank*block, (rank+1)*block) of a dim of true length `valid`.
// `axis` as in runtime/base/mesh.h: "ranks" are those of this rank's group along it, and "rank" its place among them.
// Trailing arguments that have their default are left out in the IR and in programs.
#pragma once

#include <array>
#include <string_view>

namespace autospc {

inline constexpr std::array<std::string_view, 33> kAutospSchemas = {
    // Conversions between placements. Adjoints: vary <-> all_reduce, first <-> first, shard <->
    // all_gather, all_gather(vary) <-> reduce_scatter, all_to_all <-> all_to_all.
    // R -> V. The same bytes: an alias in the program.
    "vary(Tensor x, str axis=\"sp\") -> Tensor",
    // P -> R: the sum (op "sum") or maximum ("max") over ranks. Contiguous result.
    "all_reduce(Tensor x, str op, str axis=\"sp\") -> Tensor",
    // V -> P: x on rank 0, zero elsewhere.
    "first(Tensor x, str axis=\"sp\") -> Tensor",
    // R -> S: local row i is row min(rank*block + i, valid-1) of x (x.size(dim) == valid); with `zero`,
    // rows past valid are zero instead.
    "shard(Tensor x, int dim, int block, bool zero, str axis=\"sp\") -> Tensor",
    // S -> R or (vary) V: the first `valid` rows of all ranks' rows in order. `vary` changes no bytes,
    // only the adjoint: reduce_scatter if set, else shard.
    "all_gather(Tensor x, int dim, int valid, bool vary, str axis=\"sp\") -> Tensor",
    // P -> S: shard of the sum over ranks.
    "reduce_scatter(Tensor x, int dim, int block, bool zero, str axis=\"sp\") -> Tensor",
    // S on from_dim (from_valid rows in all) -> S on to_dim (x.size(to_dim) rows in all, to_block a rank).
    // The result has from_valid rows along from_dim and to_block along to_dim; of those, rows past
    // x.size(to_dim) repeat the last one, or are zero with `zero`.
    "all_to_all(Tensor x, int from_dim, int from_valid, int to_dim, int to_block, bool zero, str axis=\"sp\") -> Tensor",
    // S -> S: rows at or past `valid` become `fill`.
    "mask(Tensor x, int dim, int valid, Scalar fill, str axis=\"sp\") -> Tensor",
    // S -> S: rows at or past `valid` become row valid-1, which may lie on another rank.
    "pad_last(Tensor x, int dim, int valid, str axis=\"sp\") -> Tensor",
    // S, int64 or given type [block]: element i is start + step * min(rank*block + i, valid-1).
    "positions(Scalar start, Scalar step, int block, int valid, ScalarType dtype, str axis=\"sp\") -> Tensor",

    // The rows index[i] of x along dim, in order, repetitions allowed (kv heads, one slot a rank's need)...
    "take(Tensor x, int dim, int[] index) -> Tensor",
    // ... and its adjoint: `size` rows, to which row index[i] adds g's row i.
    "take_backward(Tensor g, int dim, int[] index, int size) -> Tensor",

    // Attention over predicates: q [B, Hq, Sq, D], k [B, Hkv, Sk, D], v [B, Hkv, Sk, Dv], any strides
    // with last stride 1. Score (i, j) = scale * q_i . k_j where `predicate` (runtime/base/predicate.h) holds,
    // else -inf; a row without any allowed key gives 0. Row i of q is global query position
    // min((q_sharded ? rank*Sq : 0) + i, q_valid - 1), key j is global key position j < k_valid == Sk.
    // Query head h of rank r reads kv head kv_map[r*Hq + h] (kv_map has P*Hq entries), or h*Hkv/Hq if empty.
    // Global query head: min(rank*Hq + h, heads-1) if head_sharded, else h (used by dropout alone).
    // `vectors`: per-position operands of the predicate, each [B, S] or [1, S] (int64 or bool), whole.
    // Rows and heads are sharded along sp. batch > 0: B is this rank's share of so many along dp, row b the global one
    // min(dp rank*B + b, batch-1); it counts for dropout alone.
    // Dropout: a probability is kept where the counter-based generator (seed, site, global element) says so.
    // out [B, Hq, Sq, Dv] with strides of a contiguous [B, Sq, Hq, Dv]; lse float32 [B, Hq, Sq] (float64 for
    // float64 inputs), -inf for an empty row.
    "attention(Tensor q, Tensor k, Tensor v, Tensor[] vectors, str predicate, float scale, bool q_sharded, "
    "int q_valid, int[] kv_map, bool head_sharded, int heads, float dropout_p, int site, int batch=0) "
    "-> (Tensor out, Tensor lse)",
    // Gradients, each with its operand's sizes, laid out like out (contiguous [B, S, H, D] transposed).
    // dk and dv add up over the query heads that read them.
    "attention_backward(Tensor grad_out, Tensor q, Tensor k, Tensor v, Tensor[] vectors, Tensor out, Tensor lse, "
    "str predicate, float scale, bool q_sharded, int q_valid, int[] kv_map, bool head_sharded, int heads, "
    "float dropout_p, int site, int batch=0) -> (Tensor dq, Tensor dk, Tensor dv)",

    // x * keep / (1 - p), keep from the generator at the element's global row-major index: x is sharded along sp
    // on `dim` (-1: not) with true length `valid`, outer and inner as in Placement, and along dp as dp_dim, … say.
    // Linear: its own adjoint.
    "dropout(Tensor x, float p, int site, int dim, int valid, int outer, int inner, int dp_dim=-1, int dp_valid=0, "
    "int dp_outer=1, int dp_inner=1) -> Tensor",

    // Ends no-grad regions: the value, without a derivative. An alias.
    "stop_gradient(Tensor x) -> Tensor",

    // Micro-batches (passes/step/micro_batches.h). x summed over those of a step; of one micro-batch x itself. Its adjoint
    // is the number `seed`, whatever the cotangent g, which is known at the step's end alone: the gradients that come of
    // it are summed over micro-batches too and then multiplied by g / seed.
    "total(Tensor x, float seed) -> Tensor",
    "total_backward(Tensor g, float seed) -> Tensor",
    // Instructions between these two run `count` times, each time on the next micro-batch; those before and behind once.
    "each_micro_batch_(int count) -> ()",
    "micro_batches_end_() -> ()",
    // sum += x, of one shape; sum may be of the wider type.
    "accumulate_(Tensor(a!) sum, Tensor x) -> ()",

    // The step. A gradient's sum over ranks, in place; coalesced: of several, dense and of one dtype, at once.
    "all_reduce_(Tensor(a!) x, str op, str axis=\"sp\") -> ()",
    "all_reduce_coalesced_(Tensor(a!)[] xs, str op, str axis=\"sp\") -> ()",
    // float64 []: the square root of the sum of squares, each accumulated in float64.
    "grad_norm(Tensor[] gradients) -> Tensor",
    // float64 []: min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_.
    "clip_coefficient(Tensor norm, float max_norm) -> Tensor",
    // One fused update of p (with its float32 master if given) with gradient g * clip (clip: float64 [] or
    // None). AdamW and SGD as torch.optim with decoupled decay / momentum 0. lr: float64 [], step: int64 [] (>= 1).
    "adamw_(Tensor(a!) p, Tensor(b!)? master, Tensor g, Tensor(c!) m, Tensor(d!) v, Tensor? clip, Tensor lr, "
    "Tensor step, float beta1, float beta2, float eps, float weight_decay) -> ()",
    "sgd_(Tensor(a!) p, Tensor(b!)? master, Tensor g, Tensor? clip, Tensor lr, float weight_decay) -> ()",

    // ZeRO (Rajbhandari et al., 2020): a tensor of n elements, flattened row-major, is cut into P blocks of
    // b = ceil(n / P); rank r owns elements [r*b, min((r+1)*b, n)), its block [b] is zero behind them.
    // R -> S: the rank's own block.
    "own_block(Tensor x) -> Tensor",
    // P -> S, of several tensors of one dtype at once: the rank's own block of each one's sum over ranks.
    "reduce_scatter_coalesced(Tensor[] xs) -> Tensor[]",
    // float64 []: the sum of squares, accumulated in float64. S -> P.
    "sum_of_squares(Tensor[] xs) -> Tensor",
    // As adamw_ and sgd_, of the rank's own block of p (whole, row-major); master, g, m, v: [b].
    "adamw_shard_(Tensor(a!) p, Tensor(b!)? master, Tensor g, Tensor(c!) m, Tensor(d!) v, Tensor? clip, Tensor lr, "
    "Tensor step, float beta1, float beta2, float eps, float weight_decay) -> ()",
    "sgd_shard_(Tensor(a!) p, Tensor(b!)? master, Tensor g, Tensor? clip, Tensor lr, float weight_decay) -> ()",
    // Row-major tensors of which each rank holds its own block anew: all blocks to all ranks, in place.
    "all_gather_coalesced_(Tensor(a!)[] xs) -> ()",
};

}  // namespace autospc
