#include "runtime/dist/communicator.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

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

class SingleCommunicator : public Communicator {
 public:
  SingleCommunicator() : Communicator(0, 1) {}

 protected:
  Status Exchange(const Piece*) override { return Ok(); }
};

char* At(void* base, int64_t offset) { return static_cast<char*>(base) + offset; }
const char* At(const void* base, int64_t offset) { return static_cast<const char*>(base) + offset; }

}  // namespace

Result<ReduceOp> ParseReduceOp(std::string_view name) {
  if (name == "sum") return ReduceOp::kSum;
  if (name == "max") return ReduceOp::kMax;
  return Error{Code::kBadInput, fmt::format("\"{}\" is no reduction", name), "", "use sum or max"};
}

Status ReduceRows(const void* rows, void* out, int64_t count, int64_t n, c10::ScalarType type, ReduceOp op) {
  switch (type) {
    case c10::ScalarType::Float:
      Reduce<float>(rows, out, count, n, op);
      return Ok();
    case c10::ScalarType::Double:
      Reduce<double>(rows, out, count, n, op);
      return Ok();
    case c10::ScalarType::BFloat16:
      Reduce<c10::BFloat16, float>(rows, out, count, n, op);
      return Ok();
    case c10::ScalarType::Half:
      Reduce<c10::Half, float>(rows, out, count, n, op);
      return Ok();
    case c10::ScalarType::Long:
      Reduce<int64_t>(rows, out, count, n, op);
      return Ok();
    case c10::ScalarType::Int:
      Reduce<int32_t>(rows, out, count, n, op);
      return Ok();
    case c10::ScalarType::Short:
      Reduce<int16_t>(rows, out, count, n, op);
      return Ok();
    case c10::ScalarType::Char:
      Reduce<int8_t>(rows, out, count, n, op);
      return Ok();
    case c10::ScalarType::Byte:
      Reduce<uint8_t>(rows, out, count, n, op);
      return Ok();
    case c10::ScalarType::Bool:
      if (op == ReduceOp::kMax) {
        Reduce<uint8_t>(rows, out, count, n, op);
        return Ok();
      }
      break;
    case c10::ScalarType::ComplexFloat:
      if (op == ReduceOp::kSum) {
        Reduce<float>(rows, out, count, 2 * n, op);
        return Ok();
      }
      break;
    case c10::ScalarType::ComplexDouble:
      if (op == ReduceOp::kSum) {
        Reduce<double>(rows, out, count, 2 * n, op);
        return Ok();
      }
      break;
    default:
      break;
  }
  return Error{Code::kUnsupported,
               fmt::format("no {} over ranks for elements of type {}", op == ReduceOp::kSum ? "sum" : "maximum",
                           c10::toString(type)),
               "", ""};
}

std::unique_ptr<Communicator> MakeSingleCommunicator() { return std::make_unique<SingleCommunicator>(); }

void Communicator::Count(const char* what, int64_t bytes) {
  Traffic& t = traffic_[what];
  ++t.calls;
  t.bytes += bytes;
}

Status Communicator::AllGather(const void* in, void* out, int64_t bytes) {
  Count("all_gather", (size_ - 1) * bytes);
  std::vector<Piece> pieces(size_);
  for (int r = 0; r < size_; ++r) pieces[r] = {in, bytes, At(out, r * bytes), bytes};
  char* mine = At(out, rank_ * bytes);
  if (mine != in && bytes > 0) std::memcpy(mine, in, bytes);
  return Exchange(pieces.data());
}

Status Communicator::AllToAll(const void* in, void* out, int64_t bytes) {
  Count("all_to_all", (size_ - 1) * bytes);
  std::vector<Piece> pieces(size_);
  for (int r = 0; r < size_; ++r) pieces[r] = {At(in, r * bytes), bytes, At(out, r * bytes), bytes};
  if (bytes > 0) std::memcpy(At(out, rank_ * bytes), At(in, rank_ * bytes), bytes);
  return Exchange(pieces.data());
}

int64_t Communicator::MinStaging(c10::ScalarType type) const {
  return int64_t{size_} * size_ * static_cast<int64_t>(c10::elementSize(type));
}

Status Communicator::AllReduce(void* x, int64_t n, c10::ScalarType type, ReduceOp op, void* staging,
                               int64_t staging_bytes) {
  if (size_ == 1 || n == 0) return Ok();
  const int64_t element = static_cast<int64_t>(c10::elementSize(type));
  constexpr int64_t kSmall = 16 << 10;  // one round trip costs more than these bytes
  // Few elements: everyone gets all addends. Many: each rank adds up its share of a segment, then all
  // gather the sums. A segment's received addends fill the staging once.
  int64_t done = 0;
  const bool small = n * element * size_ <= std::min(kSmall, staging_bytes);
  while (!small && n - done >= size_) {
    const int64_t share = std::min((n - done) / size_, staging_bytes / (size_ * element));
    char* segment = At(x, done * element);
    std::vector<Piece> pieces(size_);
    for (int r = 0; r < size_; ++r) {
      pieces[r] = {segment + r * share * element, share * element, At(staging, r * share * element), share * element};
    }
    char* mine = segment + rank_ * share * element;
    std::memcpy(At(staging, rank_ * share * element), mine, share * element);
    Count("all_reduce", 2 * (size_ - 1) * share * element);
    RETURN_IF_ERROR(Exchange(pieces.data()));
    RETURN_IF_ERROR(ReduceRows(staging, mine, size_, share, type, op));
    for (int r = 0; r < size_; ++r) {
      pieces[r] = {mine, share * element, segment + r * share * element, share * element};
    }
    RETURN_IF_ERROR(Exchange(pieces.data()));
    done += size_ * share;
  }
  const int64_t rest = n - done;
  if (rest == 0) return Ok();
  char* tail = At(x, done * element);
  std::vector<Piece> pieces(size_);
  for (int r = 0; r < size_; ++r) pieces[r] = {tail, rest * element, At(staging, r * rest * element), rest * element};
  std::memcpy(At(staging, rank_ * rest * element), tail, rest * element);
  Count("all_reduce", (size_ - 1) * rest * element);
  RETURN_IF_ERROR(Exchange(pieces.data()));
  return ReduceRows(staging, tail, size_, rest, type, op);
}

Status Communicator::Broadcast(void* x, int64_t bytes, int root) {
  std::vector<Piece> pieces(size_);
  if (rank_ == root) {
    Count("broadcast", (size_ - 1) * bytes);
    for (int r = 0; r < size_; ++r) pieces[r] = {x, bytes, nullptr, 0};
  } else {
    pieces[root] = {nullptr, 0, x, bytes};
  }
  return Exchange(pieces.data());
}

Status Communicator::Barrier() {
  uint8_t in = 1;
  std::vector<uint8_t> out(size_);
  std::vector<Piece> pieces(size_);
  for (int r = 0; r < size_; ++r) pieces[r] = {&in, 1, &out[r], 1};
  return Exchange(pieces.data());
}

}  // namespace autospc
