#include "runtime/exec/attention_tiles.h"

#include <atomic>
#include <limits>

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "runtime/exec/philox.h"

extern "C" {
void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*, const float*, const int*,
            const float*, const int*, const float*, float*, const int*);
void dgemm_(const char*, const char*, const int*, const int*, const int*, const double*, const double*, const int*,
            const double*, const int*, const double*, double*, const int*);
// Absent where LibTorch comes with another BLAS than MKL.
int MKL_Set_Num_Threads_Local(int) __attribute__((weak));
}

namespace autospc::exec {
namespace {

void BlasGemm(const char* ta, const char* tb, int m, int n, int k, float alpha, const float* a, int lda, const float* b,
              int ldb, float beta, float* c, int ldc) {
  sgemm_(ta, tb, &m, &n, &k, &alpha, a, &lda, b, &ldb, &beta, c, &ldc);
}

void BlasGemm(const char* ta, const char* tb, int m, int n, int k, double alpha, const double* a, int lda,
              const double* b, int ldb, double beta, double* c, int ldc) {
  dgemm_(ta, tb, &m, &n, &k, &alpha, a, &lda, b, &ldb, &beta, c, &ldc);
}

// Products inside a task stay on its thread, so that their bits do not depend on the threads at hand.
class OneBlasThread {
 public:
  OneBlasThread() {
    if (MKL_Set_Num_Threads_Local) before_ = MKL_Set_Num_Threads_Local(1);
  }
  ~OneBlasThread() {
    if (MKL_Set_Num_Threads_Local) MKL_Set_Num_Threads_Local(before_);
  }
  OneBlasThread(const OneBlasThread&) = delete;
  OneBlasThread& operator=(const OneBlasThread&) = delete;

 private:
  int before_ = 0;
};

template <typename From, typename To>
void CopyRows(const From* from, int64_t from_row, int64_t from_stride, To* to, int64_t to_row, int64_t to_stride,
              int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) {
    const From* x = from + r * from_row;
    To* y = to + r * to_row;
    if (from_stride == 1 && to_stride == 1) {
      for (int64_t j = 0; j < columns; ++j) y[j] = static_cast<To>(x[j]);
    } else {
      for (int64_t j = 0; j < columns; ++j) y[j * to_stride] = static_cast<To>(x[j * from_stride]);
    }
  }
}

// f(element of the type that dtype names)
template <typename F>
void OfType(c10::ScalarType dtype, F f) {
  switch (dtype) {
    case c10::ScalarType::BFloat16: return f(c10::BFloat16());
    case c10::ScalarType::Half: return f(c10::Half());
    case c10::ScalarType::Double: return f(double());
    default: return f(float());
  }
}

int64_t Offset(const AttentionView& view, int64_t b, int64_t h, int64_t row) {
  return b * view.strides[0] + h * view.strides[1] + row * view.strides[2];
}

}  // namespace

template <typename T>
void Gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, T alpha, Matrix<const T> a,
          Matrix<const T> b, T beta, Matrix<T> c) {
  // BLAS is column-major: the transpose of what is wanted.
  const auto i = [](int64_t x) { return static_cast<int>(x); };
  BlasGemm(transpose_b ? "T" : "N", transpose_a ? "T" : "N", i(n), i(m), i(k), alpha, b.data, i(b.ld), a.data, i(a.ld),
           beta, c.data, i(c.ld));
}

bool IsDirect(const AttentionView& view, c10::ScalarType dtype) {
  return (dtype == c10::ScalarType::Float || dtype == c10::ScalarType::Double) &&
         IsDirectRow(view.sizes[2], view.sizes[3], view.strides[2], view.strides[3]);
}

template <typename T>
Matrix<const T> LoadTile(const AttentionView& view, c10::ScalarType dtype, int64_t b, int64_t h, int64_t row,
                         int64_t rows, Matrix<T> buffer) {
  if (IsDirect(view, dtype)) {
    const Matrix<T> place = Place<T>(view, b, h, row);
    return {place.data, place.ld};
  }
  OfType(dtype, [&](auto element) {
    const auto* from = static_cast<const decltype(element)*>(view.data) + Offset(view, b, h, row);
    CopyRows(from, view.strides[2], view.strides[3], buffer.data, buffer.ld, 1, rows, view.sizes[3]);
  });
  return {buffer.data, buffer.ld};
}

template <typename T>
void StoreTile(Matrix<const T> from, const AttentionView& view, c10::ScalarType dtype, int64_t b, int64_t h,
               int64_t row, int64_t rows) {
  OfType(dtype, [&](auto element) {
    auto* to = static_cast<decltype(element)*>(view.data) + Offset(view, b, h, row);
    if (static_cast<const void*>(to) == static_cast<const void*>(from.data)) return;
    CopyRows(from.data, from.ld, 1, to, view.strides[2], view.strides[3], rows, view.sizes[3]);
  });
}

