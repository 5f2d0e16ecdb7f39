// One case of attention: operands, the kernels' results and the same by definition, in float64, with gradients by the
// chain rule through whole score matrices. For attention_test.cc.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include <c10/core/ScalarType.h>
#include <gtest/gtest.h>

#include "runtime/exec/attention.h"
#include "runtime/exec/philox.h"

namespace autospc::exec {

enum class Layout { kHeadsFirst, kSequenceFirst, kSpread };  // memory order BHSD, BSHD, BHSD with last stride 2

struct Case {
  int64_t batch = 1, heads = 2, kv_heads = 2;
  int64_t rows = 40, keys = 40;
  int64_t dim = 8, value_dim = 8;
  Predicate predicate = Predicate::Causal();
  int64_t q_start = 0, q_valid = 40;
  std::vector<int> kv_map;  // empty: grouped
  std::vector<int64_t> global_heads;
  int64_t all_heads = 2;
  double dropout = 0;
  Layout layout = Layout::kSequenceFirst;
  double spread = 1;  // of q and k: large ones make sharp softmaxes
};

template <typename T>
struct Tensor4 {
  Tensor4(std::array<int64_t, 4> sizes, Layout layout) : sizes(sizes) {
    const auto [b, h, s, d] = sizes;
    const int64_t last = layout == Layout::kSpread ? 2 : 1;
    strides = layout == Layout::kSequenceFirst ? std::array<int64_t, 4>{h * s * d, d, h * d, 1}
                                               : std::array<int64_t, 4>{h * s * d * last, s * d * last, d * last, last};
    // Never read where it isn't part of the tensor, never kept where it is to be written.
    data.assign(static_cast<size_t>(b * h * s * d * last), static_cast<T>(std::numeric_limits<float>::quiet_NaN()));
  }
  T& at(int64_t b, int64_t h, int64_t s, int64_t d) {
    return data[static_cast<size_t>(b * strides[0] + h * strides[1] + s * strides[2] + d * strides[3])];
  }
  double get(int64_t b, int64_t h, int64_t s, int64_t d) { return static_cast<double>(at(b, h, s, d)); }
  AttentionView view() { return {data.data(), sizes, strides}; }
  template <typename F>
  void Each(F f) {
    for (int64_t b = 0; b < sizes[0]; ++b)
      for (int64_t h = 0; h < sizes[1]; ++h)
        for (int64_t s = 0; s < sizes[2]; ++s)
          for (int64_t d = 0; d < sizes[3]; ++d) f(b, h, s, d, at(b, h, s, d));
  }

  std::array<int64_t, 4> sizes, strides;
  std::vector<T> data;
};

template <typename T>
using LseType = std::conditional_t<std::is_same_v<T, double>, double, float>;

inline constexpr uint64_t kSeed = 20240229;
inline constexpr int64_t kSite = 3;

// Operands and results of one case in type T, and the same by definition.
template <typename T>
class Trial {
 public:
  explicit Trial(const Case& c)
      : c(c),
        q({c.batch, c.heads, c.rows, c.dim}, c.layout),
        k({c.batch, c.kv_heads, c.keys, c.dim}, c.layout),
        v({c.batch, c.kv_heads, c.keys, c.value_dim}, c.layout),
        out({c.batch, c.heads, c.rows, c.value_dim}, Layout::kSequenceFirst),
        grad(out.sizes, c.layout),
        dq(q.sizes, Layout::kSequenceFirst),
        dk(k.sizes, Layout::kSequenceFirst),
        dv(v.sizes, Layout::kSequenceFirst),
        want_out(out.sizes, Layout::kHeadsFirst),
        want_dq(q.sizes, Layout::kHeadsFirst),
        want_dk(k.sizes, Layout::kHeadsFirst),
        want_dv(v.sizes, Layout::kHeadsFirst),
        lse(static_cast<size_t>(c.batch * c.heads * c.rows)),
        want_lse(lse.size()) {
    std::mt19937 random(11);
    std::normal_distribution<double> normal;
    const auto fill = [&](Tensor4<T>& t, double spread) {
      t.Each([&](int64_t, int64_t, int64_t, int64_t, T& x) { x = static_cast<T>(static_cast<float>(spread * normal(random))); });
    };
    fill(q, c.spread), fill(k, c.spread), fill(v, 1), fill(grad, 1);
    const int64_t positions = std::max(c.q_valid, c.keys);
    for (int64_t b = 0; b < c.batch; ++b) {
      for (int64_t i = 0; i < positions; ++i) {
        segments.push_back((i + 5 * b) / 17);
        padding.push_back(i < positions - 7 - 3 * b);
        bounds.push_back(static_cast<int64_t>(random() % static_cast<unsigned>(positions)));
      }
    }
    vectors = {{segments.data(), c10::ScalarType::Long, {c.batch, positions}, {positions, 1}},
               {padding.data(), c10::ScalarType::Bool, {c.batch, positions}, {positions, 1}},
               {bounds.data(), c10::ScalarType::Long, {1, positions}, {positions, 1}}};
    kv_map = c.kv_map;
    for (int64_t h = 0; c.kv_map.empty() && h < c.heads; ++h) kv_map.push_back(static_cast<int>(h * c.kv_heads / c.heads));
    Bind();
  }

