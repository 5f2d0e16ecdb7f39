// The package on disk: equal input gives equal bytes, damage is found before anything runs, an existing output is kept.
#include "tests/e2e/programs.h"
#include "tests/e2e/safetensors_edit.h"

namespace autospc::e2e {
namespace {

constexpr int kUsage = 2, kBadInput = 3;

// Every file below `folder`, by its path in it.
std::vector<std::pair<std::string, std::string>> Tree(const fs::path& folder) {
  std::vector<std::pair<std::string, std::string>> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file())
      files.emplace_back(fs::relative(entry.path(), folder).string(), ReadFile(entry.path()));
  }
  std::sort(files.begin(), files.end());
  return files;
}

// A package of gpt at 2 ranks with AdamW, made once; tests copy it.
const fs::path& Package() {
  static const TempFolder folder;
  static const fs::path package = [] {
    const Args args = CompileArgs(Pt2("gpt"), folder / "package", 2, 61, {"--optimizer", "adamw"});
    const Outcome outcome = Execute(args);
    if (outcome.code != 0) throw std::runtime_error(Said(args, outcome));
    return folder / "package";
  }();
  return package;
}

void ExpectRunRefused(const fs::path& package, const fs::path& golden, const Args& says, int ranks = 2,
                      int code = kBadInput) {
  const Args args = GoldenArgs(package, ranks, golden);
  const Outcome outcome = Execute(args, 60);
  EXPECT_EQ(outcome.code, code) << Said(args, outcome);
  EXPECT_NE(outcome.err.find("error: "), std::string::npos) << Said(args, outcome);
  EXPECT_NE(outcome.err.find("hint: "), std::string::npos) << Said(args, outcome);
  for (const std::string& text : says)
    EXPECT_NE(outcome.err.find(text), std::string::npos) << "no '" << text << "' in\n" << outcome.err;
}

TEST(PackageTest, TwoCompilationsAreEqualByteForByte) {
  TempFolder folder;
  for (const std::string model : {"llama", "window"}) {
    for (const char* strategy : {"ulysses", "allgather-kv"}) {
      const Args more = {"--strategy", strategy, "--optimizer", "adamw", "--clip-norm", "1", "--force"};
      ASSERT_EQ(Execute(CompileArgs(Pt2(model), folder / "one", 3, 61, more)).code, 0);
      ASSERT_EQ(Execute(CompileArgs(Pt2(model), folder / "two", 3, 61, more)).code, 0);
      const auto one = Tree(folder / "one"), two = Tree(folder / "two");
      ASSERT_GT(one.size(), 4u);
      EXPECT_TRUE(one == two) << "two compilations of " << model << " differ";
    }
  }
}

TEST(PackageTest, AnotherLengthIsAnotherPackage) {
  TempFolder folder;
  ASSERT_EQ(Execute(CompileArgs(Pt2("gpt"), folder / "one", 2, 61, {"--optimizer", "adamw"})).code, 0);
  ASSERT_EQ(Execute(CompileArgs(Pt2("gpt"), folder / "two", 2, 60, {"--optimizer", "adamw"})).code, 0);
  EXPECT_FALSE(Tree(folder / "one") == Tree(folder / "two"));
  EXPECT_TRUE(Tree(folder / "one") == Tree(Package()));
}

TEST(PackageTest, IsAnOciImageLayoutWithOneManifestARank) {
  const auto layout = nlohmann::json::parse(ReadFile(Package() / "oci-layout"));
  EXPECT_EQ(layout.at("imageLayoutVersion"), "1.0.0");
  const auto index = nlohmann::json::parse(ReadFile(Package() / "index.json"));
  EXPECT_EQ(index.at("schemaVersion"), 2);
  ASSERT_EQ(index.at("manifests").size(), 2u);
  for (const auto& manifest : index.at("manifests")) {
    const std::string digest = manifest.at("digest");
    ASSERT_TRUE(digest.starts_with("sha256:")) << digest;
    const fs::path blob = Package() / "blobs" / "sha256" / digest.substr(7);
    ASSERT_TRUE(fs::exists(blob)) << blob;
    EXPECT_EQ(fs::file_size(blob), manifest.at("size").get<size_t>());
  }
}