HeadMask::HeadMask(const AttentionArgs& args, int64_t b, int64_t head) : args_(args) {
  const int64_t global = args.global_heads.empty() ? head : args.global_heads[static_cast<size_t>(head)];
  const int64_t row = args.batch > 0 ? std::min(args.batch_start + b, args.batch - 1) : b;
  global_row_ = (row * args.heads + global) * args.q_valid;
  for (size_t i = 0; i < args.vectors.size(); ++i) {
    const AttentionVector& v = args.vectors[i];
    const bool is_bool = v.dtype == c10::ScalarType::Bool;
    const int64_t offset = v.sizes[0] == 1 ? 0 : b * v.strides[0];
    vectors_[i] = {static_cast<const std::byte*>(v.data) + offset * (is_bool ? 1 : 8), is_bool, v.strides[1]};
  }
}

Interval HeadMask::Keys(int64_t row, int64_t rows, Interval k, TileKind* kind) const {
  const Interval q{Position(row), Position(row + rows - 1) + 1};
  *kind = ClassifyTile(*args_.predicate, q, k, vectors());
  if (*kind == TileKind::kNone) return {k.begin, k.begin};
  if (*kind == TileKind::kAll) return k;
  k = AllowedHull(*args_.predicate, q, k, vectors());
  if (!k.empty()) *kind = ClassifyTile(*args_.predicate, q, k, vectors());
  return *kind == TileKind::kNone ? Interval{k.begin, k.begin} : k;
}

template <typename T>
void HeadMask::Apply(Matrix<T> scores, int64_t row, int64_t rows, Interval k) const {
  constexpr T kExcluded = -std::numeric_limits<T>::infinity();
  const int64_t columns = k.end - k.begin;
  uint8_t allowed[kAttentionKeyTile];
  for (int64_t r = 0; r < rows; ++r) {
    T* s = scores.data + r * scores.ld;
    const int64_t q = Position(row + r);
    if (const std::optional<Interval> i = AllowedInterval(*args_.predicate, q, k, vectors())) {
      std::fill(s, s + (i->begin - k.begin), kExcluded);
      std::fill(s + (i->end - k.begin), s + columns, kExcluded);
    } else {
      AllowedRow(*args_.predicate, q, k, vectors(), allowed);
      RowLoops<T>().mask(s, columns, allowed);
    }
  }
}

template <typename T>
void HeadMask::Drop(Matrix<T> onto, int64_t row, int64_t rows, Interval k) const {
  const float p = static_cast<float>(args_.dropout_p);
  const T kept = static_cast<T>(1 / (1 - args_.dropout_p));
  const int64_t keys = args_.k.sizes[2];
  for (int64_t r = 0; r < rows; ++r) {
    T* x = onto.data + r * onto.ld;
    const int64_t first = (global_row_ + Position(row + r)) * keys + k.begin;
    std::array<uint32_t, 4> words{};
    for (int64_t j = 0; j < k.end - k.begin; ++j) {
      const auto element = static_cast<uint64_t>(first + j);
      if (j == 0 || element % 4 == 0) words = PhiloxBlock(args_.seed, args_.site, element / 4);
      x[j] = UniformFromWord(words[element % 4]) >= p ? x[j] * kept : T(0);
    }
  }
}

void RunTasks(int64_t tasks, int64_t slices, const void* context, AttentionTask task) {
  const int64_t threads = std::min({tasks, slices, static_cast<int64_t>(at::get_num_threads())});
  // Taken one by one: tiles under a causal mask differ much in work, and the last ones have the most.
  std::atomic<int64_t> left{tasks};
  at::parallel_for(0, std::max<int64_t>(threads, 1), 1, [&](int64_t begin, int64_t end) {
    const OneBlasThread guard;
    for (int64_t i; (i = left.fetch_sub(1) - 1) >= 0;) task(context, i, begin);
  });
}

#define INSTANTIATE(T)                                                                                            \
  template void Gemm<T>(bool, bool, int64_t, int64_t, int64_t, T, Matrix<const T>, Matrix<const T>, T, Matrix<T>); \
  template Matrix<const T> LoadTile<T>(const AttentionView&, c10::ScalarType, int64_t, int64_t, int64_t, int64_t,  \
                                       Matrix<T>);                                                                 \
  template void StoreTile<T>(Matrix<const T>, const AttentionView&, c10::ScalarType, int64_t, int64_t, int64_t,    \
                             int64_t);                                                                             \
  template void HeadMask::Apply<T>(Matrix<T>, int64_t, int64_t, Interval) const;                                   \
  template void HeadMask::Drop<T>(Matrix<T>, int64_t, int64_t, Interval) const;
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace autospc::exec
