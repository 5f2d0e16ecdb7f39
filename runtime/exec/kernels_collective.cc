// Conversions between placements that move bytes between ranks. Buffers that the transport reads and writes
// are cut from the instruction's workspace (runtime/package/kernels.cc has the formulas).
#include <algorithm>

#include "runtime/dist/tensor_collectives.h"
#include "runtime/base/alignment.h"
#include "runtime/exec/call.h"
#include "runtime/exec/scratch.h"

namespace autospc::exec {
namespace {

// x with a leading dim of `count`: [count, x's sizes with `rows` along `dim`].
std::vector<int64_t> Pieces(int64_t count, at::IntArrayRef sizes, int64_t dim, int64_t rows) {
  TORCH_CHECK(dim >= 0 && dim < static_cast<int64_t>(sizes.size()) && rows >= 0, "dim ", dim, " of ", sizes.size());
  std::vector<int64_t> pieces = {count};
  pieces.insert(pieces.end(), sizes.begin(), sizes.end());
  pieces[dim + 1] = rows;
  return pieces;
}

// Rows [start, start + block) of x along dim into `to` [.., block, ..]; rows past x's end repeat its last
// one, or are zero.
void CopyPadded(const at::Tensor& x, int64_t dim, int64_t start, int64_t block, bool zero, const at::Tensor& to) {
  const int64_t valid = x.size(dim);
  const int64_t have = std::clamp<int64_t>(valid - start, 0, block);
  if (have > 0) to.narrow(dim, 0, have).copy_(x.narrow(dim, start, have));
  if (have == block) return;
  const at::Tensor rest = to.narrow(dim, have, block - have);
  if (zero) {
    rest.zero_();
  } else {
    rest.copy_(x.narrow(dim, valid - 1, 1).expand_as(rest));
  }
}

// The ranks' rows [.., block, ..], by rank, one after the other along dim; of all of them the first `valid`.
void Join(const at::Tensor& by_rank, int64_t dim, int64_t block, int64_t valid, const at::Tensor& to) {
  for (int64_t r = 0; r < by_rank.size(0) && r * block < valid; ++r) {
    const int64_t rows = std::min(block, valid - r * block);
    to.narrow(dim, r * block, rows).copy_(by_rank.select(0, r).narrow(dim, 0, rows));
  }
}

// Whether the elements of t lie one after the other from its first one, whatever the order of dims.
bool IsDense(const at::Tensor& t) { return t.is_non_overlapping_and_dense(); }


// `scratch` is what of the workspace is not in use already.
Status ReduceInPlace(const Call& c, CallScratch* scratch, const at::Tensor& x, std::string_view op_name) {
  ASSIGN_OR_RETURN(const ReduceOp op, ParseReduceOp(op_name));
  Communicator& comm = *c.group().communicator;
  // What the plan gave, in whole elements; at least what one round needs.
  const int64_t staging_bytes =
      std::max<int64_t>(comm.MinStaging(x.scalar_type()),
                        std::min<int64_t>(scratch->left(), Aligned(Bytes(x))));
  const at::Tensor staging = scratch->Take({staging_bytes}, at::kByte);
  return autospc::AllReduce(comm, x, op, staging);
}

Status AllReduce(const Call& c) {
  const at::Tensor& out = c.outputs[0];
  if (out.data_ptr() != c.Tensor(0).data_ptr()) out.copy_(c.Tensor(0));
  if (c.group().size == 1) return Ok();
  CallScratch scratch(c);
  if (IsDense(out)) return ReduceInPlace(c, &scratch, out, c.String(1));
  at::Tensor dense = scratch.Take(out.sizes(), out.scalar_type());
  dense.copy_(out);
  RETURN_IF_ERROR(ReduceInPlace(c, &scratch, dense, c.String(1)));
  out.copy_(dense);
  return Ok();
}

Status AllReduceInPlace(const Call& c) {
  if (c.group().size == 1) return Ok();
  CallScratch scratch(c);
  return ReduceInPlace(c, &scratch, c.Tensor(0), c.String(1));
}

// x, dim, valid, vary.
Status AllGather(const Call& c) {
  const at::Tensor& x = c.Tensor(0);
  const at::Tensor& out = c.outputs[0];
  const int64_t dim = c.Int(1), valid = c.Int(2), block = x.size(dim), ranks = c.group().size;
  if (ranks == 1) {
    out.copy_(x.narrow(dim, 0, valid));
    return Ok();
  }
  CallScratch scratch(c);
  at::Tensor all = scratch.Take(Pieces(ranks, x.sizes(), dim, block), x.scalar_type());
  const at::Tensor mine = all.select(0, c.group().rank);
  mine.copy_(x);
  RETURN_IF_ERROR(autospc::AllGather(*c.group().communicator, mine, all));
  Join(all, dim, block, valid, out);
  return Ok();
}

// x, dim, block, zero.
Status ReduceScatter(const Call& c) {
  const at::Tensor& x = c.Tensor(0);
  const at::Tensor& out = c.outputs[0];
  const int64_t dim = c.Int(1), block = c.Int(2), ranks = c.group().size;
  const bool zero = c.Bool(3);
  if (ranks == 1) {
    CopyPadded(x, dim, 0, block, zero, out);
    return Ok();
  }
  CallScratch scratch(c);
  at::Tensor send = scratch.Take(Pieces(ranks, x.sizes(), dim, block), x.scalar_type());
  for (int64_t r = 0; r < ranks; ++r) CopyPadded(x, dim, r * block, block, zero, send.select(0, r));
  at::Tensor received = scratch.Take(send.sizes(), x.scalar_type());
  // The sums go where the pieces sent away were.
  const at::Tensor sum = send.select(0, 0);
  RETURN_IF_ERROR(autospc::ReduceScatter(*c.group().communicator, send, sum, ReduceOp::kSum, received));
  out.copy_(sum);
  return Ok();
}

// x, from_dim, from_valid, to_dim, to_block, zero.
Status AllToAll(const Call& c) {
  const at::Tensor& x = c.Tensor(0);
  const at::Tensor& out = c.outputs[0];
  const int64_t from = c.Int(1), from_valid = c.Int(2), to = c.Int(3), to_block = c.Int(4);
  const bool zero = c.Bool(5);
  const int64_t ranks = c.group().size, block = x.size(from);
  if (ranks == 1) {
    CopyPadded(x.narrow(from, 0, from_valid), to, 0, to_block, zero, out);
    return Ok();
  }
  CallScratch scratch(c);
  at::Tensor send = scratch.Take(Pieces(ranks, x.sizes(), to, to_block), x.scalar_type());
  for (int64_t r = 0; r < ranks; ++r) CopyPadded(x, to, r * to_block, to_block, zero, send.select(0, r));
  at::Tensor received = scratch.Take(send.sizes(), x.scalar_type());
  RETURN_IF_ERROR(autospc::AllToAll(*c.group().communicator, send, received));
  Join(received, from, block, from_valid, out);
  return Ok();
}

// x, dim, valid: rows at or past `valid` become row valid-1. Where ranks hold nothing but padding, that
// row comes from the rank that has it.
Status PadLast(const Call& c) {
  const at::Tensor& x = c.Tensor(0);
  const at::Tensor& out = c.outputs[0];
  const int64_t dim = c.Int(1), valid = c.Int(2), block = x.size(dim), rank = c.group().rank;
  if (out.data_ptr() != x.data_ptr() || out.strides() != x.strides()) out.copy_(x);
  if (block < 1 || valid < 1 || (valid - 1) / block >= c.group().size) return Misshapen(c, "rows that no rank holds");
  const int64_t owner = (valid - 1) / block;
  const int64_t have = std::clamp<int64_t>(valid - rank * block, 0, block);
  if (owner == c.group().size - 1) {  // only the last rank has padding, and its own last row
    if (have < block) {
      const at::Tensor rest = out.narrow(dim, have, block - have);
      rest.copy_(out.narrow(dim, have - 1, 1).expand_as(rest));
    }
    return Ok();
  }
  CallScratch scratch(c);
  at::Tensor row = scratch.Take(Pieces(1, x.sizes(), dim, 1), x.scalar_type()).select(0, 0);
  if (rank == owner) row.copy_(out.narrow(dim, (valid - 1) % block, 1));
  RETURN_IF_ERROR(autospc::Broadcast(*c.group().communicator, row, static_cast<int>(owner)));
  if (have < block) {
    const at::Tensor rest = out.narrow(dim, have, block - have);
    rest.copy_(row.expand_as(rest));
  }
  return Ok();
}

// x, dim, block, zero.
Status Shard(const Call& c) {
  CopyPadded(c.Tensor(0), c.Int(1), c.group().rank * c.Int(2), c.Int(2), c.Bool(3), c.outputs[0]);
  return Ok();
}

}  // namespace

void AddCollectiveKernels(KernelTable* table) {
  table->Add("autosp.all_reduce", &AllReduce);
  table->Add("autosp.all_reduce_", [](const Call& call) -> Result<Kernel> {
    if (!IsDense(call.Tensor(0))) {
      return Error{Code::kBadInput, "a bucket of gradients must be dense", "", "compile the model again"};
    }
    return Kernel([c = &call] { return AllReduceInPlace(*c); });
  });
  table->Add("autosp.all_gather", &AllGather);
  table->Add("autosp.reduce_scatter", &ReduceScatter);
  table->Add("autosp.all_to_all", &AllToAll);
  table->Add("autosp.pad_last", &PadLast);
  table->Add("autosp.shard", &Shard);
}

}  // namespace autospc::exec