TEST(PackageTest, AnExistingOutputIsKeptWithoutForce) {
  TempFolder folder;
  WriteFile(folder / "package" / "mine.txt", "mine");
  const Args args = CompileArgs(Pt2("gpt"), folder / "package", 2, 61);
  const Outcome outcome = Execute(args);
  EXPECT_EQ(outcome.code, kUsage) << Said(args, outcome);
  EXPECT_NE(outcome.err.find("--force"), std::string::npos) << outcome.err;
  EXPECT_EQ(ReadFile(folder / "package" / "mine.txt"), "mine");
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"package"});
  ASSERT_EQ(Execute(CompileArgs(Pt2("gpt"), folder / "other", 2, 61)).code, 0);
  EXPECT_EQ(Execute(CompileArgs(Pt2("gpt"), folder / "other", 2, 61)).code, kUsage);
  EXPECT_EQ(Execute(CompileArgs(Pt2("gpt"), folder / "other", 2, 61, {"--force"})).code, 0);
}

TEST(PackageTest, AFlippedByteInAnyFileIsFound) {
  TempFolder folder;
  const auto files = Tree(Package());
  ASSERT_GT(files.size(), 4u);
  fs::copy(Package(), folder / "package", fs::copy_options::recursive);
  for (const auto& [name, data] : files) {
    if (!name.starts_with("blobs/")) continue;
    SCOPED_TRACE(name);
    std::string flipped = data;
    flipped[flipped.size() / 2] ^= 0x10;
    WriteFile(folder / "package" / name, flipped);
    ExpectRunRefused(folder / "package", Golden("gpt", "s61"), {fs::path(name).filename().string().substr(0, 12)});
    WriteFile(folder / "package" / name, data);
  }
  EXPECT_EQ(Execute(GoldenArgs(folder / "package", 2, Golden("gpt", "s61"))).code, 0);
}

TEST(PackageTest, AMissingBlobAndABrokenIndexAreFound) {
  TempFolder folder;
  fs::copy(Package(), folder / "package", fs::copy_options::recursive);
  for (const auto& [name, data] : Tree(Package())) {
    SCOPED_TRACE(name);
    fs::remove(folder / "package" / name);
    ExpectRunRefused(folder / "package", Golden("gpt", "s61"), {});
    if (name == "index.json") {
      WriteFile(folder / "package" / name, "{");
      ExpectRunRefused(folder / "package", Golden("gpt", "s61"), {"index.json"});
    }
    WriteFile(folder / "package" / name, data);
  }
  ExpectRunRefused(folder / "nothing", Golden("gpt", "s61"), {"nothing"});
  WriteFile(folder / "file", "text");
  ExpectRunRefused(folder / "file", Golden("gpt", "s61"), {"file"});
}

TEST(PackageTest, AnotherFormatVersionIsRefused) {
  TempFolder folder;
  fs::copy(Package(), folder / "package", fs::copy_options::recursive);
  std::string index = ReadFile(folder / "package" / "index.json");
  const std::string key = "\"vnd.autospc.format-version\": \"1\"";
  ASSERT_NE(index.find(key), std::string::npos) << index;
  index.replace(index.find(key), key.size(), "\"vnd.autospc.format-version\": \"9\"");
  WriteFile(folder / "package" / "index.json", index);
  ExpectRunRefused(folder / "package", Golden("gpt", "s61"), {"version 9", "1"});
}

TEST(PackageTest, InspectTellsAPackageAndAModel) {
  const Args package = {"autospc", "inspect", Package().string(), "--json"};
  const Outcome of_package = Execute(package);
  ASSERT_EQ(of_package.code, 0) << Said(package, of_package);
  const auto told = nlohmann::json::parse(of_package.out);
  EXPECT_EQ(told.at("ranks"), 2);
  EXPECT_EQ(told.at("seq_len"), 61);
  EXPECT_EQ(told.at("optimizer"), "adamw");
  EXPECT_EQ(told.at("memory").at("optimizer"),
            2 * told.at("memory").at("weights").get<int64_t>());  // two moments a weight
  const Args model = {"autospc", "inspect", Pt2("llama").string(), "--json"};
  const Outcome of_model = Execute(model);
  ASSERT_EQ(of_model.code, 0) << Said(model, of_model);
  EXPECT_EQ(nlohmann::json::parse(of_model.out).at("inputs").size(), 2u);
}

