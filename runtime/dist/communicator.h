// Collectives between the P ranks of a job. A transport brings Exchange (every rank sends bytes to and
// receives bytes from every other) and the collectives are made of it, so that sums are the same on every
// transport: a rank adds the addends in the order of ranks (float32 accumulators for 16-bit floats), and
// every rank gets the same bits.
//
// All ranks call the same collectives in the same order with the same sizes. Buffers are contiguous, in the
// memory of device(), owned by the caller. On the host a call returns when its buffers may be reused; on another
// device when its work is queued, before what the caller queues next on the current stream, and Wait() waits.
// Errors: kBadInput for arguments that don't fit, before anything is sent; kUnsupported for a reduction that
// there is not; kPeerFailed when a peer is gone, kTimeout, kInterrupted after Abort().
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "runtime/base/result.h"
#include "runtime/base/whereabouts.h"
#include "runtime/dist/reduce_rows.h"

namespace autospc {

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
  c10::Device device() const { return device_; }  // whose memory the buffers are in
  // Whether a collective is ordered by the stream that is current when it is called, so that those on a stream of their own
  // may run beside other work. False: all work of the device's ranks is on one stream.
  virtual bool follows_streams() const { return false; }

  // out [P * bytes]: block r is what rank r gave as `in` [bytes]. `in` may be out + rank * bytes, no other part of out.
  Status AllGather(const void* in, void* out, int64_t bytes);
  // out [P * bytes]: block r is rank r's block `rank` of `in` [P * bytes]. No overlap.
  Status AllToAll(const void* in, void* out, int64_t bytes);
  // x [n] elements of `type` become the sum or maximum over ranks. `staging` holds at least
  // MinStaging(type); n elements' bytes are enough for one round, with less it takes more.
  Status AllReduce(void* x, int64_t n, c10::ScalarType type, ReduceOp op, void* staging, int64_t staging_bytes);
  // out [n] elements: the sum or maximum over ranks r of block `rank` of r's `in` [P * n]. `staging` holds P * n
  // elements. `out` may lie in `in`, whose content is lost then; no other overlap.
  Status ReduceScatter(const void* in, void* out, int64_t n, c10::ScalarType type, ReduceOp op, void* staging,
                       int64_t staging_bytes);
  Status Broadcast(void* x, int64_t bytes, int root);
  // Returns when every rank has called it and this rank's earlier collectives are done.
  Status Barrier();
  // Returns when this rank's collectives up to here are done: at once on the host.
  virtual Status Wait() { return Ok(); }

  int64_t MinStaging(c10::ScalarType type) const;

  // Ends waiting calls of this rank and peers where the transport can; called from any thread.
  virtual void Abort() {}

  const std::map<std::string, Traffic>& traffic() const { return traffic_; }

  // Where it writes which collective this rank is in; one that fails stays written. nullptr: nowhere.
  void SetWhereabouts(Whereabouts* mine) { whereabouts_ = mine; }

 protected:
  Communicator(int rank, int size, c10::Device device = c10::Device(c10::DeviceType::CPU))
      : rank_(rank), size_(size), device_(device) {}

  // Sends send_bytes[r] bytes at sends[r] to rank r and receives into recvs[r]; its own entry is ignored,
  // and so are those of 0 bytes (0 on both sides).
  struct Piece {
    const void* send = nullptr;
    int64_t send_bytes = 0;
    void* recv = nullptr;
    int64_t recv_bytes = 0;
  };
  virtual Status Exchange(const Piece* pieces) = 0;  // [P]

  // Within this rank's memory; as they are here, the host's.
  virtual Status Copy(void* to, const void* from, int64_t bytes);
  virtual Status Reduce(const void* rows, void* out, int64_t count, int64_t n, c10::ScalarType type, ReduceOp op);

  // What a transport may do better than by sends and receives. Block rank() of `all` [P * bytes] is in place.
  virtual Status Gather(void* all, int64_t bytes);
  virtual Status Spread(void* x, int64_t bytes, int root);
  virtual Status Meet();

 private:
  friend class GroupCommunicator;  // group.cc: its transport is another's
  Status CheckReduction(const char* what, int64_t n, c10::ScalarType type, ReduceOp op) const;
  void Count(const char* what, int64_t bytes);
  // Runs `collective`, written in the whereabouts.
  template <typename Function>
  Status In(CollectiveKind kind, const Function& collective) {
    if (whereabouts_ == nullptr) return collective();
    whereabouts_->collective.store(static_cast<int32_t>(kind), std::memory_order_relaxed);
    Status status = collective();
    if (status.ok()) whereabouts_->collective.store(0, std::memory_order_relaxed);
    return status;
  }

  int rank_;
  int size_;
  c10::Device device_;
  Whereabouts* whereabouts_ = nullptr;
  std::map<std::string, Traffic> traffic_;
};

// One rank: every collective is a copy.
std::unique_ptr<Communicator> MakeSingleCommunicator();

}  // namespace autospc
