// Collectives over many tensors at once by LibTorch's copies; the same rounds as on the host (kernels_coalesced.cc).
#include <algorithm>

#include "runtime/dist/communicator.h"
#include "runtime/dist/tensor_collectives.h"
#include "runtime/exec/blocks.h"
#include "runtime/exec/call.h"
#include "runtime/exec/kernel_checks.h"
#include "runtime/exec/portable.h"
#include "runtime/exec/scratch.h"
#include "runtime/package/coalesced.h"

namespace autospc::exec {
namespace {

int64_t BytesOfOne(const at::Tensor& t) { return static_cast<int64_t>(t.element_size()); }

// xs, op. Neighbours that fill a round together travel as one.
Status PortableAllReduceCoalesced(const Call& c) {
  if (c.group().size == 1) return Ok();
  ASSIGN_OR_RETURN(const ReduceOp op, ParseReduceOp(c.String(1)));
  const std::vector<at::Tensor>& xs = c.Tensors(0);
  Communicator& comm = *c.group().communicator;
  std::vector<int64_t> sizes;
  for (const at::Tensor& x : xs) sizes.push_back(x.numel() * BytesOfOne(x));
  const CoalescedReduce plan = PlanCoalescedReduce(sizes, BytesOfOne(xs[0]), c.group().size);
  CallScratch scratch(c);
  const at::Tensor staging = scratch.Take({plan.staging_bytes}, at::kByte);
  const at::Tensor together = scratch.Take({plan.packed_bytes / BytesOfOne(xs[0])}, xs[0].scalar_type());
  for (const auto& [first, behind] : plan.groups) {
    if (behind - first == 1) {
      RETURN_IF_ERROR(autospc::AllReduce(comm, xs[first], op, staging));
      continue;
    }
    int64_t at = 0;
    for (size_t i = first; i < behind; at += xs[i++].numel()) together.narrow(0, at, xs[i].numel()).copy_(FlatView(xs[i]));
    RETURN_IF_ERROR(autospc::AllReduce(comm, together.narrow(0, 0, at), op, staging));
    at = 0;
    for (size_t i = first; i < behind; at += xs[i++].numel()) FlatView(xs[i]).copy_(together.narrow(0, at, xs[i].numel()));
  }
  return Ok();
}

// xs -> their own blocks.
Status PortableReduceScatterCoalesced(const Call& c) {
  const int64_t ranks = c.context->world_size;
  const std::vector<at::Tensor>& xs = c.Tensors(0);
  if (ranks == 1) {
    for (size_t i = 0; i < xs.size(); ++i) CopyElementsTo(xs[i], 0, xs[i].numel(), FlatView(c.outputs[i]));
    return Ok();
  }
  std::vector<int64_t> blocks;
  int64_t columns = 0;
  for (const at::Tensor& x : xs) columns += blocks.emplace_back(BlockLength(x.numel(), ranks));
  const int64_t width = RoundColumns(columns, BytesOfOne(xs[0]), ranks);
  CallScratch scratch(c);
  const at::Tensor send = scratch.Take({ranks * width}, xs[0].scalar_type()), received = scratch.Take({ranks * width}, xs[0].scalar_type());
  for (int64_t begin = 0; begin < columns; begin += width) {
    const int64_t n = std::min(width, columns - begin);
    for (int64_t r = 0; r < ranks; ++r) {
      ForColumns(blocks, begin, begin + n, [&](size_t i, int64_t from, int64_t count, int64_t at) {
        const int64_t first = r * blocks[i] + from;
        CopyElementsOrZeroTo(xs[i], first, first + count, send.narrow(0, r * n + at, count));
      });
    }
    // The sums go where the pieces sent away were.
    const at::Tensor sums = send.narrow(0, 0, n);
    RETURN_IF_ERROR(autospc::ReduceScatter(*c.context->communicator, send.narrow(0, 0, ranks * n), sums, ReduceOp::kSum,
                                           received.narrow(0, 0, ranks * n)));
    ForColumns(blocks, begin, begin + n, [&](size_t i, int64_t from, int64_t count, int64_t at) {
      FlatView(c.outputs[i]).narrow(0, from, count).copy_(sums.narrow(0, at, count));
    });
  }
  return Ok();
}

// xs, of any dtypes: in bytes.
Status PortableAllGatherCoalesced(const Call& c) {
  const int64_t ranks = c.context->world_size, rank = c.context->rank;
  if (ranks == 1) return Ok();
  std::vector<at::Tensor> xs;
  std::vector<int64_t> blocks;
  int64_t columns = 0;
  for (const at::Tensor& x : c.Tensors(0)) {
    xs.push_back(BytesView(x));
    columns += blocks.emplace_back(BlockLength(x.numel(), ranks) * BytesOfOne(x));
  }
  const int64_t width = RoundColumns(columns, 1, ranks);
  CallScratch scratch(c);
  const at::Tensor buffer = scratch.Take({ranks * width}, at::kByte);
  for (int64_t begin = 0; begin < columns; begin += width) {
    const int64_t n = std::min(width, columns - begin);
    const at::Tensor all = buffer.narrow(0, 0, ranks * n);
    // The piece of rank r's block that x has: the last blocks reach beyond its end.
    const auto pieces = [&](int64_t r, const auto& copy) {
      ForColumns(blocks, begin, begin + n, [&](size_t i, int64_t from, int64_t count, int64_t at) {
        const int64_t first = r * blocks[i] + from;
        const int64_t have = std::min(count, xs[i].numel() - first);
        if (have > 0) copy(xs[i].narrow(0, first, have), all.narrow(0, r * n + at, have));
      });
    };
    pieces(rank, [](const at::Tensor& x, const at::Tensor& piece) { piece.copy_(x); });
    RETURN_IF_ERROR(autospc::AllGather(*c.context->communicator, all.narrow(0, rank * n, n), all));
    for (int64_t r = 0; r < ranks; ++r) {
      if (r != rank) pieces(r, [](const at::Tensor& x, const at::Tensor& piece) { x.copy_(piece); });
    }
  }
  return Ok();
}

Status PortableOwnBlock(const Call& c) {
  const int64_t block = c.outputs[0].numel(), begin = c.context->rank * block;
  CopyElementsOrZeroTo(c.Tensor(0), begin, begin + block, FlatView(c.outputs[0]));
  return Ok();
}

}  // namespace

void AddPortableCoalescedKernels(KernelTable* table) {
  table->Add("autosp.all_reduce_coalesced_", &CheckReduced, &PortableAllReduceCoalesced);
  table->Add("autosp.reduce_scatter_coalesced", &CheckScattered, &PortableReduceScatterCoalesced);
  table->Add("autosp.all_gather_coalesced_", &CheckGathered, &PortableAllGatherCoalesced);
  table->Add("autosp.own_block", &CheckOwnBlock, &PortableOwnBlock);
}

}  // namespace autospc::exec