TEST(GoldenFileTest, AGoldenOfAnotherModelIsRefused) {
  ExpectRunRefused(Package(), Golden("llama", "s61"), {});
  ExpectRunRefused(Package(), Models() / "none.safetensors", {"none.safetensors"});
}

TEST(GoldenFileTest, AnInputOfAnotherLengthIsRefused) {
  ExpectRunRefused(Package(), Golden("gpt", "s64"), {"input_ids", "61", "64"});
}

TEST(GoldenFileTest, AMissingAndAnExtraGradientAreRefusedByName) {
  TempFolder folder;
  SafetensorsEdit golden(Golden("gpt", "s61"));
  golden.Rename("grad.norm.weight", "grad.norm.wait");
  golden.Write(folder / "renamed.safetensors");
  ExpectRunRefused(Package(), folder / "renamed.safetensors", {"norm.wait"});
}

TEST(GoldenFileTest, AnInputOfAnotherRankIsRefused) {
  TempFolder folder;
  SafetensorsEdit golden(Golden("gpt", "s61"));
  golden.header["in.input_ids"]["shape"] = {122};
  golden.Write(folder / "flat.safetensors");
  ExpectRunRefused(Package(), folder / "flat.safetensors", {"input_ids"});
}

TEST(GoldenFileTest, ABrokenFileIsRefused) {
  TempFolder folder;
  const std::string good = ReadFile(Golden("gpt", "s61"));
  for (const std::string& bad :
       {std::string(), std::string("text"), good.substr(0, 100), good.substr(0, good.size() - 8)}) {
    WriteFile(folder / "bad.safetensors", bad);
    ExpectRunRefused(Package(), folder / "bad.safetensors", {"bad.safetensors"});
  }
}

TEST(RunTest, AnotherNumberOfProcessesThanTheProgramsIsRefused) {
  ExpectRunRefused(Package(), Golden("gpt", "s61"), {"2", "3"}, 3);
}

// Without a GPU the machine is the reason, with one the package; what to do is the same.
TEST(RunTest, AGpuIsRefusedWithTheReason) {
  Args args = GoldenArgs(Package(), 2, Golden("gpt", "s61"));
  args.insert(args.end(), {"--device", "cuda"});
  const Outcome outcome = Execute(args, 60);
  EXPECT_TRUE(outcome.code == kUsage || outcome.code == kBadInput) << Said(args, outcome);
  EXPECT_NE(outcome.err.find("use --device cpu"), std::string::npos) << Said(args, outcome);
  EXPECT_EQ(outcome.err.find("[rank"), std::string::npos) << "no rank was started\n" << outcome.err;
}

TEST(RunTest, APackageForGpusIsForGpus) {
  TempFolder folder;
  const Args compile = CompileArgs(Pt2("gpt"), folder / "package", 2, 61, {"--device", "cuda", "--memory-budget", "1GiB"});
  const Outcome compiled = Execute(compile);
  ASSERT_EQ(compiled.code, 0) << Said(compile, compiled);
  EXPECT_NE(compiled.err.find("is not in the budget"), std::string::npos) << Said(compile, compiled);
  const Args inspect = {"autospc", "inspect", (folder / "package").string(), "--json"};
  const Outcome inspected = Execute(inspect);
  ASSERT_EQ(inspected.code, 0) << Said(inspect, inspected);
  EXPECT_EQ(nlohmann::json::parse(inspected.out).at("device"), "cuda");
  ExpectRunRefused(folder / "package", Golden("gpt", "s61"), {"compiled for cuda", "run on cpu", "--device cuda"});
}

TEST(RunTest, FlagsAloneAreUsage) {
  for (const Args& args :
       std::vector<Args>{{"autosp-run"},
                         {"autosp-run", "--nproc-per-node", "0", Package().string()},
                         {"autosp-run", "--nproc-per-node", "2", Package().string(), "--golde", "x"}}) {
    const Outcome outcome = Execute(args, 60);
    EXPECT_EQ(outcome.code, kUsage) << Said(args, outcome);
  }
}

}  // namespace
}  // namespace autospc::e2e
