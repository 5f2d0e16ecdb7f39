// Collectives between the P ranks of a job. A transport brings Exchange (every rank sends bytes to and
// receives bytes from every other) and the collectives are made of it, so that sums are the same on every
// transport: a rank adds the addends in the order of ranks (float32 accumulators for 16-bit floats), and
// every rank gets the same bits.
//
// All ranks call the same collectives in the same order with the same sizes. Buffers are contiguous, in
// host memory, owned by the caller. A call returns when its buffers may be reused. Errors: kPeerFailed when
// a peer is gone, kTimeout, kInterrupted after Abort().
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "runtime/base/result.h"

namespace autospc {

enum class ReduceOp : uint8_t { kSum, kMax };

Result<ReduceOp> ParseReduceOp(std::string_view name);  // "sum", "max"

// What one rank has sent, by collective.
struct Traffic {
  int64_t calls = 0;
  int64_t bytes = 0;  // to other ranks
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  // out [P * bytes]: block r is what rank r gave as `in` [bytes]. `in` may be out + rank * bytes.
  Status AllGather(const void* in, void* out, int64_t bytes);
  // out [P * bytes]: block r is rank r's block `rank` of `in` [P * bytes]. No overlap.
  Status AllToAll(const void* in, void* out, int64_t bytes);
  // x [n] elements of `type` become the sum or maximum over ranks. `staging` holds at least
  // MinStaging(type); n elements' bytes are enough for one round, with less it takes more.
  Status AllReduce(void* x, int64_t n, c10::ScalarType type, ReduceOp op, void* staging, int64_t staging_bytes);
  Status Broadcast(void* x, int64_t bytes, int root);
  Status Barrier();

  int64_t MinStaging(c10::ScalarType type) const;

  // Ends waiting calls of this rank and peers where the transport can; called from any thread.
  virtual void Abort() {}

  const std::map<std::string, Traffic>& traffic() const { return traffic_; }

 protected:
  Communicator(int rank, int size) : rank_(rank), size_(size) {}

  // Sends send_bytes[r] bytes at sends[r] to rank r and receives into recvs[r]; its own entry is ignored,
  // and so are those of 0 bytes (0 on both sides).
  struct Piece {
    const void* send = nullptr;
    int64_t send_bytes = 0;
    void* recv = nullptr;
    int64_t recv_bytes = 0;
  };
  virtual Status Exchange(const Piece* pieces) = 0;  // [P]

 private:
  void Count(const char* what, int64_t bytes);

  int rank_;
  int size_;
  std::map<std::string, Traffic> traffic_;
};

// out [n] = rows [P, n] combined in the order of rows. Sums of float16 and bfloat16 accumulate in float32. Bool
// takes max alone. `out` must not overlap rows.
Status ReduceRows(const void* rows, void* out, int64_t count, int64_t n, c10::ScalarType type, ReduceOp op);

// One rank: every collective is a copy.
std::unique_ptr<Communicator> MakeSingleCommunicator();

}  // namespace autospc
