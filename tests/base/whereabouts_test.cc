// Where a rank is, in words and over the page that its launcher shares.
#include "runtime/base/whereabouts.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

namespace autospc {
namespace {

TEST(WhereaboutsTest, Words) {
  Place place;
  EXPECT_EQ(Describe(place, ""), "starting");
  place.activity = Activity::kStepping;
  EXPECT_EQ(Describe(place, ""), "between two steps");
  place.step = 12;
  EXPECT_EQ(Describe(place, ""), "step 12");
  place.instruction = 41;
  place.collective = CollectiveKind::kAllToAll;
  EXPECT_EQ(Describe(place, ""), "step 12, instruction 41, in all-to-all");
  EXPECT_EQ(Describe(place, "instruction 41 of 90 (autosp.all_to_all), from m.py:3"),
            "step 12, instruction 41 of 90 (autosp.all_to_all), from m.py:3, in all-to-all");
  EXPECT_EQ(Describe({Activity::kSaving, CollectiveKind::kBarrier, 30, -1}, ""),
            "writing a checkpoint, step 30, in barrier");
}

// A child that was started with the page's descriptor writes what its parent reads, also after its death.
TEST(WhereaboutsTest, TheLauncherReadsWhatTheRankWrote) {
  auto shared = SharedWhereabouts::Create();
  ASSERT_TRUE(shared.ok()) << shared.error().Format();
  const pid_t child = fork();
  if (child == 0) {
    setenv("AUTOSP_WHEREABOUTS_FD", std::to_string(shared->fd()).c_str(), 1);
    MyWhereabouts().Set(Activity::kLoading);
    MyWhereabouts().step = 7;
    MyWhereabouts().instruction = 3;
    MyWhereabouts().beats = 5;
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  const Place place = (*shared)->Read();
  EXPECT_EQ(place.activity, Activity::kLoading);
  EXPECT_EQ(place.step, 7);
  EXPECT_EQ(place.instruction, 3);
  EXPECT_EQ((*shared)->beats.load(), 5);
}

TEST(WhereaboutsTest, ADescriptorOfSomethingElseIsNotTaken) {
  const pid_t child = fork();
  if (child == 0) {
    const int fd = open("/dev/zero", O_RDWR);
    setenv("AUTOSP_WHEREABOUTS_FD", std::to_string(fd).c_str(), 1);
    MyWhereabouts().step = 7;
    _exit(MyWhereabouts().Read().step == 7 && fcntl(fd, F_GETFD) >= 0 ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(WhereaboutsTest, NonsenseOnThePageIsBounded) {
  Whereabouts page;
  page.activity = 99;
  page.collective = -5;
  EXPECT_EQ(page.Read().activity, Activity::kEnding);
  EXPECT_EQ(page.Read().collective, CollectiveKind::kNone);
}

}  // namespace
}  // namespace autospc
