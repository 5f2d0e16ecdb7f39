// What `autospc compile` says of a model that it cannot take: one clear error (what, where, remedy), the right exit
// code, nothing left.
#include <functional>
#include <regex>

#include "tests/e2e/programs.h"
#include "tests/e2e/zip_edit.h"

namespace autospc::e2e {
namespace {

constexpr int kUsage = 2, kBadInput = 3, kUnsupported = 4;

// The model at `path` is refused with `code`; the message holds every one of `says`; no file appears beside the model.
void ExpectRefused(const TempFolder& folder, const Args& args, int code, const Args& says) {
  const std::vector<std::string> before = folder.Names();
  const Outcome outcome = Execute(args, 60);
  EXPECT_EQ(outcome.code, code) << Said(args, outcome);
  EXPECT_NE(outcome.err.find("error: "), std::string::npos) << Said(args, outcome);
  EXPECT_NE(outcome.err.find("hint: "), std::string::npos) << Said(args, outcome);
  for (const std::string& text : says)
    EXPECT_NE(outcome.err.find(text), std::string::npos) << "no '" << text << "' in\n" << outcome.err;
  EXPECT_EQ(folder.Names(), before) << "left behind by " << Line(args);
}

struct Damage {
  std::string name;
  std::function<void(const fs::path&)> write;  // makes the damaged model
  int code;
  Args says;
};
void PrintTo(const Damage& d, std::ostream* out) { *out << d.name; }

// A copy of a good model with `edit` applied to its archive.
std::function<void(const fs::path&)> Edited(const std::function<void(ZipEdit&)>& edit,
                                            const std::string& model = "gpt") {
  return [=](const fs::path& path) {
    ZipEdit zip(Pt2(model));
    edit(zip);
    zip.Write(path);
  };
}

std::vector<Damage> Damages() {
  return {
      {"EmptyFile", [](const fs::path& p) { WriteFile(p, ""); }, kBadInput, {"model.pt2"}},
      {"TextFile", [](const fs::path& p) { WriteFile(p, std::string(5000, 'x') + "\n"); }, kBadInput, {"model.pt2"}},
      {"TruncatedZip",
       [](const fs::path& p) {
         const std::string whole = ReadFile(Pt2("gpt"));
         WriteFile(p, whole.substr(0, whole.size() * 2 / 3));
       },
       kBadInput,
       {"model.pt2"}},
      {"MissingModelJson", Edited([](ZipEdit& z) { z.Remove("models/model.json"); }), kBadInput, {"models/model.json"}},
      {"BrokenModelJson",
       Edited([](ZipEdit& z) {
         std::string& json = z.Member("models/model.json").second;
         json.resize(json.size() / 2);
       }),
       kBadInput,
       {"model.json"}},
      {"ModelJsonIsNoObject",
       Edited([](ZipEdit& z) { z.Member("models/model.json").second = "[1, 2]"; }),
       kBadInput,
       {"model.json"}},
      {"DeeplyNestedJson",
       Edited([](ZipEdit& z) {
         z.Member("models/model.json").second = std::string(1000000, '[') + std::string(1000000, ']');
       }),
       kBadInput,
       {"model.json"}},
      {"UnknownSchemaMajor",
       Edited([](ZipEdit& z) { z.Replace(R"("major":8)", R"("major":9)"); }),
       kBadInput,
       {"9", "8"}},
      {"MemberThatLeavesTheArchive",
       Edited([](ZipEdit& z) { z.members().emplace_back("gpt/../../escape", "x"); }),
       kBadInput,
       {".."}},
      {"WeightShorterThanItsShape",
       Edited([](ZipEdit& z) {
         std::string& data = z.Member("data/weights/weight_0").second;
         data.resize(data.size() - 4);
       }),
       kBadInput,
       {"weight_0"}},
      {"MissingWeight", Edited([](ZipEdit& z) { z.Remove("data/weights/weight_1"); }), kBadInput, {"weight_1"}},
      {"DanglingName",
       Edited([](ZipEdit& z) {
         z.Replace(R"("arg":{"as_tensor":{"name":"embedding"}})", R"("arg":{"as_tensor":{"name":"no_such_value"}})");
       }),
       kBadInput,
       {"no_such_value"}},
      {"OpWithoutSchema",
       Edited([](ZipEdit& z) { z.Replace("torch.ops.aten.gelu.default", "torch.ops.mine.gelu.default"); }),
       kUnsupported,
       {"mine", "gelu", "models/zoo.py"}},
      {"OverloadWithoutSchema",
       Edited([](ZipEdit& z) { z.Replace("torch.ops.aten.gelu.default", "torch.ops.aten.gelu.mine"); }),
       kUnsupported,
       {"gelu", "models/zoo.py"}},
      {"DataDependentShape",
       Edited([](ZipEdit& z) { z.Replace("torch.ops.aten.gelu.default", "torch.ops.aten.nonzero.default"); }),
       kUnsupported,
       {"nonzero", "models/zoo.py"}},
      {"UnknownArgument",
       Edited([](ZipEdit& z) { z.Replace(R"({"name":"is_causal")", R"({"name":"is_casual")"); }),
       kBadInput,
       {"is_casual"}},
      {"MemberLargerThanTheFile",
       [](const fs::path& p) { ZipEdit(Pt2("gpt")).Write(p, "data/weights/weight_0", 0xf0000000u); },
       kBadInput,
       {"weight_0"}},
      {"ModelJsonLargerThanTheFile",
       [](const fs::path& p) { ZipEdit(Pt2("gpt")).Write(p, "models/model.json", 0xf0000000u); },
       kBadInput,
       {"model.json"}},
  };
}

class BadModelTest : public testing::TestWithParam<Damage> {};

TEST_P(BadModelTest, IsRefused) {
  TempFolder folder;
  GetParam().write(folder / "model.pt2");
  ExpectRefused(folder, CompileArgs(folder / "model.pt2", folder / "package", 2, 61), GetParam().code, GetParam().says);
}

INSTANTIATE_TEST_SUITE_P(Damages, BadModelTest, testing::ValuesIn(Damages()),
                         [](const auto& info) { return info.param.name; });

// The copy by ZipEdit is itself sound: without damage the model compiles, so what the tests above meet is the damage.
TEST(BadModelControlTest, AnUndamagedCopyIsAccepted) {
  TempFolder folder;
  ZipEdit(Pt2("gpt")).Write(folder / "model.pt2");
  const Args args = CompileArgs(folder / "model.pt2", folder / "package", 2, 61);
  const Outcome outcome = Execute(args);
  EXPECT_EQ(outcome.code, 0) << Said(args, outcome);
}

TEST(FlagsTest, WhatFlagsAloneGetWrongIsUsage) {
  TempFolder folder;
  const std::string model = Pt2("gpt").string(), out = (folder / "package").string();
  ExpectRefused(folder, {"autospc", "compile", model, "-o", out, "--ranks", "0", "--seq-len", "61"}, kUsage,
                {"--ranks"});
  ExpectRefused(folder, {"autospc", "compile", model, "-o", out, "--ranks", "two", "--seq-len", "61"}, kUsage,
                {"--ranks", "two"});
  ExpectRefused(folder, {"autospc", "compile", model, "-o", out, "--ranks", "2", "--seq-len", "-5"}, kUsage,
                {"--seq-len"});
  ExpectRefused(folder, {"autospc", "compile", model, "-o", out, "--ranks", "2"}, kUsage, {"--seq-len"});
  ExpectRefused(folder, {"autospc", "compile", Pt2("batched").string(), "-o", out, "--ranks", "2", "--seq-len", "61"},
                kUsage, {"--batch"});
  ExpectRefused(folder, {"autospc", "compile", "-o", out, "--ranks", "2", "--seq-len", "61"}, kUsage, {});
  ExpectRefused(folder, {"autospc", "compile", model, "-o", out, "--rank", "2x", "--seq-len", "61"}, kUsage, {});
  ExpectRefused(folder, CompileArgs(model, out, 2, 61, {"--stratagy", "ulysses"}), kUsage, {"--strategy"});
  ExpectRefused(folder, CompileArgs(model, out, 2, 61, {"--strategy", "ulises"}), kUsage, {"ulysses", "allgather-kv"});
  ExpectRefused(folder, CompileArgs(model, out, 2, 61, {"--optimizer", "adam"}), kUsage, {"adamw"});
  ExpectRefused(folder, {"autospc", "compil"}, kUsage, {"compile"});
}

TEST(FlagsTest, WhatFlagsGetWrongAgainstTheModelIsBadInput) {
  TempFolder folder;
  const fs::path out = folder / "package";
  ExpectRefused(folder, CompileArgs(folder / "none.pt2", out, 2, 61), kBadInput, {"none.pt2"});
  ExpectRefused(folder, CompileArgs(Pt2("gpt"), out, 2, 65), kBadInput,
                {"65", "64"});  // the export's range and its table's rows
  ExpectRefused(folder, CompileArgs(Pt2("llama"), out, 2, 1), kBadInput, {"--seq-len", "2"});
  ExpectRefused(folder, CompileArgs(Pt2("gpt"), out, 2, 61, {"--batch", "3"}), kBadInput,
                {"3", "2"});  // static in the export
  ExpectRefused(folder, CompileArgs(Pt2("gpt"), out, 2, 61, {"--loss", "nothing"}), kBadInput, {"nothing"});
  ExpectRefused(folder, CompileArgs(Pt2("gpt"), out, 2, 61, {"--shard", "nothing:1"}), kBadInput, {"nothing"});
}

// The model's own position table bounds the length where the export's range does not.
TEST(FlagsTest, ALengthBeyondThePositionTableIsRefused) {
  TempFolder folder;
  ExpectRefused(folder, CompileArgs(Pt2("batched"), folder / "package", 2, 129, {"--batch", "1"}), kBadInput,
                {"129", "128"});
}

TEST(FlagsTest, BothSpellingsOfAFlagWork) {
  TempFolder folder;
  const Args args = {"autospc", "compile", Pt2("gpt").string(), "-o", (folder / "package").string(),
                     "--ranks", "2",       "--seq_len",         "61"};
  const Outcome outcome = Execute(args);
  EXPECT_EQ(outcome.code, 0) << Said(args, outcome);
}

TEST(HelpTest, FitsAScreenAndShowsAnExample) {
  for (const Args& args : std::vector<Args>{{"autospc", "--help"},
                                            {"autospc", "compile", "--help"},
                                            {"autospc", "inspect", "--help"},
                                            {"autosp-run", "--help"},
                                            {"autospc-opt", "--help"}}) {
    const Outcome outcome = Execute(args);
    EXPECT_EQ(outcome.code, 0) << Said(args, outcome);
    EXPECT_LE(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 50) << outcome.out;
    // A line that starts the program with something to work on.
    EXPECT_TRUE(std::regex_search(outcome.out, std::regex("(^|\n) *" + args[0] + " .*(\\.pt2|\\.ir|/|PACKAGE)")))
        << Said(args, outcome);
  }
}

}  // namespace
}  // namespace autospc::e2e
