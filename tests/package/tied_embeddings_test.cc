// Which pairs of parameters a checkpoint ties.
#include "runtime/package/tied_embeddings.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/package/temp_folder.h"

namespace autospc {
namespace {

using program::DType;

const std::vector<float> kOnes(8, 1.0f), kTwos(8, 2.0f);

TensorToWrite T(const std::string& name, const std::vector<float>& data, std::vector<int64_t> sizes = {4, 2}) {
  return {name, DType::Float32, std::move(sizes), data.data(), nullptr};
}
WantedTensor Matrix(const std::string& name) { return {name, DType::Float32, {4, 2}}; }

// The heads of the pairs that a folder with these tensors and this config.json ties ("": there is none).
std::vector<std::string> Tied(const std::string& config, const std::vector<TensorToWrite>& tensors,
                              const std::vector<TieCandidate>& candidates, const std::string& prefix = "") {
  TempFolder folder;
  EXPECT_TRUE(WriteSafetensors(folder / "model.safetensors", tensors).ok());
  if (!config.empty()) std::ofstream(folder / "config.json") << config;
  std::vector<std::string> heads;
  // The folder, or the file in it.
  for (const std::string& path :
       {folder / "model.safetensors", std::filesystem::path(folder / "model.safetensors").parent_path().string()}) {
    const auto checkpoint = Checkpoint::Open(path);
    EXPECT_TRUE(checkpoint.ok());
    const auto tied = TiedByCheckpoint(*checkpoint, candidates, prefix);
    EXPECT_TRUE(tied.ok()) << tied.error().Format();
    std::vector<std::string> found;
    for (const TieCandidate& c : *tied) found.push_back(c.head.name);
    if (path.ends_with(".safetensors")) heads = found;
    EXPECT_EQ(found, heads) << path;
  }
  return heads;
}

const std::string kTies = R"({"tie_word_embeddings": true})";
const std::vector<std::string> kHead = {"head"}, kNone;

TEST(TiedEmbeddings, AHeadThatTheCheckpointLacks) {
  EXPECT_EQ(Tied(kTies, {T("embed", kOnes)}, {{Matrix("head"), Matrix("embed")}}), kHead);
  EXPECT_EQ(Tied(kTies, {T("model.embed", kOnes)}, {{Matrix("head"), Matrix("embed")}}, "model"), kHead);
}

TEST(TiedEmbeddings, AHeadThatIsTheSame) {
  EXPECT_EQ(Tied(kTies, {T("embed", kOnes), T("head", kOnes)}, {{Matrix("head"), Matrix("embed")}}), kHead);
  EXPECT_EQ(Tied(kTies, {T("embed", kOnes), T("head", kTwos)}, {{Matrix("head"), Matrix("embed")}}), kNone);
}

TEST(TiedEmbeddings, OnlyByTheWordOfTheConfig) {
  for (const char* config :
       {"", "{", "[]", "{}", R"({"tie_word_embeddings": false})", R"({"tie_word_embeddings": "true"})"}) {
    EXPECT_EQ(Tied(config, {T("embed", kOnes)}, {{Matrix("head"), Matrix("embed")}}), kNone) << config;
  }
}

TEST(TiedEmbeddings, OnlyToAnEmbeddingThatIsThere) {
  EXPECT_EQ(Tied(kTies, {T("other", kOnes)}, {{Matrix("head"), Matrix("embed")}}), kNone);
  EXPECT_EQ(Tied(kTies, {T("embed", kOnes, {2, 4})}, {{Matrix("head"), Matrix("embed")}}), kNone) << "of another shape";
  EXPECT_EQ(Tied(kTies, {T("words", kOnes)}, {{Matrix("head"), Matrix("embed")}, {Matrix("head"), Matrix("words")}}), kHead);
  EXPECT_EQ(Tied(kTies, {T("embed", kOnes)}, {}), kNone);
}

}  // namespace
}  // namespace autospc
