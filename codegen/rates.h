// How fast a machine does what a step is made of: the one table that turns FLOPs and bytes into seconds.
#pragma once

#include <string_view>

#include "passes/ir/types.h"

namespace autospc::codegen {

// All rates are of one rank. FLOP/s count a multiply-add as two; bytes are read and written ones together.
struct Rates {
  std::string_view name;    // "cpu", "h100"
  std::string_view source;  // where the figures come from, for reports

  // Matrix products and convolutions, FLOP/s by element type.
  double matmul_float64 = 0, matmul_float32 = 0, matmul_half = 0;
  // Attention's products, FLOP/s in float32 and in bfloat16 or float16 (float64: half of float32), and the scores that
  // pass through the softmax, pairs of query and key a second.
  double attention_forward_float32 = 0, attention_forward_half = 0;
  double attention_backward_float32 = 0, attention_backward_half = 0;
  double scores = 0;

  // Bytes/s of elementwise arithmetic and copies, of those through exp, log, tanh or a power, of sums and norms,
  // of rows picked or added by index, and of copies that transpose the innermost dim.
  double elementwise = 0, exponential = 0, reduction = 0, gather = 0, transpose = 0;
  double cache_bytes = 0, cached = 0;  // the first so many bytes of an instruction move `cached` times as fast

  // Collectives: bytes/s that a rank sends among up to `node_ranks` ranks (one machine), and among more; seconds that
  // one costs whatever its size, once for each doubling of the ranks.
  int node_ranks = 1;
  double link = 0, network = 0;
  double latency = 0;

  double instruction = 0;  // seconds that any instruction takes besides

  double Matmul(ir::DType dtype) const;
  double Attention(ir::DType dtype, bool backward) const;
  double Link(int world_size) const { return world_size <= node_ranks ? link : network; }
};

// The machine that this project measures on ("cpu", one thread a rank), and one H100 SXM ("h100").
const Rates& CpuRates();
const Rates& H100Rates();
const Rates& RatesOf(std::string_view device);  // of a program's device: "cpu", else the GPU's

}  // namespace autospc::codegen
