// Row loops of the attention kernels, vectorised for the instruction set found at run time (AVX-512, AVX2 with
// FMA, or the compiler's baseline). Each result depends on its row alone. exp is Cephes' (under 2 ulp).
// Rows of score tiles are padded to a multiple of kRowPadding<T> elements, so that no loop has a tail.
#pragma once

#include <cstdint>

namespace autospc::exec {

template <typename T>
inline constexpr int64_t kRowPadding = 64 / sizeof(T);

inline constexpr int64_t PadRow(int64_t length, int64_t padding) { return (length + padding - 1) / padding * padding; }

template <typename T>
struct AttentionRows {
  // The online softmax over one more tile. `scores` [rows, columns], row stride `ld`, becomes
  // exp(score - max); max, sum [rows] are updated, factor[r] is what earlier sums are to be multiplied with.
  // A row of -inf alone so far has max -inf and becomes 0. `columns` is a multiple of the padding.
  void (*softmax)(T* scores, int64_t ld, int64_t rows, int64_t columns, T* max, T* sum, T* factor);
  // scores = exp(score - lse[r]); lse +inf gives 0.
  void (*probability)(T* scores, int64_t ld, int64_t rows, int64_t columns, const T* lse);
  // grad = p * (grad - delta[r]) * scale, with grad and p of the same row stride.
  void (*score_gradient)(const T* p, T* grad, int64_t ld, int64_t rows, int64_t columns, const T* delta, T scale);
  // matrix[r, :] *= factor[r]; the columns are padded.
  void (*scale)(T* matrix, int64_t ld, int64_t rows, int64_t columns, const T* factor);
  // row[j] = allowed[j] ? row[j] : -inf.
  void (*mask)(T* row, int64_t columns, const uint8_t* allowed);
  // result[r] = sum over j of a[r, j] * b[r, j]; any number of columns.
  void (*dot)(const T* a, int64_t lda, const T* b, int64_t ldb, int64_t rows, int64_t columns, T* result);
  // result[r] = sum_j p[r, j] g[r, j] / sum_j p[r, j], 0 where p is 0.
  void (*weighted_mean)(const T* p, const T* g, int64_t ld, int64_t rows, int64_t columns, T* result);
};

// For this machine.
template <typename T>
const AttentionRows<T>& RowLoops();

}  // namespace autospc::exec
