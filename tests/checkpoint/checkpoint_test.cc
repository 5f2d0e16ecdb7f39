// Checkpoint folders: written by several ranks, read as any other number of them wants it, and every way in which one
// can be damaged.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>

#include "runtime/checkpoint/folder.h"
#include "runtime/checkpoint/layout.h"
#include "runtime/checkpoint/read.h"
#include "runtime/checkpoint/write.h"
#include "runtime/package/checkpoint.h"
#include "tests/checkpoint/sample.h"
#include "tests/package/temp_folder.h"

namespace autospc::checkpoint {
namespace {

namespace fs = std::filesystem;
using program::DType;

const std::atomic<bool> kNever{false};

Result<std::string> Write(const std::string& dir, int64_t step, int ranks, bool blocks, int64_t keep = 0, float salt = 0) {
  const Layout layout = MakeLayout(SampleProgram(ranks, blocks), {});
  RETURN_IF_ERROR(BeginCheckpoint(dir, step));
  for (int r = 0; r < ranks; ++r) {
    const auto snapshot = SnapshotOf(layout, r, salt);
    RETURN_IF_ERROR(WritePart(dir, step, layout, r, snapshot.data(), kNever));
  }
  Manifest header;
  header.step = step;
  header.seed = 0xffffffffffffffffu;
  header.data = R"({"epoch":1,"sample":12})";
  header.model = "sample";
  header.optimizer = "adamw";
  header.ranks = ranks;
  return FinishCheckpoint(dir, layout, header, keep, kNever);
}

std::string Must(const Result<std::string>& written) {
  EXPECT_TRUE(written.ok()) << written.error().Format();
  return written.ok() ? *written : "";
}

TEST(LayoutTest, EveryElementIsWrittenOnceAndThePartsAreEven) {
  for (int ranks : {1, 2, 3, 4, 8, 40}) {
    for (bool blocks : {false, true}) {
      const Layout layout = MakeLayout(SampleProgram(ranks, blocks), {});
      ASSERT_EQ(layout.tensors.size(), 5u) << "neither the step's scalar nor what lies in the arena";
      std::map<int, std::vector<int>> times;
      for (int r = 0; r < ranks; ++r) {
        const std::vector<Slice> slices = layout.SlicesOf(r);
        int64_t end = 0;
        for (const Slice& s : slices) {
          EXPECT_EQ(s.offset % 64, 0);
          EXPECT_GE(s.offset, end);
          end = s.offset + s.bytes;
          times[s.saved].resize(static_cast<size_t>(layout.tensors[s.saved].numel()));
          for (int64_t i = s.begin; i < s.end; ++i) ++times[s.saved][static_cast<size_t>(i)];
        }
        EXPECT_LE(end, SnapshotBytes(slices));
      }
      for (const auto& [saved, counts] : times) EXPECT_EQ(counts, std::vector<int>(counts.size(), 1)) << layout.tensors[saved].name;
      EXPECT_EQ(times.size(), 5u);
    }
  }
  const Layout two = MakeLayout(SampleProgram(2, false), {});
  EXPECT_NE(two.tensors[0].writer, two.tensors[3].writer) << "the two large ones";
}

TEST(LayoutTest, BuffersOutsideOfTheStateDictAreKeptWhereAStepWritesThem) {
  program::ProgramT p = SampleProgram(1, false);
  p.options = R"({"non_persistent_buffers":["mean"]})";
  EXPECT_EQ(MakeLayout(p, {}).tensors.size(), 4u);
  const Layout written = MakeLayout(p, {{2, true}});
  ASSERT_EQ(written.tensors.size(), 5u);
  EXPECT_EQ(written.tensors[2].name, "mean");
  EXPECT_FALSE(written.tensors[2].weight) << "transformers would not know it";
}

TEST(CheckpointTest, WhatManyRanksWroteAnyNumberOfThemReads) {
  TempFolder folder;
  for (int ranks : {1, 2, 4, 20}) {
    for (bool blocks : {false, true}) {
      SCOPED_TRACE(testing::Message() << ranks << " ranks, blocks " << blocks);
      const std::string path = Must(Write(folder / "c", 7, ranks, blocks));
      EXPECT_EQ(fs::path(path).filename(), "step-00000007");
      const auto reader = Reader::Open(path);
      ASSERT_TRUE(reader.ok()) << reader.error().Format();
      const Manifest& m = reader->manifest();
      EXPECT_EQ(m.step, 7);
      EXPECT_EQ(m.seed, 0xffffffffffffffffu);
      EXPECT_EQ(m.data, R"({"epoch":1,"sample":12})");
      EXPECT_EQ(m.ranks, ranks);
      for (size_t i = 0; i < m.files.size(); ++i) EXPECT_TRUE(reader->Verify(i).ok());
      ASSERT_EQ(m.tensors.size(), 5u);
      EXPECT_EQ(reader->Find("w.exp_avg")->sizes, (std::vector<int64_t>{3, 5})) << "of the parameter, blocks or not";
      for (const auto& [name, entry] : m.tensors) {
        for (int parts : {1, 2, 3, 8}) {
          const int64_t n = entry.numel(), block = (n + parts - 1) / parts;
          for (int64_t begin = 0; begin < n; begin += block) {
            const int64_t end = std::min(n, begin + block);
            std::vector<float> got(static_cast<size_t>(end - begin)), expected;
            for (int64_t k = begin; k < end; ++k) expected.push_back(ElementOf(name, k));
            ASSERT_TRUE(reader->Read(name, begin, end, DType::Float32, got.data()).ok());
            EXPECT_EQ(got, expected) << name << " from " << begin;
          }
        }
      }
      std::vector<double> wide(4);
      ASSERT_TRUE(reader->Read("b", 0, 4, DType::Float64, wide.data()).ok());
      EXPECT_EQ(wide[3], ElementOf("b", 3));
    }
  }
  EXPECT_FALSE(fs::exists(folder / "c/step-00000007/part-00001.json"));
}

TEST(CheckpointTest, ItsFolderIsACheckpointAsHuggingFaceLaysItOut) {
  TempFolder folder;
  for (int ranks : {1, 4}) {
    const std::string path = Must(Write(folder / "c", ranks, ranks, true));
    const auto weights = autospc::Checkpoint::Open(path);
    ASSERT_TRUE(weights.ok()) << weights.error().Format();
    EXPECT_EQ(weights->size(), 3u) << "parameters and buffers, no states";
    EXPECT_TRUE(weights->Resolve({{"w", DType::Float32, {3, 5}}, {"mean", DType::Float32, {2}}}).ok());
    EXPECT_NE(Slurp(path + (ranks == 1 ? "/model.safetensors" : "/model-00001-of-00004.safetensors")).find(R"("format":"pt")"),
              std::string::npos);
  }
}

class Damaged : public testing::Test {
 protected:
  void SetUp() override { path = Must(Write(folder / "c", 3, 2, true)); }
  std::string What() {
    const auto reader = Reader::Open(path);
    if (!reader.ok()) {
      EXPECT_EQ(reader.error().code, Code::kBadInput);
      EXPECT_FALSE(reader.error().where.empty()) << reader.error().Format();
      return reader.error().Format();
    }
    for (size_t i = 0; i < reader->manifest().files.size(); ++i) {
      if (const Status verified = reader->Verify(i); !verified.ok()) return verified.error().Format();
    }
    return "";
  }
  TempFolder folder;
  std::string path;
};

TEST_F(Damaged, NoManifest) {
  fs::remove(path + "/manifest.json");
  EXPECT_NE(What().find("no manifest.json"), std::string::npos) << What();
}

TEST_F(Damaged, AFileIsMissingOrCutOff) {
  const std::string shard = path + "/optimizer-00002-of-00002.safetensors", content = Slurp(shard);
  fs::resize_file(shard, content.size() - 1);
  EXPECT_NE(What().find(fmt::format("has {} bytes, the manifest says {}", content.size() - 1, content.size())), std::string::npos)
      << What();
  fs::remove(shard);
  EXPECT_NE(What().find("lacks its file optimizer-00002-of-00002.safetensors"), std::string::npos) << What();
}

TEST_F(Damaged, AnyByteOfAnyFile) {
  ASSERT_EQ(What(), "");
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string file = entry.path().string(), content = Slurp(file);
    const std::string name = entry.path().filename().string();
    for (size_t i = 0; i < content.size(); i += name == "manifest.json" ? 5 : 37) {
      std::string changed = content;
      changed[i] = static_cast<char>(changed[i] ^ 4);
      Spill(file, changed);
      // White space between the manifest's tokens is the only thing that says nothing, and this makes other characters of it.
      EXPECT_NE(What(), "") << name << " byte " << i;
    }
    Spill(file, content);
  }
  EXPECT_EQ(What(), "");
}

TEST_F(Damaged, AManifestOfAnotherVersionOrKind) {
  std::string text = Slurp(path + "/manifest.json");
  Spill(path + "/manifest.json", "{}");
  EXPECT_NE(What().find("not a checkpoint's manifest"), std::string::npos) << What();
  text.replace(text.find("\"version\": 1"), 12, "\"version\": 9");
  Spill(path + "/manifest.json", text);
  const auto reader = Reader::Open(path);
  ASSERT_FALSE(reader.ok());
  EXPECT_NE(reader.error().Format().find("a checkpoint of version 9, this build reads 1"), std::string::npos);
}

// Lawful JSON with a lawful digest, whose numbers make no sense.
TEST(ManifestTest, NumbersAreChecked) {
  Manifest good;
  good.files = {{"a.safetensors", 100, "00"}, {"b.safetensors", 100, "00"}};
  good.tensors["t"] = {DType::Float32, {4, 5}, 0, 2, 10};
  EXPECT_TRUE(ParseManifest(ToJson(good), "x").ok());
  const auto what = [](const Manifest& m) {
    const auto parsed = ParseManifest(ToJson(m), "x");
    return parsed.ok() ? "" : parsed.error().Format();
  };
  Manifest bad = good;
  bad.tensors["t"].file = 1;
  EXPECT_NE(what(bad).find("does not list"), std::string::npos) << what(bad);
  bad = good;
  bad.tensors["t"].block = 9;
  EXPECT_NE(what(bad).find("2 blocks of 9 elements are not 20"), std::string::npos) << what(bad);
  bad = good;
  bad.tensors["t"].sizes = {int64_t{1} << 40, int64_t{1} << 40};
  EXPECT_NE(what(bad).find("sizes"), std::string::npos) << what(bad);
  bad = good;
  bad.files[0].name = "../a.safetensors";
  EXPECT_NE(what(bad).find("not a file name"), std::string::npos) << what(bad);
  bad = good;
  bad.step = -1;
  EXPECT_NE(what(bad).find("\"step\" is -1"), std::string::npos) << what(bad);
}

TEST(FolderTest, NamesOfSteps) {
  EXPECT_EQ(FolderName(200), "step-00000200");
  EXPECT_EQ(StepOfFolder("step-00000200"), 200);
  EXPECT_EQ(StepOfFolder(FolderName(123456789012)), 123456789012);
  for (const char* name : {"step-200", ".step-00000200.tmp", "step-0000020x", "step-00000200.old", "step-000000200", "step--0000020"})
    EXPECT_FALSE(StepOfFolder(name)) << name;
}

TEST(FolderTest, TheLatestAreKeptAndUnfinishedOnesGo) {
  TempFolder folder;
  for (int64_t step : {1, 2, 30}) Must(Write(folder / "c", step, 1, false));
  fs::create_directory(folder / "c/step-00000004");  // damaged: no manifest
  fs::create_directory(folder / "c/.step-00000003.tmp");
  Spill(folder / "c/notes.txt", "mine");
  Must(Write(folder / "c", 5, 1, false, /*keep=*/2));
  const auto names = [&] {
    std::vector<std::string> all;
    for (const auto& e : fs::directory_iterator(folder / "c")) all.push_back(e.path().filename().string());
    std::sort(all.begin(), all.end());
    return all;
  };
  EXPECT_EQ(names(), (std::vector<std::string>{"notes.txt", "step-00000002", "step-00000004", "step-00000005", "step-00000030"}))
      << "the two latest up to step 5, and nothing that is not an older checkpoint";
  const auto listed = ListCheckpoints(folder / "c");
  ASSERT_TRUE(listed.ok());
  ASSERT_EQ(listed->size(), 4u);
  EXPECT_EQ((*listed)[0].step, 30);
}

TEST(FolderTest, WhatResumeNames) {
  TempFolder folder;
  const auto missing = FindCandidates(folder / "nothing");
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().what.find("no such folder"), std::string::npos);
  fs::create_directory(folder / "c");
  const auto none = FindCandidates(folder / "c");
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.error().hint.find("--resume auto"), std::string::npos);
  Must(Write(folder / "c", 1, 1, false));
  Must(Write(folder / "c", 2, 1, false));
  const auto all = FindCandidates(folder / "c");
  ASSERT_TRUE(all.ok());
  ASSERT_EQ(all->checkpoints.size(), 2u);
  EXPECT_FALSE(all->chosen);
  EXPECT_EQ(all->checkpoints[0].step, 2);
  fs::rename(folder / "c/step-00000001", folder / "c/best");
  for (const char* one : {"c/step-00000002/", "c/best"}) {
    const auto chosen = FindCandidates(folder / one);
    ASSERT_TRUE(chosen.ok()) << one;
    EXPECT_TRUE(chosen->chosen) << one;
    EXPECT_TRUE(Reader::Open(chosen->checkpoints[0].path).ok()) << one;
  }
}

