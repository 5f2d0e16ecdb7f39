#include "runtime/dist/reduce_rows.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace autospc {
namespace {

template <typename T, typename Acc>
void SumRows(const T* rows, T* out, int64_t count, int64_t n) {
  constexpr int64_t kBlock = 1024;  // accumulators stay in the first cache
  Acc sums[kBlock];
  for (int64_t start = 0; start < n; start += kBlock) {
    const int64_t width = std::min(kBlock, n - start);
    for (int64_t i = 0; i < width; ++i) sums[i] = static_cast<Acc>(rows[start + i]);
    for (int64_t r = 1; r < count; ++r) {
      const T* row = rows + r * n + start;
      for (int64_t i = 0; i < width; ++i) sums[i] += static_cast<Acc>(row[i]);
    }
    for (int64_t i = 0; i < width; ++i) out[start + i] = static_cast<T>(sums[i]);
  }
}

template <typename T>
T Larger(T a, T b) {  // a NaN wins, as in LibTorch
  if constexpr (!std::is_integral_v<T>) {
    if (std::isnan(static_cast<float>(a))) return a;
    if (std::isnan(static_cast<float>(b))) return b;
  }
  return a < b ? b : a;
}

template <typename T>
void MaxRows(const T* rows, T* out, int64_t count, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    T top = rows[i];
    for (int64_t r = 1; r < count; ++r) top = Larger(top, rows[r * n + i]);
    out[i] = top;
  }
}

template <typename T, typename Acc = T>
void Reduce(const void* rows, void* out, int64_t count, int64_t n, ReduceOp op) {
  if (op == ReduceOp::kSum) {
    SumRows<T, Acc>(static_cast<const T*>(rows), static_cast<T*>(out), count, n);
  } else {
    MaxRows<T>(static_cast<const T*>(rows), static_cast<T*>(out), count, n);
  }
}

}  // namespace

Result<ReduceOp> ParseReduceOp(std::string_view name) {
  if (name == "sum") return ReduceOp::kSum;
  if (name == "max") return ReduceOp::kMax;
  return Error{Code::kBadInput, fmt::format("\"{}\" is no reduction", name), "", "use sum or max"};
}

Status CheckReducible(c10::ScalarType type, ReduceOp op) {
  bool known = false;
  switch (type) {
    case c10::ScalarType::Float:
    case c10::ScalarType::Double:
    case c10::ScalarType::BFloat16:
    case c10::ScalarType::Half:
    case c10::ScalarType::Long:
    case c10::ScalarType::Int:
    case c10::ScalarType::Short:
    case c10::ScalarType::Char:
    case c10::ScalarType::Byte:
      known = true;
      break;
    case c10::ScalarType::Bool:
      known = op == ReduceOp::kMax;
      break;
    case c10::ScalarType::ComplexFloat:
    case c10::ScalarType::ComplexDouble:
      known = op == ReduceOp::kSum;
      break;
    default:
      break;
  }
  if (known) return Ok();
  return Error{Code::kUnsupported,
               fmt::format("no {} over ranks for elements of type {}", op == ReduceOp::kSum ? "sum" : "maximum",
                           c10::toString(type)),
               "", ""};
}

Status ReduceRows(const void* rows, void* out, int64_t count, int64_t n, c10::ScalarType type, ReduceOp op) {
  RETURN_IF_ERROR(CheckReducible(type, op));
  switch (type) {
    case c10::ScalarType::Float:
      Reduce<float>(rows, out, count, n, op);
      break;
    case c10::ScalarType::Double:
      Reduce<double>(rows, out, count, n, op);
      break;
    case c10::ScalarType::BFloat16:
      Reduce<c10::BFloat16, float>(rows, out, count, n, op);
      break;
    case c10::ScalarType::Half:
      Reduce<c10::Half, float>(rows, out, count, n, op);
      break;
    case c10::ScalarType::Long:
      Reduce<int64_t>(rows, out, count, n, op);
      break;
    case c10::ScalarType::Int:
      Reduce<int32_t>(rows, out, count, n, op);
      break;
    case c10::ScalarType::Short:
      Reduce<int16_t>(rows, out, count, n, op);
      break;
    case c10::ScalarType::Char:
      Reduce<int8_t>(rows, out, count, n, op);
      break;
    case c10::ScalarType::Byte:
      Reduce<uint8_t>(rows, out, count, n, op);
      break;
    case c10::ScalarType::Bool:
      Reduce<uint8_t>(rows, out, count, n, op);
      break;
    case c10::ScalarType::ComplexFloat:
      Reduce<float>(rows, out, count, 2 * n, op);
      break;
    case c10::ScalarType::ComplexDouble:
      Reduce<double>(rows, out, count, 2 * n, op);
      break;
    default:
      break;
  }
  return Ok();
}

}  // namespace autospc
