#include "passes/memory/arena.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace autospc::memory {
namespace {

// Range assign of maxima over time: how high the placed blocks reach at each instruction.
class Skyline {
 public:
  explicit Skyline(int length) {
    while (size_ < length) size_ *= 2;
    Clear();
  }

  void Clear() {
    highest_.assign(2 * size_, 0);
    floor_.assign(2 * size_, 0);
  }

  int64_t Max(int first, int last) const { return Max(1, 0, size_ - 1, first, last); }
  void Raise(int first, int last, int64_t height) { Raise(1, 0, size_ - 1, first, last, height); }

 private:
  int64_t Max(int node, int lo, int hi, int first, int last) const {
    if (last < lo || hi < first) return 0;
    if (first <= lo && hi <= last) return highest_[node];
    const int mid = (lo + hi) / 2;
    return std::max({floor_[node], Max(2 * node, lo, mid, first, last), Max(2 * node + 1, mid + 1, hi, first, last)});
  }

  void Raise(int node, int lo, int hi, int first, int last, int64_t height) {
    if (last < lo || hi < first) return;
    highest_[node] = std::max(highest_[node], height);
    if (first <= lo && hi <= last) {
      floor_[node] = std::max(floor_[node], height);
      return;
    }
    const int mid = (lo + hi) / 2;
    Raise(2 * node, lo, mid, first, last, height);
    Raise(2 * node + 1, mid + 1, hi, first, last, height);
  }

  int size_ = 1;
  std::vector<int64_t> highest_;  // the maximum anywhere below the node
  std::vector<int64_t> floor_;    // raised over the node's whole range
};

// The placed blocks that overlap a time range: blocks sorted by first instruction, and over them a tree of the
// latest end of a placed one.
class PlacedBlocks {
 public:
  explicit PlacedBlocks(const std::vector<Block>& blocks) : blocks_(blocks), by_first_(blocks.size()) {
    std::iota(by_first_.begin(), by_first_.end(), 0);
    std::stable_sort(by_first_.begin(), by_first_.end(),
                     [&](int a, int b) { return blocks[a].first < blocks[b].first; });
    position_.resize(blocks.size());
    for (size_t i = 0; i < by_first_.size(); ++i) {
      position_[by_first_[i]] = static_cast<int>(i);
      firsts_.push_back(blocks[by_first_[i]].first);
    }
    while (size_ < static_cast<int>(blocks.size())) size_ *= 2;
    Clear();
  }

  void Clear() { latest_.assign(2 * size_, -1); }

  void Add(int block) {
    for (int node = size_ + position_[block]; node >= 1; node /= 2) {
      latest_[node] = std::max(latest_[node], blocks_[block].last);
    }
  }

  template <typename Visit>
  void ForEachOverlapping(const Block& b, Visit visit) const {
    const int end = static_cast<int>(std::upper_bound(firsts_.begin(), firsts_.end(), b.last) - firsts_.begin());
    Walk(1, 0, size_, end, b.first, visit);
  }

 private:
  template <typename Visit>
  void Walk(int node, int lo, int hi, int end, int first, Visit& visit) const {
    if (lo >= end || latest_[node] < first) return;
    if (hi - lo == 1) {
      visit(by_first_[lo]);
      return;
    }
    const int mid = (lo + hi) / 2;
    Walk(2 * node, lo, mid, end, first, visit);
    Walk(2 * node + 1, mid, hi, end, first, visit);
  }

  const std::vector<Block>& blocks_;
  std::vector<int> by_first_;   // block by position
  std::vector<int> position_;   // by block
  std::vector<int> firsts_;     // by position
  int size_ = 1;
  std::vector<int> latest_;
};

class Packer {
 public:
  Packer(const std::vector<Block>& blocks, int64_t effort)
      : blocks_(blocks),
        bound_(MaxLiveBytes(blocks)),
        peak_time_(PeakTime(blocks, bound_)),
        effort_(effort),
        placed_(blocks),
        risen_(EndOf(blocks)),
        hung_(EndOf(blocks)) {}

  ArenaPlacement Run() {
    best_.peak = std::numeric_limits<int64_t>::max();
    std::vector<std::vector<int>> orders = Orders();
    std::vector<int> best_order;
    bool best_two_ended = false;
    for (std::vector<int>& order : orders) {
      for (const bool two_ended : {true, false}) {
        two_ended_ = two_ended;
        if (Try(order)) {
          best_order = order;
          best_two_ended = two_ended;
        }
        if (GoodEnough() || spent_ > effort_) return std::move(best_);
      }
    }
    two_ended_ = best_two_ended;
    Improve(std::move(best_order));
    return std::move(best_);
  }

 private:
  static int EndOf(const std::vector<Block>& blocks) {
    int end = 1;
    for (const Block& b : blocks) end = std::max(end, b.last + 1);
    return end;
  }

  // The first instruction at which `most` bytes are alive.
  static int PeakTime(const std::vector<Block>& blocks, int64_t most) {
    std::vector<int64_t> change(EndOf(blocks) + 1, 0);
    for (const Block& b : blocks) {
      change[b.first] += b.bytes;
      change[b.last + 1] -= b.bytes;
    }
    int64_t live = 0;
    for (size_t t = 0; t < change.size(); ++t) {
      if ((live += change[t]) >= most) return static_cast<int>(t);
    }
    return 0;
  }

