// Attention kernels beside LibTorch's own CPU flash kernel, which knows no mask but the causal one.
// Each benchmark names [sequence length, head dim, threads]; GFLOP/s count the allowed half of the score matrix:
// 2 products forward, 5 backward, per second of processor time (of all threads), which other work on the
// machine disturbs least. Run: bench_attention --benchmark_filter=…
#include <memory>
#include <numeric>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>

#include "runtime/exec/attention.h"

namespace autospc::exec {
namespace {

constexpr int64_t kHeads = 4;

struct Problem {
  explicit Problem(const benchmark::State& state, c10::ScalarType dtype = c10::ScalarType::Float)
      : seq(state.range(0)), dim(state.range(1)) {
    at::set_num_threads(static_cast<int>(state.range(2)));
    const auto make = [&] { return at::randn({1, seq, kHeads, dim}, c10::ScalarType::Float).to(dtype).transpose(1, 2); };
    q = make(), k = make(), v = make(), out = make(), grad = make(), dq = make(), dk = make(), dv = make();
    lse = at::empty({1, kHeads, seq}, c10::ScalarType::Float);
    std::iota(kv_heads.begin(), kv_heads.end(), 0);
    Fill(&args);
    args.grad_out = ViewOf(grad), args.dq = ViewOf(dq), args.dk = ViewOf(dk), args.dv = ViewOf(dv);
    const int64_t bytes = std::max(AttentionWorkspace(ShapeOf(static_cast<const AttentionArgs&>(args))),
                                   AttentionBackwardWorkspace(ShapeOf(args)));
    scratch.resize(static_cast<size_t>(bytes) + 64);
    const auto at = (reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64;
    args.workspace = {reinterpret_cast<std::byte*>(at), static_cast<size_t>(bytes)};
  }

  void Fill(AttentionArgs* a) {
    a->dtype = q.scalar_type();
    a->q = ViewOf(q), a->k = ViewOf(k), a->v = ViewOf(v), a->out = ViewOf(out);
    a->predicate = &predicate;
    a->scale = 1 / std::sqrt(static_cast<double>(dim));
    a->q_valid = seq;
    a->kv_heads = kv_heads;
    a->heads = kHeads;
    a->lse = lse.data_ptr();
  }

  double Flops(int products) const {
    return 2.0 * products * kHeads * static_cast<double>(dim) * static_cast<double>(seq) * static_cast<double>(seq + 1) / 2;
  }

  int64_t seq, dim;
  at::Tensor q, k, v, out, grad, dq, dk, dv, lse;
  std::vector<int> kv_heads = std::vector<int>(kHeads);
  Predicate predicate = Predicate::Causal();
  std::vector<std::byte> scratch;
  AttentionBackwardArgs args;
};

void Report(benchmark::State& state, double flops) {
  state.counters["GFLOP/s"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

void OurForward(benchmark::State& state) {
  Problem p(state);
  for (auto _ : state) AttentionForward(p.args);
  Report(state, p.Flops(2));
}

void FlashForward(benchmark::State& state) {
  const Problem p(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(at::_scaled_dot_product_flash_attention_for_cpu(p.q, p.k, p.v, 0.0, true));
  }
  Report(state, p.Flops(2));
}

void OurBackward(benchmark::State& state) {
  Problem p(state);
  AttentionForward(p.args);
  for (auto _ : state) AttentionBackward(p.args);
  Report(state, p.Flops(5));
}

void FlashBackward(benchmark::State& state) {
  const Problem p(state);
  const auto [out, lse] = at::_scaled_dot_product_flash_attention_for_cpu(p.q, p.k, p.v, 0.0, true);
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        at::_scaled_dot_product_flash_attention_for_cpu_backward(p.grad, p.q, p.k, p.v, out, lse, 0.0, true));
  }
  Report(state, p.Flops(5));
}

void OurForwardBFloat16(benchmark::State& state) {
  Problem p(state, c10::ScalarType::BFloat16);
  for (auto _ : state) AttentionForward(p.args);
  Report(state, p.Flops(2));
}

void Sizes(benchmark::internal::Benchmark* b) {
  for (const int64_t dim : {32, 64, 128}) b->Args({4096, dim, 1});
  b->Args({4096, 64, 2})->Unit(benchmark::kMillisecond)->MeasureProcessCPUTime();
}

BENCHMARK(OurForward)->Apply(Sizes);
BENCHMARK(FlashForward)->Apply(Sizes);
BENCHMARK(OurBackward)->Apply(Sizes);
BENCHMARK(FlashBackward)->Apply(Sizes);
BENCHMARK(OurForwardBFloat16)->Apply(Sizes);

}  // namespace
}  // namespace autospc::exec

BENCHMARK_MAIN();