TEST(CheckpointTest, AnotherOfTheSameStepReplacesIt) {
  TempFolder folder;
  Must(Write(folder / "c", 3, 1, false));
  const std::string path = Must(Write(folder / "c", 3, 1, false, 0, 0.25f));
  const auto reader = Reader::Open(path);
  ASSERT_TRUE(reader.ok());
  float first = 0;
  ASSERT_TRUE(reader->Read("w", 0, 1, DType::Float32, &first).ok());
  EXPECT_EQ(first, ElementOf("w", 0, 0.25f));
  EXPECT_EQ(ListCheckpoints(folder / "c")->size(), 1u);
  EXPECT_FALSE(fs::exists(TemporaryFolder(folder / "c", 3)));
}

// A limit on the size of a file stands for a full disk: the same call fails, at the same place.
TEST(CheckpointTest, AFullDiskLeavesTheOlderOne) {
  TempFolder folder;
  Must(Write(folder / "c", 3, 2, false));
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{300, 300};
    setrlimit(RLIMIT_FSIZE, &limit);
    const auto written = Write(folder / "c", 4, 2, false);
    _exit(!written.ok() && written.error().code == Code::kFailed &&
                  written.error().what.find("File too large") != std::string::npos &&
                  written.error().where.find("safetensors") != std::string::npos
              ? 0
              : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  const auto listed = ListCheckpoints(folder / "c");
  ASSERT_EQ(listed->size(), 1u);
  EXPECT_EQ((*listed)[0].step, 3);
  EXPECT_TRUE(Reader::Open((*listed)[0].path).ok());
  Must(Write(folder / "c", 5, 2, false));
  EXPECT_FALSE(fs::exists(TemporaryFolder(folder / "c", 4))) << "the next one removes what was left";
}

TEST(CheckpointTest, GivenUpWhileItWaitsOrWrites) {
  TempFolder folder;
  const Layout layout = MakeLayout(SampleProgram(2, false), {});
  ASSERT_TRUE(BeginCheckpoint(folder / "c", 1).ok());
  const std::atomic<bool> cancelled{true};
  const auto snapshot = SnapshotOf(layout, 0);
  const Status part = WritePart(folder / "c", 1, layout, 0, snapshot.data(), cancelled);
  ASSERT_FALSE(part.ok());
  EXPECT_EQ(part.error().code, Code::kInterrupted);
  Manifest header;
  header.step = 1;
  const auto finished = FinishCheckpoint(folder / "c", layout, header, 0, cancelled);
  ASSERT_FALSE(finished.ok());
  EXPECT_EQ(finished.error().code, Code::kInterrupted);
  EXPECT_EQ(ListCheckpoints(folder / "c")->size(), 0u);
}

}  // namespace
}  // namespace autospc::checkpoint
