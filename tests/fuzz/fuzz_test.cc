// Each input of the fuzzers' corpus, and each that once broke something, through the same functions: what libFuzzer
// found stays found, in the usual build and without Clang.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/entries.h"
#include "tests/package/temp_folder.h"

namespace autospc::fuzz {
namespace {

namespace fs = std::filesystem;

struct Target {
  void (*run)(std::string_view) = nullptr;
  size_t (*mutate)(uint8_t*, size_t, size_t, unsigned) = nullptr;
};

// By the names of the folders in corpus/ and regressions/.
const std::map<std::string, Target>& Targets() {
  static const std::map<std::string, Target> targets = {
      {"ir", {&Ir}},
      {"safetensors", {&Safetensors}},
      {"tokens", {&Tokens}},
      {"program", {&Program, &MutateProgram}},
      {"package", {&Package, &MutatePackage}},
      {"pt2", {&Pt2, &MutatePt2}},
      {"executor", {&Executor, &MutateProgram}},
      {"run_flags", {&RunFlags}},
      {"compile_flags", {&CompileFlags}},
  };
  return targets;
}

std::vector<fs::path> Inputs(const std::string& kind, const std::string& target) {
  const fs::path folder = fs::path(AUTOSPC_SOURCE_DIR) / "tests/fuzz" / kind / target;
  std::vector<fs::path> files;
  if (fs::exists(folder)) {
    for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

class Fuzz : public ::testing::TestWithParam<std::string> {};

TEST_P(Fuzz, CorpusAndRegressions) {
  const Target& target = Targets().at(GetParam());
  ASSERT_FALSE(Inputs("corpus", GetParam()).empty());
  for (const char* kind : {"corpus", "regressions"}) {
    for (const fs::path& file : Inputs(kind, GetParam())) {
      SCOPED_TRACE(file.string());
      target.run(Slurp(file.string()));
    }
  }
}

// A few of each input's mutations and truncations (seeded), as the fuzzer would make them.
TEST_P(Fuzz, SomeMutations) {
  const Target& target = Targets().at(GetParam());
  const std::vector<fs::path> files = Inputs("corpus", GetParam());
  const int trials = std::max(1, 60 / static_cast<int>(files.size()));
  std::mt19937 random(1);
  for (const fs::path& file : files) {
    SCOPED_TRACE(file.string());
    const std::string good = Slurp(file.string());
    for (int i = 0; i < trials; ++i) {
      std::string bad = good;
      bad.resize(good.size() + 4096);
      size_t size = target.mutate == nullptr ? 0 : target.mutate(reinterpret_cast<uint8_t*>(bad.data()), good.size(), bad.size(), random());
      if (size == 0) {
        bad = good;
        size = i % 2 == 0 ? good.size() : random() % (good.size() + 1);
        for (int k = 0; k < 1 + i % 3 && size > 0; ++k) bad[random() % size] ^= static_cast<char>(1 << random() % 8);
      }
      target.run(std::string_view(bad).substr(0, size));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, Fuzz,
                         ::testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const auto& [name, target] : Targets()) names.push_back(name);
                           return names;
                         }()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace autospc::fuzz
