// A stream's one reader: what rank 0 takes, every rank has; what goes wrong there goes wrong everywhere.
#include "runtime/train/shared_batches.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "runtime/dist/in_process.h"

namespace autospc::train {
namespace {

using data::BatchInfo;
using data::InputView;

// Two batches of increasing numbers, then `end` or a mistake.
class Numbers : public data::BatchSource {
 public:
  explicit Numbers(bool fails) : fails_(fails) {}
  Result<BatchInfo> Next(const std::vector<InputView>& inputs) override {
    BatchInfo info;
    if (position_.sample == 2) {
      if (fails_) return Error{Code::kBadInput, "a token is 70", "standard input", "which tokenizer?"};
      info.end = true;
      return info;
    }
    for (const InputView& input : inputs) {
      EXPECT_EQ(input.slice.begin, 0);  // the others read other parts
      for (int64_t i = 0; i < 4; ++i) static_cast<int64_t*>(input.data)[i] = 10 * position_.sample + i;
    }
    info.tokens = 3 + position_.sample++;
    return info;
  }
  data::DataPosition position() const override { return position_; }
  Status Seek(const data::DataPosition& position) override {
    position_ = position;
    return Ok();
  }

 private:
  bool fails_;
  data::DataPosition position_;
};

struct Seen {
  std::array<int64_t, 4> first{}, second{};
  int64_t tokens = 0, position = 0;
  bool end = false;
  std::optional<Error> error;
};

std::array<Seen, 3> OnThreeRanks(bool fails) {
  auto communicators = MakeInProcessCommunicators(3);
  std::array<Seen, 3> seen;
  std::vector<std::thread> threads;
  for (int r = 0; r < 3; ++r) {
    threads.emplace_back([&, r] {
      SharedBatches shared(r == 0 ? std::make_unique<Numbers>(fails) : nullptr, communicators[r].get());
      std::array<int64_t, 4> place{};
      InputView view{"ids", program::DType::Int64, {1, 4}, 1, place.data(), {}};
      view.slice.begin = r;
      for (std::array<int64_t, 4>* batch : {&seen[r].first, &seen[r].second}) {
        const Result<BatchInfo> info = shared.Next({view});
        if (!info.ok()) return;
        seen[r].tokens += info->tokens;
        *batch = place;
      }
      seen[r].position = shared.position().sample;
      const Result<BatchInfo> last = shared.Next({view});
      if (last.ok()) {
        seen[r].end = last->end;
      } else {
        seen[r].error = last.error();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  return seen;
}

TEST(SharedBatchesTest, EveryRankHasWhatRankZeroTook) {
  for (const Seen& seen : OnThreeRanks(/*fails=*/false)) {
    EXPECT_EQ(seen.first, (std::array<int64_t, 4>{0, 1, 2, 3}));
    EXPECT_EQ(seen.second, (std::array<int64_t, 4>{10, 11, 12, 13}));
    EXPECT_EQ(seen.tokens, 7);
    EXPECT_EQ(seen.position, 2);
    EXPECT_TRUE(seen.end);
    EXPECT_FALSE(seen.error);
  }
}

TEST(SharedBatchesTest, AMistakeIsEverybodys) {
  for (const Seen& seen : OnThreeRanks(/*fails=*/true)) {
    ASSERT_TRUE(seen.error);
    EXPECT_EQ(seen.error->code, Code::kBadInput);
    EXPECT_EQ(seen.error->what, "a token is 70");
    EXPECT_EQ(seen.error->where, "standard input");
    EXPECT_EQ(seen.error->hint, "which tokenizer?");
  }
}

}  // namespace
}  // namespace autospc::train
