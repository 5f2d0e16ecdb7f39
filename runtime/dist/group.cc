#include "runtime/dist/group.h"

#include <algorithm>
#include <set>
#include <utility>

namespace autospc {
class GroupCommunicator : public Communicator {
 public:
  GroupCommunicator(Communicator* whole, int rank, std::vector<int> members)
      : Communicator(rank, static_cast<int>(members.size()), whole->device()), whole_(whole), members_(std::move(members)) {
    SetWhereabouts(whole->whereabouts_);
  }

  void Abort() override { whole_->Abort(); }
  Status Wait() override { return whole_->Wait(); }

 protected:
  Status Exchange(const Piece* pieces) override {
    std::vector<Piece> all(whole_->size());
    for (int r = 0; r < size(); ++r) all[members_[r]] = pieces[r];
    return whole_->Exchange(all.data());
  }
  Status Copy(void* to, const void* from, int64_t bytes) override { return whole_->Copy(to, from, bytes); }
  Status Reduce(const void* rows, void* out, int64_t count, int64_t n, c10::ScalarType type, ReduceOp op) override {
    return whole_->Reduce(rows, out, count, n, type, op);
  }
  Status Meet() override { return whole_->Meet(); }

 private:
  Communicator* whole_;
  std::vector<int> members_;
};

Result<std::unique_ptr<Communicator>> MakeGroup(Communicator* whole, const std::vector<int>& members) {
  const std::set<int> distinct(members.begin(), members.end());
  const auto mine = std::find(members.begin(), members.end(), whole->rank());
  if (distinct.size() != members.size() || mine == members.end() || *distinct.begin() < 0 ||
      *distinct.rbegin() >= whole->size()) {
    return Error{Code::kFailed,
                 fmt::format("rank {} of {} can't be in a group of {}", whole->rank(), whole->size(), members.size()), "",
                 "this is a bug"};
  }
  return std::unique_ptr<Communicator>(
      std::make_unique<GroupCommunicator>(whole, static_cast<int>(mine - members.begin()), members));
}

}  // namespace autospc