  void Bind() {
    args.dtype = c10::CppTypeToScalarType<T>::value;
    args.q = q.view(), args.k = k.view(), args.v = v.view(), args.out = out.view();
    args.vectors = vectors;
    args.predicate = &c.predicate;
    args.scale = 1 / std::sqrt(static_cast<double>(c.dim));
    args.q_start = c.q_start, args.q_valid = c.q_valid;
    args.kv_heads = kv_map;
    args.global_heads = c.global_heads;
    args.heads = c.all_heads;
    args.dropout_p = c.dropout, args.seed = kSeed, args.site = kSite;
    args.lse = lse.data();
    args.grad_out = grad.view(), args.dq = dq.view(), args.dk = dk.view(), args.dv = dv.view();
    Workspace(kAttentionThreads);
  }

  // The planned workspace for so many threads, filled with NaN, and beyond it a guard.
  void Workspace(int threads) {
    const AttentionArgs& forward = args;
    forward_bytes = static_cast<size_t>(AttentionWorkspace(ShapeOf(forward), threads));
    backward_bytes = static_cast<size_t>(AttentionBackwardWorkspace(ShapeOf(args), threads));
    memory.assign(std::max(forward_bytes, backward_bytes) + 128, std::byte{0xFF});
    const auto address = (reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64;
    workspace = reinterpret_cast<std::byte*>(address);
  }

  void Run() {
    args.workspace = {workspace, forward_bytes};
    const Status forward = CheckAttention(args);
    ASSERT_TRUE(forward.ok()) << forward.error().Format();
    AttentionForward(args);
    EXPECT_EQ(workspace[forward_bytes], std::byte{0xFF});
    std::fill(memory.begin(), memory.end(), std::byte{0xFF});
    args.workspace = {workspace, backward_bytes};
    const Status backward = CheckAttentionBackward(args);
    ASSERT_TRUE(backward.ok()) << backward.error().Format();
    AttentionBackward(args);
    EXPECT_EQ(workspace[backward_bytes], std::byte{0xFF});
  }

  int64_t Position(int64_t row) const { return std::min(c.q_start + row, c.q_valid - 1); }

  void Define() {
    for (Tensor4<double>* t : {&want_out, &want_dq, &want_dk, &want_dv}) std::fill(t->data.begin(), t->data.end(), 0.0);
    for (int64_t b = 0; b < c.batch; ++b) {
      for (int64_t h = 0; h < c.heads; ++h) {
        for (int64_t i = 0; i < c.rows; ++i) DefineRow(b, h, i);
      }
    }
  }

  void DefineRow(int64_t b, int64_t h, int64_t i) {
    const int64_t g = kv_map[static_cast<size_t>(h)], position = Position(i);
    const int64_t global = c.global_heads.empty() ? h : c.global_heads[static_cast<size_t>(h)];
    const VectorAt at = [&](int index, int64_t p) -> int64_t {
      const int64_t place = (index == 2 ? 0 : b) * vectors[0].sizes[1] + p;
      return index == 0 ? segments[static_cast<size_t>(place)]
             : index == 1 ? padding[static_cast<size_t>(place)]
                          : bounds[static_cast<size_t>(place)];
    };
    std::vector<double> s(static_cast<size_t>(c.keys)), keep(s.size(), 1), dp(s.size());
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t j = 0; j < c.keys; ++j) {
      double dot = 0;
      for (int64_t d = 0; d < c.dim; ++d) dot += q.get(b, h, i, d) * k.get(b, g, j, d);
      const bool allowed = Holds(c.predicate, position, j, at);
      s[static_cast<size_t>(j)] = allowed ? dot * args.scale : -std::numeric_limits<double>::infinity();
      top = std::max(top, s[static_cast<size_t>(j)]);
      const int64_t element = ((b * c.all_heads + global) * c.q_valid + position) * c.keys + j;
      if (c.dropout > 0) {
        keep[static_cast<size_t>(j)] = Uniform(kSeed, kSite, element) >= static_cast<float>(c.dropout) ? 1 / (1 - c.dropout) : 0;
      }
    }
    double& log_sum = want_lse[static_cast<size_t>((b * c.heads + h) * c.rows + i)];
    log_sum = top;
    if (std::isinf(top)) return;
    for (double& x : s) sum += x = std::exp(x - top);
    for (double& x : s) x /= sum;
    log_sum = top + std::log(sum);
    double mean = 0;
    for (int64_t j = 0; j < c.keys; ++j) {
      const size_t n = static_cast<size_t>(j);
      for (int64_t d = 0; d < c.value_dim; ++d) {
        want_out.at(b, h, i, d) += s[n] * keep[n] * v.get(b, g, j, d);
        want_dv.at(b, g, j, d) += s[n] * keep[n] * grad.get(b, h, i, d);
        dp[n] += keep[n] * grad.get(b, h, i, d) * v.get(b, g, j, d);
      }
      mean += dp[n] * s[n];
    }
    for (int64_t j = 0; j < c.keys; ++j) {
      const double ds = s[static_cast<size_t>(j)] * (dp[static_cast<size_t>(j)] - mean) * args.scale;
      for (int64_t d = 0; d < c.dim; ++d) {
        want_dq.at(b, h, i, d) += ds * k.get(b, g, j, d);
        want_dk.at(b, g, j, d) += ds * q.get(b, h, i, d);
      }
    }
  }

