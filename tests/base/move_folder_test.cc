#include "runtime/base/move_folder.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/package/temp_folder.h"

namespace autospc {
namespace {

namespace fs = std::filesystem;

TEST(MoveFolder, ToAFreeNameOrInPlaceOfAnother) {
  TempFolder folder;
  const auto make = [&](const char* content) {
    fs::create_directory(folder / "new");
    Spill(folder / "new/file", content);
  };
  make("one");
  ASSERT_TRUE(MoveFolder(folder / "new", folder / "target", false).ok());
  EXPECT_EQ(Slurp(folder / "target/file"), "one");
  make("two");
  const Status refused = MoveFolder(folder / "new", folder / "target", false);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kUsage);
  EXPECT_EQ(Slurp(folder / "target/file"), "one");
  ASSERT_TRUE(MoveFolder(folder / "new", folder / "target", true).ok());
  EXPECT_EQ(Slurp(folder / "target/file"), "two");
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"target"});
  const Status nothing = MoveFolder(folder / "new", folder / "other", true);
  ASSERT_FALSE(nothing.ok());
  EXPECT_EQ(nothing.error().code, Code::kFailed);
  EXPECT_NE(nothing.error().what.find("No such file"), std::string::npos);
}

}  // namespace
}  // namespace autospc