  // Ties fall to the longer-lived, then the earlier block, so that an order is a function of the problem.
  std::vector<std::vector<int>> Orders() const {
    std::vector<int> all;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      if (blocks_[i].bytes > 0) all.push_back(static_cast<int>(i));
    }
    auto length = [](const Block& b) { return static_cast<int64_t>(b.last) - b.first + 1; };
    auto sorted = [&](auto key) {
      std::vector<int> order = all;
      std::stable_sort(order.begin(), order.end(),
                       [&](int a, int b) { return key(blocks_[a]) > key(blocks_[b]); });
      return order;
    };
    using Key = std::pair<double, double>;
    return {
        sorted([&](const Block& b) { return Key(length(b), b.bytes); }),
        sorted([&](const Block& b) { return Key(static_cast<double>(b.bytes) * length(b), length(b)); }),
        sorted([&](const Block& b) { return Key(b.bytes, length(b)); }),
        sorted([&](const Block& b) { return Key(-b.first, length(b)); }),
        sorted([&](const Block& b) { return Key(-b.last, length(b)); }),
        sorted([&](const Block& b) { return Key(b.last, length(b)); }),
    };
  }

  // The last half per thousand is worth no search.
  bool GoodEnough() const { return best_.peak <= bound_ + bound_ / 2000; }

  // Places all blocks in `order`; whether it is the best so far. Gives up once it cannot be.
  bool Try(const std::vector<int>& order) {
    placed_.Clear();
    risen_.Clear();
    hung_.Clear();
    offsets_.assign(blocks_.size(), 0);
    spent_ += static_cast<int64_t>(order.size());  // an order without gap searches costs too
    int64_t peak = 0;
    for (int i : order) {
      const Block& b = blocks_[i];
      // What is alive at the peak and before it is stacked from below, and its top is free again afterwards: what
      // comes then hangs from above, so that the free space stays in one piece.
      const bool hangs = two_ended_ && b.first > peak_time_;
      const int64_t offset = FindOffset(b, std::max(peak, bound_), hangs);
      offsets_[i] = offset;
      peak = std::max(peak, offset + b.bytes);
      if (peak >= best_.peak) {
        blocker_ = i;
        return false;
      }
      placed_.Add(i);
      if (hangs && offset + b.bytes <= bound_) {
        hung_.Raise(b.first, b.last, bound_ - offset);
      } else {
        risen_.Raise(b.first, b.last, offset + b.bytes);
      }
    }
    best_ = {offsets_, peak};
    return true;
  }

  // On top of what is stacked beside it, or below what hangs there, where the two don't meet: cheap to know. Else
  // the tightest gap, else the top.
  int64_t FindOffset(const Block& b, int64_t target, bool hangs) {
    const int64_t top = risen_.Max(b.first, b.last), hung = hung_.Max(b.first, b.last);
    const int64_t ceiling = hung == 0 ? (hangs ? bound_ : target) : bound_ - hung;
    if (top + b.bytes <= ceiling) return hangs ? ceiling - b.bytes : top;
    neighbours_.clear();
    placed_.ForEachOverlapping(
        b, [&](int other) { neighbours_.emplace_back(offsets_[other], offsets_[other] + blocks_[other].bytes); });
    spent_ += static_cast<int64_t>(neighbours_.size());
    std::sort(neighbours_.begin(), neighbours_.end());
    neighbours_.emplace_back(std::max(target, neighbours_.empty() ? 0 : neighbours_.back().second), 0);
    int64_t end = 0, best_offset = -1, best_gap = std::numeric_limits<int64_t>::max();
    for (const auto& [from, to] : neighbours_) {
      const int64_t gap = from - end;
      if (gap >= b.bytes && gap < best_gap) {
        best_gap = gap;
        best_offset = hangs ? from - b.bytes : end;
      }
      end = std::max(end, to);
    }
    return best_offset >= 0 ? best_offset : end;
  }

  // Again and again: the block that reached the best peak goes to the front of the order.
  void Improve(std::vector<int> order) {
    blocker_ = HighestBlock();
    while (spent_ <= effort_ && !GoodEnough()) {
      const auto at = std::find(order.begin(), order.end(), blocker_);
      if (at == order.end()) return;
      std::rotate(order.begin(), at, at + 1);
      if (Try(order)) blocker_ = HighestBlock();
    }
  }

  int HighestBlock() const {
    for (size_t b = 0; b < blocks_.size(); ++b) {
      if (blocks_[b].bytes > 0 && best_.offsets[b] + blocks_[b].bytes == best_.peak) return static_cast<int>(b);
    }
    return -1;
  }

  const std::vector<Block>& blocks_;
  const int64_t bound_;
  const int peak_time_;
  const int64_t effort_;
  bool two_ended_ = false;
  int64_t spent_ = 0;
  int blocker_ = -1;
  PlacedBlocks placed_;
  Skyline risen_;  // tops of what is stacked
  Skyline hung_;   // depths below bound_ of what hangs
  std::vector<int64_t> offsets_;
  std::vector<std::pair<int64_t, int64_t>> neighbours_;
  ArenaPlacement best_;
};

}  // namespace

int64_t MaxLiveBytes(const std::vector<Block>& blocks) {
  int end = 0;
  for (const Block& b : blocks) end = std::max(end, b.last + 1);
  std::vector<int64_t> change(end + 1, 0);
  for (const Block& b : blocks) {
    change[b.first] += b.bytes;
    change[b.last + 1] -= b.bytes;
  }
  int64_t live = 0, most = 0;
  for (int64_t c : change) most = std::max(most, live += c);
  return most;
}

ArenaPlacement PackArena(const std::vector<Block>& blocks, int64_t effort) {
  if (blocks.empty()) return {};
  ArenaPlacement placement = Packer(blocks, effort).Run();
  if (placement.offsets.empty()) placement = {std::vector<int64_t>(blocks.size(), 0), 0};
  return placement;
}

}  // namespace autospc::memory
