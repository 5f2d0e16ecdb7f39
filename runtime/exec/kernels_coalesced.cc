// Collectives over many tensors at once: of gradients and of updated parameters. They go through rounds of bounded
// buffers, so that a bucket costs no memory of its own: the transport reads and writes the tensors where they lie,
// or a round's copy of their pieces (runtime/package/coalesced.h has the sizes).
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "runtime/dist/communicator.h"
#include "runtime/exec/blocks.h"
#include "runtime/exec/call.h"
#include "runtime/exec/kernel_checks.h"
#include "runtime/package/coalesced.h"

namespace autospc::exec {
namespace {

std::byte* Data(const at::Tensor& t) { return static_cast<std::byte*>(t.data_ptr()); }

at::Tensor Buffer(int64_t bytes) { return at::empty({bytes}, at::TensorOptions().dtype(at::kByte)); }

std::vector<int64_t> ByteSizes(const std::vector<at::Tensor>& xs) {
  std::vector<int64_t> bytes;
  for (const at::Tensor& x : xs) bytes.push_back(Bytes(x));
  return bytes;
}

// xs, op. Neighbours that fill a round together travel as one.
Status AllReduceCoalesced(const Call& c) {
  const int ranks = c.group().size;
  if (ranks == 1) return Ok();
  ASSIGN_OR_RETURN(const ReduceOp op, ParseReduceOp(c.String(1)));
  const std::vector<at::Tensor>& xs = c.Tensors(0);
  const at::ScalarType type = xs[0].scalar_type();
  const int64_t element = static_cast<int64_t>(xs[0].element_size());
  Communicator& comm = *c.group().communicator;
  const CoalescedReduce plan = PlanCoalescedReduce(ByteSizes(xs), element, ranks);
  const at::Tensor staging = Buffer(plan.staging_bytes), together = Buffer(plan.packed_bytes);
  for (const auto& [first, behind] : plan.groups) {
    if (behind - first == 1) {
      const at::Tensor& x = xs[first];
      RETURN_IF_ERROR(comm.AllReduce(x.data_ptr(), x.numel(), type, op, staging.data_ptr(), plan.staging_bytes));
      continue;
    }
    int64_t at = 0;
    for (size_t i = first; i < behind; at += Bytes(xs[i++]))
      std::memcpy(Data(together) + at, Data(xs[i]), Bytes(xs[i]));
    RETURN_IF_ERROR(
        comm.AllReduce(together.data_ptr(), at / element, type, op, staging.data_ptr(), plan.staging_bytes));
    at = 0;
    for (size_t i = first; i < behind; at += Bytes(xs[i++]))
      std::memcpy(Data(xs[i]), Data(together) + at, Bytes(xs[i]));
  }
  return Ok();
}

// xs -> their own blocks.
Status ReduceScatterCoalesced(const Call& c) {
  const int64_t ranks = c.context->world_size;
  const std::vector<at::Tensor>& xs = c.Tensors(0);
  if (ranks == 1) {
    for (size_t i = 0; i < xs.size(); ++i) CopyElements(xs[i], 0, xs[i].numel(), Data(c.outputs[i]));
    return Ok();
  }
  const at::ScalarType type = xs[0].scalar_type();
  const int64_t element = static_cast<int64_t>(xs[0].element_size());
  std::vector<int64_t> blocks;
  int64_t columns = 0;
  for (const at::Tensor& x : xs) columns += blocks.emplace_back(BlockLength(x.numel(), ranks));
  const int64_t width = RoundColumns(columns, element, ranks);
  const at::Tensor send = Buffer(ranks * width * element), received = Buffer(ranks * width * element);
  for (int64_t begin = 0; begin < columns; begin += width) {
    const int64_t n = std::min(width, columns - begin);
    for (int64_t r = 0; r < ranks; ++r) {
      ForColumns(blocks, begin, begin + n, [&](size_t i, int64_t from, int64_t count, int64_t at) {
        const int64_t first = r * blocks[i] + from;
        CopyElementsOrZero(xs[i], first, first + count, Data(send) + (r * n + at) * element);
      });
    }
    RETURN_IF_ERROR(c.context->communicator->AllToAll(send.data_ptr(), received.data_ptr(), n * element));
    // The sums go where the pieces sent away were.
    RETURN_IF_ERROR(ReduceRows(received.data_ptr(), send.data_ptr(), ranks, n, type, ReduceOp::kSum));
    ForColumns(blocks, begin, begin + n, [&](size_t i, int64_t from, int64_t count, int64_t at) {
      std::memcpy(Data(c.outputs[i]) + from * element, Data(send) + at * element, count * element);
    });
  }
  return Ok();
}

// xs, of any dtypes: in bytes.
Status AllGatherCoalesced(const Call& c) {
  const int64_t ranks = c.context->world_size, rank = c.context->rank;
  if (ranks == 1) return Ok();
  const std::vector<at::Tensor>& xs = c.Tensors(0);
  std::vector<int64_t> blocks;
  int64_t columns = 0;
  for (const at::Tensor& x : xs) {
    columns += blocks.emplace_back(BlockLength(x.numel(), ranks) * static_cast<int64_t>(x.element_size()));
  }
  const int64_t width = RoundColumns(columns, 1, ranks);
  const at::Tensor all = Buffer(ranks * width);
  for (int64_t begin = 0; begin < columns; begin += width) {
    const int64_t n = std::min(width, columns - begin);
    // The piece of rank r's block that x has: the last blocks reach beyond its end.
    const auto pieces = [&](int64_t r, const auto& copy) {
      ForColumns(blocks, begin, begin + n, [&](size_t i, int64_t from, int64_t count, int64_t at) {
        const int64_t first = r * blocks[i] + from;
        const int64_t have = std::min(count, Bytes(xs[i]) - first);
        if (have > 0) copy(Data(xs[i]) + first, Data(all) + r * n + at, have);
      });
    };
    pieces(rank, [](std::byte* x, std::byte* buffer, int64_t bytes) { std::memcpy(buffer, x, bytes); });
    RETURN_IF_ERROR(c.context->communicator->AllGather(Data(all) + rank * n, all.data_ptr(), n));
    for (int64_t r = 0; r < ranks; ++r) {
      if (r == rank) continue;
      pieces(r, [](std::byte* x, std::byte* buffer, int64_t bytes) { std::memcpy(x, buffer, bytes); });
    }
  }
  return Ok();
}

Status OwnBlock(const Call& c) {
  const int64_t block = c.outputs[0].numel(), begin = c.context->rank * block;
  CopyElementsOrZero(c.Tensor(0), begin, begin + block, Data(c.outputs[0]));
  return Ok();
}

// Each result is contiguous and as long as its operand's block.
Status CheckBlocks(const Call& call, const std::vector<at::Tensor>& xs) {
  const int64_t ranks = call.context->world_size;
  bool right = !xs.empty() && call.outputs.size() == xs.size();
  for (size_t i = 0; right && i < xs.size(); ++i) {
    const at::Tensor& out = call.outputs[i];
    right = xs[i].defined() && xs[i].scalar_type() == xs[0].scalar_type() && out.defined() && out.is_contiguous() &&
            out.scalar_type() == xs[i].scalar_type() && out.numel() == BlockLength(xs[i].numel(), ranks);
  }
  return right ? Ok() : Status(Misshapen(call, "a rank's block has another length or type than its tensor gives it"));
}

}  // namespace

Status CheckReduced(const Call& call) {
  const std::vector<at::Tensor>& xs = call.Tensors(0);
  for (const at::Tensor& x : xs) {
    if (x.defined() && x.is_non_overlapping_and_dense() && x.scalar_type() == xs[0].scalar_type()) continue;
    return Misshapen(call, "a bucket of gradients must be dense and of one type");
  }
  return xs.empty() ? Status(Misshapen(call, "a bucket without gradients")) : Ok();
}

Status CheckGathered(const Call& call) {
  for (const at::Tensor& x : call.Tensors(0)) {
    if (!x.defined() || !x.is_contiguous()) return Misshapen(call, "parameters that ranks share must be row-major");
  }
  return Ok();
}

Status CheckScattered(const Call& call) { return CheckBlocks(call, call.Tensors(0)); }
Status CheckOwnBlock(const Call& call) { return CheckBlocks(call, {call.Tensor(0)}); }

void AddCoalescedKernels(KernelTable* table) {
  table->Add("autosp.all_reduce_coalesced_", &CheckReduced, &AllReduceCoalesced);
  table->Add("autosp.reduce_scatter_coalesced", &CheckScattered, &ReduceScatterCoalesced);
  table->Add("autosp.all_gather_coalesced_", &CheckGathered, &AllGatherCoalesced);
  table->Add("autosp.own_block", &CheckOwnBlock, &OwnBlock);
}

}  // namespace autospc::exec