  // Norm of the difference over the norm of what is wanted; infinity for a NaN.
  static double Difference(Tensor4<T>& got, Tensor4<double>& want) {
    double difference = 0, norm = 0;
    got.Each([&](int64_t b, int64_t h, int64_t s, int64_t d, T& x) {
      const double w = want.at(b, h, s, d);
      difference += (static_cast<double>(x) - w) * (static_cast<double>(x) - w);
      norm += w * w;
    });
    if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
    return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
  }

  void Compare(double out_tolerance, double gradient_tolerance, double lse_tolerance) {
    EXPECT_LE(Difference(out, want_out), out_tolerance);
    EXPECT_LE(Difference(dq, want_dq), gradient_tolerance);
    EXPECT_LE(Difference(dk, want_dk), gradient_tolerance);
    EXPECT_LE(Difference(dv, want_dv), gradient_tolerance);
    for (size_t i = 0; i < lse.size(); ++i) {
      if (std::isinf(want_lse[i])) {
        EXPECT_EQ(static_cast<double>(lse[i]), want_lse[i]) << "row " << i;
      } else {
        EXPECT_NEAR(lse[i], want_lse[i], lse_tolerance * std::max(1.0, std::abs(want_lse[i]))) << "row " << i;
      }
    }
  }

  Case c;
  Tensor4<T> q, k, v, out, grad, dq, dk, dv;
  Tensor4<double> want_out, want_dq, want_dk, want_dv;
  std::vector<LseType<T>> lse;
  std::vector<double> want_lse;
  std::vector<int64_t> segments, bounds;
  std::vector<uint8_t> padding;
  std::vector<AttentionVector> vectors;
  std::vector<int> kv_map;
  AttentionBackwardArgs args;
  std::vector<std::byte> memory;
  std::byte* workspace = nullptr;
  size_t forward_bytes = 0, backward_bytes = 0;
};

}  // namespace autospc::exec
