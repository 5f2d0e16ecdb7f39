// Golden texts: autospc-opt runs on each tests/golden/*/*.ir with the flags of its first line, and LibTorch's FileCheck
// holds what it prints to the file's own "# CHECK:" comments.
//   # RUN: --simplify                    standard output is checked; the program ends with 0
//   # RUN(4): --ranks 2 --partition      standard error is checked; the program ends with 4 (0 is allowed too)
// %D stands for the file's folder.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <torch/csrc/jit/testing/file_check.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

const fs::path kFolder = fs::path(AUTOSPC_SOURCE_DIR) / "tests" / "golden";

std::string Read(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

struct Ran {
  int exit_code = -1;
  std::string out, err;
};

// In a folder of its own, so that standard error can be a file there. TMPDIR is that folder: nothing is left in /tmp.
Ran RunOpt(const std::string& arguments) {
  static int runs = 0;
  const fs::path folder =
      fs::path(testing::TempDir()) / ("golden_" + std::to_string(getpid()) + "_" + std::to_string(runs++));
  fs::create_directories(folder);
  const std::string command = "TMPDIR='" + folder.string() + "' '" + AUTOSPC_BIN_DIR "/autospc-opt' " + arguments +
                              " 2>'" + (folder / "err").string() + "'";
  Ran ran;
  std::FILE* pipe = popen(command.c_str(), "r");
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) ran.out.append(buffer, n);
  const int status = pclose(pipe);
  ran.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  ran.err = Read(folder / "err");
  fs::remove_all(folder);
  return ran;
}

struct Golden {
  std::string flags;
  int exit_code = 0;
  bool check_err = false;
};
// From the first line; flags are empty if that is no RUN line.
Golden FirstLine(const std::string& text, const fs::path& path) {
  std::string line = text.substr(0, text.find('\n'));
  Golden golden;
  if (line.starts_with("# RUN(") && line.find("): ") != std::string::npos) {
    golden.exit_code = std::atoi(line.c_str() + 6);
    golden.check_err = true;
    golden.flags = line.substr(line.find("): ") + 3);
  } else if (line.starts_with("# RUN: ")) {
    golden.flags = line.substr(7);
  }
  for (size_t at; (at = golden.flags.find("%D")) != std::string::npos;)
    golden.flags.replace(at, 2, path.parent_path().string());
  return golden;
}

std::vector<std::string> Files() {
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(kFolder)) {
    if (entry.path().extension() == ".ir") files.push_back(fs::relative(entry.path(), kFolder).string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

class GoldenText : public testing::TestWithParam<std::string> {};

TEST_P(GoldenText, IsWhatThePassesMake) {
  const fs::path path = kFolder / GetParam();
  const std::string text = Read(path);
  const Golden golden = FirstLine(text, path);
  ASSERT_FALSE(golden.flags.empty()) << "the first line is no '# RUN: FLAGS'";
  ASSERT_NE(text.find("# CHECK"), std::string::npos) << "the file checks nothing";
  const Ran ran = RunOpt(golden.flags + " '" + path.string() + "'");
  ASSERT_EQ(ran.exit_code, golden.exit_code) << ran.err;
  try {
    torch::jit::testing::FileCheck().run(text, golden.check_err ? ran.err : ran.out);
  } catch (const std::exception& e) {
    FAIL() << e.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, GoldenText, testing::ValuesIn(Files()), [](const auto& info) {
  std::string name = info.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
});

TEST(Golden, AWrongCheckFails) {
  EXPECT_THROW(torch::jit::testing::FileCheck().run("# CHECK: aten.exp", "graph @g {\n  aten.sin\n}\n"),
               std::exception);
}

// A pass without a golden text is one that nobody showed. The flag must also be free: a pass may not have an option's
// name.
TEST(Golden, EveryPassHasOne) {
  std::string all;
  for (const std::string& file : Files()) {
    const std::string text = Read(kFolder / file);
    all += text.substr(0, text.find('\n')) + " ";
  }
  std::istringstream list(RunOpt("--list").out);
  int passes = 0;
  for (std::string line; std::getline(list, line); ++passes) {
    const std::string flag = line.substr(0, line.find(' '));
    EXPECT_NE(all.find(flag + " "), std::string::npos) << flag << " is in no RUN line";
  }
  EXPECT_GT(passes, 5);
}

TEST(Golden, HelpFitsAScreen) {
  const Ran help = RunOpt("--help");
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_LE(std::count(help.out.begin(), help.out.end(), '\n'), 40);
  EXPECT_NE(help.out.find("example: autospc-opt"), std::string::npos);
}

TEST(Golden, StandardInputAndOutput) {
  const Ran ran = RunOpt("- < '" + (kFolder / "opt/roundtrip.ir").string() + "'");
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_TRUE(ran.out.starts_with("graph @")) << ran.out;
  EXPECT_EQ(RunOpt("--verify-only '" + (kFolder / "opt/roundtrip.ir").string() + "'").out, "");
}

// Replaced by a rename, a pipe or a device would be gone.
TEST(Golden, AnOutputThatIsNoFileIsWrittenInPlace) {
  const fs::path folder = fs::path(testing::TempDir()) / ("golden_fifo_" + std::to_string(getpid()));
  fs::create_directories(folder);
  const std::string fifo = (folder / "fifo").string(), got = (folder / "got").string();
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const std::string input = (kFolder / "opt/roundtrip.ir").string();
  const std::string command =
      "cat '" + fifo + "' >'" + got + "' & '" AUTOSPC_BIN_DIR "/autospc-opt' '" + input + "' -o '" + fifo + "' && wait";
  EXPECT_EQ(std::system(command.c_str()), 0);
  EXPECT_TRUE(fs::is_fifo(fifo));
  EXPECT_TRUE(Read(got).starts_with("graph @roundtrip {"));
  fs::remove_all(folder);
}

TEST(Golden, UsageErrors) {
  const std::string file = "'" + (kFolder / "opt/roundtrip.ir").string() + "'";
  EXPECT_EQ(RunOpt("").exit_code, 2);
  EXPECT_EQ(RunOpt("--simplfy " + file).exit_code, 2);
  EXPECT_NE(RunOpt("--simplfy " + file).err.find("did you mean '--simplify'?"), std::string::npos);
  EXPECT_EQ(RunOpt("--ranks 0 " + file).exit_code, 2);
  EXPECT_EQ(RunOpt("--strategy ring " + file).exit_code, 2);
  EXPECT_EQ(RunOpt("--print-ir-after simplfy " + file).exit_code, 2);
  EXPECT_EQ(RunOpt("no-such-file.ir").exit_code, 3);
  EXPECT_EQ(RunOpt("--recognise_attention " + file).exit_code, 0);
}

}  // namespace
