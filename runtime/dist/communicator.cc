#include "runtime/dist/communicator.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

namespace autospc {
namespace {

class SingleCommunicator : public Communicator {
 public:
  SingleCommunicator() : Communicator(0, 1) {}

 protected:
  Status Exchange(const Piece*) override { return Ok(); }
};

char* At(void* base, int64_t offset) { return static_cast<char*>(base) + offset; }
const char* At(const void* base, int64_t offset) { return static_cast<const char*>(base) + offset; }

Error Misfit(const char* what, const std::string& why) {
  return Error{Code::kBadInput, fmt::format("{}: {}", what, why), "", "compile the model again"};
}

// `count` blocks of `bytes` each at `data`.
Status CheckBuffer(const char* what, const char* name, const void* data, int64_t bytes, int64_t count) {
  if (bytes < 0 || bytes > std::numeric_limits<int64_t>::max() / std::max<int64_t>(count, 1)) {
    return Misfit(what, fmt::format("{} has {} times {} bytes", name, count, bytes));
  }
  if (data == nullptr && bytes > 0) return Misfit(what, fmt::format("{} has no memory", name));
  return Ok();
}

Status CheckApart(const char* what, const void* a, int64_t a_bytes, const void* b, int64_t b_bytes) {
  const auto from = reinterpret_cast<uintptr_t>(a), other = reinterpret_cast<uintptr_t>(b);
  const bool apart = a_bytes == 0 || b_bytes == 0 || from + static_cast<uintptr_t>(a_bytes) <= other ||
                     other + static_cast<uintptr_t>(b_bytes) <= from;
  if (apart) return Ok();
  return Misfit(what, "its buffers overlap");
}

}  // namespace

std::unique_ptr<Communicator> MakeSingleCommunicator() { return std::make_unique<SingleCommunicator>(); }

void Communicator::Count(const char* what, int64_t bytes) {
  Traffic& t = traffic_[what];
  ++t.calls;
  t.bytes += bytes;
}

Status Communicator::Copy(void* to, const void* from, int64_t bytes) {
  std::memcpy(to, from, static_cast<size_t>(bytes));
  return Ok();
}

Status Communicator::Reduce(const void* rows, void* out, int64_t count, int64_t n, c10::ScalarType type, ReduceOp op) {
  return ReduceRows(rows, out, count, n, type, op);
}

Status Communicator::Gather(void* all, int64_t bytes) {
  std::vector<Piece> pieces(size_);
  for (int r = 0; r < size_; ++r) pieces[r] = {At(all, rank_ * bytes), bytes, At(all, r * bytes), bytes};
  return Exchange(pieces.data());
}

Status Communicator::Spread(void* x, int64_t bytes, int root) {
  std::vector<Piece> pieces(size_);
  if (rank_ == root) {
    for (int r = 0; r < size_; ++r) pieces[r] = {x, bytes, nullptr, 0};
  } else {
    pieces[root] = {nullptr, 0, x, bytes};
  }
  return Exchange(pieces.data());
}

Status Communicator::Meet() {
  std::vector<uint8_t> here(size_, 1);
  return Gather(here.data(), 1);
}

Status Communicator::AllGather(const void* in, void* out, int64_t bytes) {
  RETURN_IF_ERROR(CheckBuffer("all_gather", "its input", in, bytes, 1));
  RETURN_IF_ERROR(CheckBuffer("all_gather", "its output", out, bytes, size_));
  char* mine = At(out, rank_ * bytes);
  if (mine != in && bytes > 0) {
    RETURN_IF_ERROR(CheckApart("all_gather", in, bytes, out, size_ * bytes));
    RETURN_IF_ERROR(Copy(mine, in, bytes));
  }
  Count("all_gather", (size_ - 1) * bytes);
  return In(CollectiveKind::kAllGather, [&] { return Gather(out, bytes); });
}

Status Communicator::AllToAll(const void* in, void* out, int64_t bytes) {
  RETURN_IF_ERROR(CheckBuffer("all_to_all", "its input", in, bytes, size_));
  RETURN_IF_ERROR(CheckBuffer("all_to_all", "its output", out, bytes, size_));
  RETURN_IF_ERROR(CheckApart("all_to_all", in, size_ * bytes, out, size_ * bytes));
  Count("all_to_all", (size_ - 1) * bytes);
  std::vector<Piece> pieces(size_);
  for (int r = 0; r < size_; ++r) pieces[r] = {At(in, r * bytes), bytes, At(out, r * bytes), bytes};
  if (bytes > 0) RETURN_IF_ERROR(Copy(At(out, rank_ * bytes), At(in, rank_ * bytes), bytes));
  return In(CollectiveKind::kAllToAll, [&] { return Exchange(pieces.data()); });
}

int64_t Communicator::MinStaging(c10::ScalarType type) const {
  return int64_t{size_} * size_ * static_cast<int64_t>(c10::elementSize(type));
}

Status Communicator::CheckReduction(const char* what, int64_t n, c10::ScalarType type, ReduceOp op) const {
  RETURN_IF_ERROR(CheckReducible(type, op));
  const auto element = static_cast<int64_t>(c10::elementSize(type));
  if (n >= 0 && n <= std::numeric_limits<int64_t>::max() / element / size_) return Ok();
  return Misfit(what, fmt::format("{} elements of {} on {} ranks", n, c10::toString(type), size_));
}

Status Communicator::AllReduce(void* x, int64_t n, c10::ScalarType type, ReduceOp op, void* staging,
                               int64_t staging_bytes) {
  RETURN_IF_ERROR(CheckReduction("all_reduce", n, type, op));
  const int64_t element = static_cast<int64_t>(c10::elementSize(type));
  RETURN_IF_ERROR(CheckBuffer("all_reduce", "its tensor", x, n * element, 1));
  if (size_ == 1 || n == 0) return Ok();
  RETURN_IF_ERROR(CheckBuffer("all_reduce", "its staging", staging, staging_bytes, 1));
  if (staging_bytes < MinStaging(type)) {
    return Misfit("all_reduce",
                  fmt::format("{} bytes of staging where {} are needed", staging_bytes, MinStaging(type)));
  }
  RETURN_IF_ERROR(CheckApart("all_reduce", x, n * element, staging, staging_bytes));
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
    RETURN_IF_ERROR(Copy(At(staging, rank_ * share * element), mine, share * element));
    Count("all_reduce", 2 * (size_ - 1) * share * element);
    RETURN_IF_ERROR(In(CollectiveKind::kAllReduce, [&] { return Exchange(pieces.data()); }));
    RETURN_IF_ERROR(Reduce(staging, mine, size_, share, type, op));
    RETURN_IF_ERROR(In(CollectiveKind::kAllReduce, [&] { return Gather(segment, share * element); }));
    done += size_ * share;
  }
  const int64_t rest = n - done;
  if (rest == 0) return Ok();
  char* tail = At(x, done * element);
  RETURN_IF_ERROR(Copy(At(staging, rank_ * rest * element), tail, rest * element));
  Count("all_reduce", (size_ - 1) * rest * element);
  RETURN_IF_ERROR(In(CollectiveKind::kAllReduce, [&] { return Gather(staging, rest * element); }));
  return Reduce(staging, tail, size_, rest, type, op);
}

