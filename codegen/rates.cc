#include "codegen/rates.h"

namespace autospc::codegen {
namespace {

// One core of a Xeon with AVX-512 and AMX, another rank on the other core; Gloo between them. `dev shows rates` times
// a step's instructions and prints them beside what this table says of them.
constexpr Rates kCpu = {
    .name = "cpu",
    .source = "measured: two ranks of one thread on a two-core Xeon, Gloo (tests/shows/rates.py)",
    .matmul_float64 = 70e9,
    .matmul_float32 = 140e9,
    .matmul_half = 450e9,
    .attention_forward_float32 = 130e9,
    .attention_forward_half = 130e9,  // the kernel works in float32
    .attention_backward_float32 = 120e9,
    .attention_backward_half = 120e9,
    .scores = 2.4e9,
    .elementwise = 9.5e9,
    .exponential = 6.5e9,
    .reduction = 4.5e9,
    .gather = 9e9,
    .transpose = 2.5e9,
    .cache_bytes = 16 << 20,
    .cached = 1.8,
    .node_ranks = 64,
    .link = 0.6e9,
    .network = 0.6e9,
    .latency = 100e-6,
    .instruction = 3e-6,
};

// NVIDIA's data sheet of the H100 SXM (989 TFLOP/s bfloat16, 67 float32 and 67 float64 on tensor cores, 3.35 TB/s,
// NVLink 450 GB/s each way) and a 400 Gbit/s port a GPU between machines of eight. Assumed to be reached: two thirds
// of the products' peak, 85% of the memory's and four fifths of the links'; attention as in Shah et al.,
// "FlashAttention-3" (bfloat16, head dim 128, causal: about 600 forward and 450 TFLOP/s backward, softmax included).
constexpr Rates kH100 = {
    .name = "h100",
    .source = "assumed from public figures: H100 SXM at two thirds of its bfloat16 peak and 85% of its memory bandwidth, "
              "NVLink among 8 ranks, 400 Gbit/s a rank beyond; not measured",
    .matmul_float64 = 45e12,
    .matmul_float32 = 45e12,
    .matmul_half = 650e12,
    .attention_forward_float32 = 35e12,
    .attention_forward_half = 600e12,
    .attention_backward_float32 = 35e12,
    .attention_backward_half = 450e12,
    .scores = 1e15,  // within the figures above
    .elementwise = 2.8e12,
    .exponential = 2.8e12,
    .reduction = 2.5e12,
    .gather = 2e12,
    .transpose = 1.5e12,
    .cache_bytes = 0,
    .cached = 1,
    .node_ranks = 8,
    .link = 360e9,
    .network = 40e9,
    .latency = 10e-6,
    .instruction = 3e-6,
};

}  // namespace

double Rates::Matmul(ir::DType dtype) const {
  switch (dtype) {
    case ir::DType::kFloat16:
    case ir::DType::kBFloat16: return matmul_half;
    case ir::DType::kFloat64:
    case ir::DType::kComplex128: return matmul_float64;
    default: return matmul_float32;
  }
}

double Rates::Attention(ir::DType dtype, bool backward) const {
  const double single = backward ? attention_backward_float32 : attention_forward_float32;
  switch (dtype) {
    case ir::DType::kFloat16:
    case ir::DType::kBFloat16: return backward ? attention_backward_half : attention_forward_half;
    case ir::DType::kFloat64: return single / 2;
    default: return single;
  }
}

const Rates& CpuRates() { return kCpu; }
const Rates& H100Rates() { return kH100; }
const Rates& RatesOf(std::string_view device) { return device == "cpu" ? kCpu : kH100; }

}  // namespace autospc::codegen
