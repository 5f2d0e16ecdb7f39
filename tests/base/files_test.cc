#include "runtime/base/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "tests/package/temp_folder.h"

namespace autospc {
namespace {

namespace fs = std::filesystem;

TEST(Files, ReadsWholeFilesUpToALimit) {
  TempFolder folder;
  Spill(folder / "f", "12345");
  EXPECT_EQ(*ReadFile(folder / "f", 5), "12345");
  auto longer = ReadFile(folder / "f", 4);
  ASSERT_FALSE(longer.ok());
  EXPECT_EQ(longer.error().code, Code::kBadInput);
  EXPECT_NE(longer.error().what.find("5 bytes, at most 4"), std::string::npos);
  EXPECT_EQ(longer.error().where, folder / "f");
  EXPECT_EQ(ReadFile(folder / "absent", 9).error().code, Code::kBadInput);
  EXPECT_NE(ReadFile(folder / ".", 9).error().what.find("folder"), std::string::npos);
  // A pipe without writer must not be waited for.
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_NE(ReadFile(folder / "pipe", 9).error().what.find("not a regular file"), std::string::npos);
}

TEST(Files, Maps) {
  TempFolder folder;
  Spill(folder / "f", "mapped");
  Spill(folder / "empty", "");
  auto file = MappedFile::Open(folder / "f");
  ASSERT_TRUE(file.ok());
  const std::byte* data = file->data();
  const MappedFile moved = std::move(file).value();
  EXPECT_EQ(moved.data(), data);
  EXPECT_EQ(moved.text(), "mapped");
  EXPECT_EQ(MappedFile::Open(folder / "empty")->size(), 0);
  EXPECT_FALSE(MappedFile::Open(folder / "absent").ok());
}

TEST(Files, WritesUnderATemporaryName) {
  TempFolder folder;
  Spill(folder / "f", "old");
  {
    auto writer = FileWriter::Create(folder / "f");
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->Write("new", 3).ok());
    EXPECT_EQ(Slurp(folder / "f"), "old");
    EXPECT_EQ(folder.Names().size(), 2u);
  }
  EXPECT_EQ(Slurp(folder / "f"), "old") << "not committed";
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"f"});
  ASSERT_TRUE(WriteFileAtomically(folder / "f", "new").ok());
  EXPECT_EQ(Slurp(folder / "f"), "new");
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"f"});
  ASSERT_TRUE(WriteNewFile(folder / "g", "x").ok());
  EXPECT_EQ(WriteNewFile(folder / "g", "y").error().code, Code::kFailed);
  EXPECT_EQ(WriteFileAtomically(folder / "absent/f", "x").error().code, Code::kUsage);
  EXPECT_EQ(WriteFileAtomically("", "x").error().code, Code::kUsage);
}

TEST(Files, WhatALinkPointsToIsWritten) {
  TempFolder folder;
  Spill(folder / "f", "old");
  fs::create_symlink("f", folder / "link");
  ASSERT_TRUE(WriteFileAtomically(folder / "link", "new").ok());
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(Slurp(folder / "f"), "new");
  fs::create_symlink("absent", folder / "dangling");
  ASSERT_TRUE(WriteFileAtomically(folder / "dangling", "x").ok());
  EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(folder / "dangling")));
}

// A rename would put a regular file in the place of a pipe or a device.
TEST(Files, PipesAndDevicesAreWrittenToAsTheyAre) {
  TempFolder folder;
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const int reader = open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  const Status written = WriteFileAtomically(pipe, "through");
  char got[16] = {};
  const ssize_t bytes = read(reader, got, sizeof(got));
  close(reader);
  ASSERT_TRUE(written.ok()) << written.error().Format();
  EXPECT_EQ(std::string_view(got, std::max<ssize_t>(bytes, 0)), "through");
  EXPECT_TRUE(fs::is_fifo(pipe));
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"pipe"});

  fs::create_symlink("/dev/null", folder / "null");  // a fault replaces the link, never the device
  ASSERT_TRUE(WriteFileAtomically(folder / "null", "x").ok());
  EXPECT_TRUE(fs::is_character_file(folder / "null"));
  {
    auto writer = FileWriter::Create(folder / "null");
    ASSERT_TRUE(writer.ok());
    EXPECT_EQ(writer->Commit(true, folder / "elsewhere").error().code, Code::kUsage);
    auto file = FileWriter::Create(folder / "f");
    ASSERT_TRUE(file.ok());
    EXPECT_EQ(file->Commit(true, pipe).error().code, Code::kUsage);
  }
  EXPECT_TRUE(fs::is_fifo(pipe));
  EXPECT_EQ(folder.Names(), (std::vector<std::string>{"null", "pipe"}));
}

TEST(Files, NothingTakesThePlaceOfAFolderOrADevice) {
  TempFolder folder;
  fs::create_directory(folder / "d");
  const Status status = WriteFileAtomically(folder / "d", "x");
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kUsage);
  EXPECT_EQ(status.error().where, folder / "d");
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(TempDirBeside::Create(folder / "pipe").error().code, Code::kUsage);
  EXPECT_EQ(folder.Names(), (std::vector<std::string>{"d", "pipe"}));
}

// A limit on the file size stands for a full disk: write() fails in the same way, half done.
TEST(Files, AFailingWriteIsSaidAndLeavesNothing) {
  TempFolder folder;
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small = {1000, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const Status status = WriteFileAtomically(folder / "f", std::string(4000, 'x'));
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kFailed);
  EXPECT_EQ(status.error().where, folder / "f");
  EXPECT_TRUE(folder.Names().empty());
}

TEST(Files, AFolderBecomesItsTarget) {
  TempFolder folder;
  {
    auto temporary = TempDirBeside::Create(folder / "out/");
    ASSERT_TRUE(temporary.ok());
    Spill(temporary->path() + "/a", "1");
  }
  EXPECT_TRUE(folder.Names().empty()) << "not committed";
  for (const char* content : {"1", "2"}) {
    auto temporary = TempDirBeside::Create(folder / "out");
    ASSERT_TRUE(temporary.ok());
    Spill(temporary->path() + "/a", content);
    const bool exists = fs::exists(folder / "out");
    if (exists) {
      const Status refused = temporary->Commit(/*replace=*/false);
      EXPECT_EQ(refused.error().code, Code::kUsage);
      EXPECT_EQ(Slurp(folder / "out/a"), "1");
    }
    ASSERT_TRUE(temporary->Commit(/*replace=*/true).ok());
    EXPECT_EQ(Slurp(folder / "out/a"), content);
  }
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"out"});
  EXPECT_EQ(TempDirBeside::Create(folder / "absent/out").error().code, Code::kUsage);
}

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
