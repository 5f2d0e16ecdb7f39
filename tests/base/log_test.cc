#include "runtime/base/log.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include <nlohmann/json.hpp>

namespace autospc {
namespace {

// What `act` logs under `options`.
template <typename Act>
std::string Logged(LogOptions options, Act act) {
  char* text = nullptr;
  size_t size = 0;
  options.sink = open_memstream(&text, &size);
  SetLogOptions(options);
  act();
  SetLogOptions(DefaultLogOptions());
  std::fclose(options.sink);
  std::string result(text, size);
  std::free(text);
  return result;
}

TEST(Log, LevelsAndPlainText) {
  LogOptions options;
  options.level = LogLevel::kInfo;
  EXPECT_EQ(Logged(options, [] {
              Log(LogLevel::kDebug, "hidden");
              Log(LogLevel::kInfo, "hello");
              Log(LogLevel::kWarning, "careful");
              LogError({Code::kBadInput, "broken", "file", "mend it"});
            }),
            "hello\nwarning: careful\nerror: broken\n  at file\n  hint: mend it\n");
}

TEST(Log, ColourOnlyWhereAsked) {
  LogOptions options;
  options.color = true;
  EXPECT_EQ(Logged(options, [] { Log(LogLevel::kWarning, "x"); }), "\033[33mwarning: x\033[0m\n");
  EXPECT_EQ(Logged({}, [] { Log(LogLevel::kWarning, "x"); }).find('\033'), std::string::npos);
}

TEST(Log, NamesOutOfFilesDoNotDriveTheTerminal) {
  EXPECT_EQ(Logged({}, [] { LogError({Code::kBadInput, "no tensor '\033[2J\r\x7f'", "a\tb", "c\nd"}); }),
            "error: no tensor '\\x1b[2J\\x0d\\x7f'\n  at a\tb\n  hint: c\nd\n");
}

TEST(Log, NoColorIsHonoured) {
  setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(DefaultLogOptions().color);
  unsetenv("NO_COLOR");
}

TEST(Log, JsonLines) {
  LogOptions options;
  options.json = true;
  options.rank = 3;
  const std::string text = Logged(options, [] { LogError({Code::kTimeout, "late \"peer\"", "rank 1", "wait"}); });
  const auto line = nlohmann::json::parse(text);
  EXPECT_EQ(line["level"], "error");
  EXPECT_EQ(line["message"], "late \"peer\"");
  EXPECT_EQ(line["code"], 6);
  EXPECT_EQ(line["rank"], 3);
  EXPECT_EQ(line["where"], "rank 1");
  EXPECT_GT(line["time"], 1.5e9);
  const auto info = nlohmann::json::parse(Logged(options, [] { Log(LogLevel::kInfo, "x\ny"); }));
  EXPECT_EQ(info["message"], "x\ny");
}

TEST(Log, ProgressIsRareAndEndsWithALine) {
  const std::string plain = Logged({}, [] {
    for (int i = 0; i < 1000; ++i) Progress("working");
    Progress("done", /*last=*/true);
  });
  EXPECT_TRUE(plain.starts_with("working\n"));
  EXPECT_TRUE(plain.ends_with("done\n"));
  EXPECT_LT(plain.size(), 200u) << "at most ten a second";
  LogOptions terminal;
  terminal.terminal = true;
  EXPECT_EQ(Logged(terminal, [] {
              Progress("1 of 2");
              Log(LogLevel::kInfo, "a line");
              Progress("2 of 2", true);
            }),
            "\r\033[K1 of 2\r\033[Ka line\n\r\033[K2 of 2\n");
  LogOptions quiet;
  quiet.level = LogLevel::kWarning;
  EXPECT_EQ(Logged(quiet, [] { Progress("x", true); }), "");
}

TEST(Log, FlagsAreParsed) {
  EXPECT_TRUE(*ParseLogFormat("json"));
  EXPECT_FALSE(*ParseLogFormat("text"));
  EXPECT_EQ(ParseLogFormat("xml").error().code, Code::kUsage);
  EXPECT_EQ(*ParseLogLevel("debug"), LogLevel::kDebug);
  EXPECT_EQ(*ParseLogLevel("error"), LogLevel::kError);
  EXPECT_EQ(ParseLogLevel("loud").error().code, Code::kUsage);
}

}  // namespace
}  // namespace autospc
