// What the forward and the backward attention kernel share: tiles of operands, matrix products, masks, scratch and
// the distribution of tasks over threads. T is the type of computation: float, or double for float64 operands.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "runtime/exec/attention.h"
#include "runtime/exec/attention_rows.h"
#include "runtime/exec/predicate_tiles.h"

namespace autospc::exec {

// Rows of a row-major matrix in memory, `ld` elements apart.
template <typename T>
struct Matrix {
  T* data = nullptr;
  int64_t ld = 0;
};

// C [m, n] = alpha * op(A) op(B) + beta * C, all row-major, on the calling thread alone.
template <typename T>
void Gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, T alpha, Matrix<const T> a,
          Matrix<const T> b, T beta, Matrix<T> c);

// Cuts a slice of the workspace into buffers aligned to 64 bytes, as attention_workspace.cc counts them.
class Scratch {
 public:
  explicit Scratch(std::byte* at) : at_(at) {}

  template <typename T>
  T* Column(int64_t rows) {
    return reinterpret_cast<T*>(Take(rows * static_cast<int64_t>(sizeof(T))));
  }
  template <typename T>
  Matrix<T> Rows(int64_t rows, int64_t columns) {
    const int64_t ld = PadRow(columns, kRowPadding<T>);
    return {Column<T>(rows * ld), ld};
  }

 private:
  std::byte* Take(int64_t bytes) {
    std::byte* taken = at_;
    at_ += PadRow(bytes, 64);
    return taken;
  }
  std::byte* at_;
};

// Whether rows of the view serve as a matrix where they lie (IsDirectRow) and need no conversion to T.
bool IsDirect(const AttentionView& view, c10::ScalarType dtype);

// Rows [row, row + rows) of head (b, h): in place if the view is direct, else converted into `buffer`.
template <typename T>
Matrix<const T> LoadTile(const AttentionView& view, c10::ScalarType dtype, int64_t b, int64_t h, int64_t row,
                         int64_t rows, Matrix<T> buffer);
// The other way. `from` may be the place itself: then nothing is done.
template <typename T>
void StoreTile(Matrix<const T> from, const AttentionView& view, c10::ScalarType dtype, int64_t b, int64_t h,
               int64_t row, int64_t rows);
// Rows [row, row + rows) of head (b, h) of a direct view.
template <typename T>
Matrix<T> Place(const AttentionView& view, int64_t b, int64_t h, int64_t row) {
  return {static_cast<T*>(view.data) + b * view.strides[0] + h * view.strides[1] + row * view.strides[2],
          std::max(view.strides[2], view.sizes[3])};
}

// The mask of one (b, head): where each row of q stands, and what its tiles may see.
class HeadMask {
 public:
  HeadMask(const AttentionArgs& args, int64_t b, int64_t head);

  // The keys of tile `k` that rows [row, row + rows) need; `kind` says whether they all see all of them.
  Interval Keys(int64_t row, int64_t rows, Interval k, TileKind* kind) const;

  // -inf where the predicate excludes, in a tile of scores of those rows and keys.
  template <typename T>
  void Apply(Matrix<T> scores, int64_t row, int64_t rows, Interval k) const;

  // Dropout: each probability becomes p * keep / (1 - dropout_p), or is only multiplied by what
  // `onto` holds: onto = onto * keep / (1 - dropout_p).
  template <typename T>
  void Drop(Matrix<T> onto, int64_t row, int64_t rows, Interval k) const;

 private:
  static constexpr int kMaxVectors = 16;

  int64_t Position(int64_t row) const { return std::min(args_.q_start + row, args_.q_valid - 1); }
  PositionVectors vectors() const { return {vectors_, args_.vectors.size()}; }

  const AttentionArgs& args_;
  int64_t global_row_;  // (b * heads + global head) * q_valid: the head's first row in dropout's numbering
  PositionVector vectors_[kMaxVectors];

 public:
  static constexpr int kVectorLimit = kMaxVectors;
};

// Runs task(index, slice) for each index of [0, tasks), highest first, on up to `slices` threads; a slice
// number is in use by one thread at a time.
using AttentionTask = void (*)(const void* context, int64_t index, int64_t slice);
void RunTasks(int64_t tasks, int64_t slices, const void* context, AttentionTask task);

template <typename F>
void ForEachTask(int64_t tasks, int64_t slices, const F& f) {
  RunTasks(tasks, slices, &f, [](const void* context, int64_t index, int64_t slice) {
    (*static_cast<const F*>(context))(index, slice);
  });
}

}  // namespace autospc::exec
