// The key-value store over which the ranks of a job exchange a few texts before they are connected: c10d's TCPStore,
// run by rank 0 or by torchrun's agent. It is of no use afterwards, so that its end is no failure.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/dist/environment.h"

namespace c10d {
class Store;
}

namespace autospc {

class JobStore {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  // Opens it where `environment` says, as its host if this is rank 0 and nobody else is. kPeerFailed: it was not
  // reached before the deadline. A rank that was started again leaves a store in which it has been before (its
  // launcher was quicker than rank 0's) and waits for the next one.
  static Result<JobStore> Open(const RankEnvironment& environment, Deadline deadline);

  JobStore(JobStore&& other) noexcept;
  ~JobStore();

  const c10::intrusive_ptr<c10d::Store>& store() const { return store_; }

  // Gives `mine` for this rank under `topic` and takes what every rank gave, by rank. kPeerFailed, naming them, where
  // ranks did not come before the deadline, where the store is gone, or where a rank has announced that it failed.
  Result<std::vector<std::string>> Share(const std::string& topic, const std::string& mine, Deadline deadline) const;
  // Waits until all ranks have taken what was shared under `topic`, two seconds at the most: before the host of the
  // store ends because of what it read there.
  void LetOthersRead(const std::string& topic) const;

 private:
  JobStore(const RankEnvironment& environment, c10::intrusive_ptr<c10d::Store> store);
  Status WaitFor(const std::vector<std::string>& keys, Deadline deadline) const;

  int rank_, size_;
  std::string where_;
  c10::intrusive_ptr<c10d::Store> store_;
};

// Tells the ranks that wait in the store that this one will not come, for they would wait long. Does its best within
// two seconds.
void AnnounceAbsence(const RankEnvironment& environment, const std::string& who, const Error& error);

}  // namespace autospc