Status Communicator::ReduceScatter(const void* in, void* out, int64_t n, c10::ScalarType type, ReduceOp op,
                                   void* staging, int64_t staging_bytes) {
  RETURN_IF_ERROR(CheckReduction("reduce_scatter", n, type, op));
  const int64_t bytes = n * static_cast<int64_t>(c10::elementSize(type));
  RETURN_IF_ERROR(CheckBuffer("reduce_scatter", "its input", in, bytes, size_));
  RETURN_IF_ERROR(CheckBuffer("reduce_scatter", "its output", out, bytes, 1));
  RETURN_IF_ERROR(CheckBuffer("reduce_scatter", "its staging", staging, staging_bytes, 1));
  if (staging_bytes < size_ * bytes) {
    return Misfit("reduce_scatter",
                  fmt::format("{} bytes of staging where {} are needed", staging_bytes, size_ * bytes));
  }
  RETURN_IF_ERROR(CheckApart("reduce_scatter", in, size_ * bytes, staging, staging_bytes));
  RETURN_IF_ERROR(CheckApart("reduce_scatter", out, bytes, staging, staging_bytes));
  if (bytes == 0) return Ok();
  Count("reduce_scatter", (size_ - 1) * bytes);
  std::vector<Piece> pieces(size_);
  for (int r = 0; r < size_; ++r) pieces[r] = {At(in, r * bytes), bytes, At(staging, r * bytes), bytes};
  RETURN_IF_ERROR(Copy(At(staging, rank_ * bytes), At(in, rank_ * bytes), bytes));
  RETURN_IF_ERROR(In(CollectiveKind::kReduceScatter, [&] { return Exchange(pieces.data()); }));
  return Reduce(staging, out, size_, n, type, op);
}

Status Communicator::Broadcast(void* x, int64_t bytes, int root) {
  RETURN_IF_ERROR(CheckBuffer("broadcast", "its tensor", x, bytes, size_));
  if (root < 0 || root >= size_) return Misfit("broadcast", fmt::format("from rank {} of {}", root, size_));
  if (rank_ == root) Count("broadcast", (size_ - 1) * bytes);
  return In(CollectiveKind::kBroadcast, [&] { return Spread(x, bytes, root); });
}

Status Communicator::Barrier() {
  return In(CollectiveKind::kBarrier, [&] { return Meet(); });
}

}  // namespace autospc
