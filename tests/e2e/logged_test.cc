// Further scalar outputs of a model (--log-output), against eager float64.
#include <nlohmann/json.hpp>

#include <cstring>

#include "tests/e2e/programs.h"

namespace autospc::e2e {
namespace {

using nlohmann::json;

// What the golden's header says of them.
json Expected(const std::string& which) {
  const std::string file = ReadFile(Golden("logged", which));
  uint64_t bytes = 0;
  std::memcpy(&bytes, file.data(), sizeof(bytes));
  const json header = json::parse(file.substr(8, bytes));
  return json::parse(header["__metadata__"]["outputs"].get<std::string>());
}

TEST(LoggedTest, OutputsAreToldAtEachStep) {
  for (const auto& [ranks, strategy] : {std::pair{1, "ulysses"}, {2, "ulysses"}, {3, "allgather-kv"}}) {
    TempFolder folder;
    const Args compile = CompileArgs(Pt2("logged"), folder / "package", ranks, 61,
                                     {"--loss", "loss", "--log-output", "metrics.accuracy", "--log-output", "metrics.entropy",
                                      "--optimizer", "adamw", "--strategy", strategy});
    const Outcome compiled = Execute(compile);
    ASSERT_EQ(compiled.code, 0) << Said(compile, compiled);
    const Args compare = GoldenArgs(folder / "package", ranks, Golden("logged", "s61"));
    const Outcome compared = Execute(compare);
    EXPECT_EQ(compared.code, 0) << Said(compare, compared);  // they change no gradient
    const Args run = GoldenArgs(folder / "package", ranks, Golden("logged", "s61"), {"--steps", "2", "--json"});
    const Outcome ran = Execute(run);
    ASSERT_EQ(ran.code, 0) << Said(run, ran);
    const json first = json::parse(ran.out.substr(0, ran.out.find('\n'))), second = json::parse(ran.out.substr(ran.out.find('\n')));
    const json expected = Expected("s61");
    ASSERT_EQ(expected.size(), 2u);
    for (const auto& [name, value] : expected.items()) {
      ASSERT_TRUE(first.contains(name)) << first.dump();
      // Float32 of about a hundred terms; a guess that float64 would make otherwise is not among these.
      EXPECT_NEAR(first[name].get<double>(), value.get<double>(), 1e-5) << name << " at P = " << ranks;
    }
    EXPECT_NE(first["metrics.entropy"], second["metrics.entropy"]);
  }
}

TEST(LoggedTest, WhatIsNotAskedForIsNotComputed) {
  TempFolder folder;
  const auto size = [&](const std::string& name, const Args& more) {
    const Args compile = CompileArgs(Pt2("logged"), folder / name, 1, 61, more);
    const Outcome compiled = Execute(compile);
    EXPECT_EQ(compiled.code, 0) << Said(compile, compiled);
    const size_t at = compiled.out.find(" instructions");
    return at == std::string::npos ? 0 : std::atoi(compiled.out.c_str() + compiled.out.rfind(' ', at - 1));
  };
  EXPECT_LT(size("plain", {"--loss", "loss"}), size("logged", {"--loss", "loss", "--log-output", "metrics.accuracy"}));
  const Args ambiguous = CompileArgs(Pt2("logged"), folder / "a", 1, 61);
  const Outcome refused = Execute(ambiguous);
  EXPECT_EQ(refused.code, 2) << Said(ambiguous, refused);
  EXPECT_NE(refused.err.find("loss, metrics.accuracy, metrics.entropy"), std::string::npos) << refused.err;
}

}  // namespace
}  // namespace autospc::e2e
