// Exports without weights: a checkpoint by name, at compile time or at run time, or a seed; and what is said where
// there is neither.
#include "tests/e2e/programs.h"
#include "tests/e2e/safetensors_edit.h"

namespace autospc::e2e {
namespace {

const char kModel[] = "weightless";
fs::path Checkpoint() { return Models() / kModel / "checkpoint"; }

// The export's names stand behind "model.", the checkpoint's do not; the tied head is in the checkpoint under the
// embedding's name alone.
TEST(WeightsTest, AShardedCheckpointGivenToTheCompiler) {
  ExpectMatchesGolden(Pt2(kModel), Golden(kModel, "s61"), 2, 61, {"--weights", Checkpoint().string()});
}

TEST(WeightsTest, AShardedCheckpointGivenToTheRun) {
  ExpectMatchesGolden(Pt2(kModel), Golden(kModel, "s61"), 2, 61, {}, {"--weights", Checkpoint().string()});
}

TEST(WeightsTest, OneFile) {
  TempFolder folder;
  SafetensorsEdit first(Checkpoint() / "model-00001-of-00002.safetensors");
  const SafetensorsEdit second(Checkpoint() / "model-00002-of-00002.safetensors");
  for (const auto& [name, entry] : second.header.items()) {
    if (name == "__metadata__") continue;
    first.header[name] = entry;
    for (int i : {0, 1})
      first.header[name]["data_offsets"][i] = entry["data_offsets"][i].get<size_t>() + first.data.size();
  }
  first.data += second.data;
  first.Write(folder / "all.safetensors");
  ExpectMatchesGolden(Pt2(kModel), Golden(kModel, "s61"), 2, 61, {"--weights", (folder / "all.safetensors").string()});
}

TEST(WeightsTest, AMissingShardAndAMissingTensorAreNamed) {
  TempFolder folder;
  fs::copy(Checkpoint(), folder / "checkpoint");
  fs::remove(folder / "checkpoint" / "model-00002-of-00002.safetensors");
  const Args shard =
      CompileArgs(Pt2(kModel), folder / "package", 2, 61, {"--weights", (folder / "checkpoint").string()});
  const Outcome no_shard = Execute(shard);
  EXPECT_EQ(no_shard.code, 3) << Said(shard, no_shard);
  EXPECT_NE(no_shard.err.find("model-00002-of-00002.safetensors"), std::string::npos) << no_shard.err;
  const Args half = CompileArgs(Pt2(kModel), folder / "package", 2, 61,
                                {"--weights", (Checkpoint() / "model-00001-of-00002.safetensors").string()});
  const Outcome no_tensor = Execute(half);
  EXPECT_EQ(no_tensor.code, 3) << Said(half, no_tensor);
  EXPECT_NE(no_tensor.err.find("norm.weight"), std::string::npos) << no_tensor.err;
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"checkpoint"});
}

TEST(WeightsTest, CompilesWithoutAndDoesNotRunWithout) {
  TempFolder folder;
  ASSERT_EQ(Execute(CompileArgs(Pt2(kModel), folder / "package", 2, 61)).code, 0);
  const Args run = GoldenArgs(folder / "package", 2, Golden(kModel, "s61"));
  const Outcome ran = Execute(run);
  EXPECT_EQ(ran.code, 3) << Said(run, ran);
  EXPECT_NE(ran.err.find("--weights"), std::string::npos) << ran.err;
}

// The same model exported with the tie lost: head and embedding are two parameters, the checkpoint holds one and says
// in its config.json that it is both.
fs::path Untied() { return Models() / kModel / "untied.pt2"; }

TEST(WeightsTest, ATieThatTheExportLostComesFromTheCheckpointAtCompileTime) {
  for (const char* strategy : {"ulysses", "allgather-kv"}) {
    ExpectMatchesGolden(Untied(), Golden(kModel, "s61"), 2, 61,
                        {"--strategy", strategy, "--weights", Checkpoint().string()});
  }
}

TEST(WeightsTest, ATieThatTheExportLostIsGivenByAFlagForWeightsAtRunTime) {
  for (const char* strategy : {"ulysses", "allgather-kv"}) {
    ExpectMatchesGolden(Untied(), Golden(kModel, "s61"), 2, 61, {"--strategy", strategy, "--tie-embeddings"},
                        {"--weights", Checkpoint().string()});
  }
}

// The flag asks for nothing where the export has the tie.
TEST(WeightsTest, AnExportThatIsTiedStaysSo) {
  ExpectMatchesGolden(Pt2(kModel), Golden(kModel, "s61"), 1, 61, {"--tie-embeddings"},
                      {"--weights", Checkpoint().string()});
}

TEST(WeightsTest, ARunRefusesACheckpointsTieThatThePackageLacks) {
  TempFolder folder;
  ASSERT_EQ(Execute(CompileArgs(Untied(), folder / "package", 2, 61)).code, 0);
  const auto refused = [&](const fs::path& checkpoint) {
    const Args run = GoldenArgs(folder / "package", 2, Golden(kModel, "s61"), {"--weights", checkpoint.string()});
    const Outcome ran = Execute(run);
    EXPECT_EQ(ran.code, 3) << Said(run, ran);
    return ran.err;
  };
  const std::string tied = refused(Checkpoint());
  for (const char* word :
       {"model.head.weight", "model.embed.weight", "tie_word_embeddings", "--tie-embeddings", "--weights"}) {
    EXPECT_NE(tied.find(word), std::string::npos) << word << " is not in\n" << tied;
  }
  // Without the word of a config.json the head is missing, and no more is known.
  fs::copy(Checkpoint(), folder / "checkpoint");
  fs::remove(folder / "checkpoint" / "config.json");
  const std::string missing = refused(folder / "checkpoint");
  EXPECT_NE(missing.find("1 of"), std::string::npos) << missing;
  EXPECT_NE(missing.find("model.head.weight"), std::string::npos) << missing;
}

// The seed draws by parameter and global index: the same weights at every P, and others for another seed.
TEST(WeightsTest, ASeedGivesTheSameWeightsAtEveryP) {
  TempFolder folder;
  auto golden_of = [&](int ranks, const std::string& seed) {
    const std::string name = std::to_string(ranks) + "_" + seed;
    const Args compile = CompileArgs(Pt2(kModel), folder / ("package" + name), ranks, 61);
    const Outcome compiled = Execute(compile);
    EXPECT_EQ(compiled.code, 0) << Said(compile, compiled);
    const Args run = {"autosp-run",
                      "--nproc-per-node",
                      std::to_string(ranks),
                      (folder / ("package" + name)).string(),
                      "--golden",
                      Golden(kModel, "s61").string(),
                      "--init",
                      seed,
                      "--write-golden",
                      (folder / (name + ".safetensors")).string()};
    const Outcome ran = Execute(run);
    EXPECT_TRUE(fs::exists(folder / (name + ".safetensors"))) << Said(run, ran);
    return folder / (name + ".safetensors");
  };
  const fs::path one = golden_of(1, "7"), two = golden_of(2, "7"), other = golden_of(1, "8");
  const Outcome same = Execute(GoldenArgs(folder / "package2_7", 2, one, {"--init", "7"}));
  EXPECT_EQ(same.code, 0) << same.All();
  const Outcome different = Execute(GoldenArgs(folder / "package2_7", 2, other, {"--init", "7"}));
  EXPECT_EQ(different.code, 1) << different.All();
}

}  // namespace
}  // namespace autospc::e2e
