#include "runtime/package/checkpoint.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/package/temp_folder.h"

namespace autospc {
namespace {

using program::DType;
const std::vector<float> kZeros(64, 0.0f);

TensorToWrite T(const std::string& name, std::vector<int64_t> sizes = {2}, DType dtype = DType::Float32) {
  return {name, dtype, std::move(sizes), kZeros.data(), nullptr};
}
WantedTensor W(const std::string& name, std::vector<int64_t> sizes = {2}, DType dtype = DType::Float32) {
  return {name, dtype, std::move(sizes)};
}

Checkpoint Of(const TempFolder& folder, const std::vector<TensorToWrite>& tensors) {
  EXPECT_TRUE(WriteSafetensors(folder / "c.safetensors", tensors).ok());
  auto checkpoint = Checkpoint::Open(folder / "c.safetensors");
  EXPECT_TRUE(checkpoint.ok());
  return std::move(checkpoint).value();
}

// Where the bytes of the first wanted tensor were found: their offsets tell tensors of one file apart.
int64_t OffsetOf(const TempFolder& folder, const std::string& name) {
  auto file = SafetensorsFile::Open(folder / "c.safetensors");
  return file->Find(name)->offset;
}

TEST(Checkpoint, ExactNamesAndOtherFloatTypes) {
  TempFolder folder;
  const Checkpoint c = Of(folder, {T("a.w", {2}, DType::BFloat16), T("b"), T("unused")});
  auto found = c.Resolve({W("b"), W("a.w")});
  ASSERT_TRUE(found.ok()) << found.error().Format();
  EXPECT_EQ((*found)[0].name, "b");
  EXPECT_EQ((*found)[1].dtype, DType::BFloat16);
  EXPECT_EQ((*found)[1].offset, OffsetOf(folder, "a.w"));
}

TEST(Checkpoint, OnePrefixIsTakenOffOrPutBefore) {
  TempFolder folder;
  const Checkpoint c = Of(folder, {T("model.embed"), T("model.norm"), T("head")});
  auto off = c.Resolve({W("model.model.embed"), W("model.model.norm"), W("model.head")});
  ASSERT_TRUE(off.ok()) << off.error().Format();
  EXPECT_EQ((*off)[2].offset, OffsetOf(folder, "head"));
  EXPECT_EQ((*off)[2].name, "model.head") << "the wanted name stays";
  auto before = c.Resolve({W("embed"), W("norm")});
  ASSERT_TRUE(before.ok()) << before.error().Format();
  EXPECT_EQ((*before)[1].offset, OffsetOf(folder, "model.norm"));
}

TEST(Checkpoint, APrefixThatIsNotUniqueIsAsked) {
  TempFolder folder;
  const Checkpoint c = Of(folder, {T("ema.w"), T("raw.w")});
  auto found = c.Resolve({W("w")});
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().code, Code::kBadInput);
  EXPECT_NE(found.error().what.find("'ema.'"), std::string::npos) << found.error().Format();
  EXPECT_NE(found.error().what.find("'raw.'"), std::string::npos);
  EXPECT_NE(found.error().hint.find("--weights-prefix"), std::string::npos);
  for (const char* prefix : {"raw.", "raw", "=raw."}) {
    auto chosen = c.Resolve({W("w")}, {{}, prefix, false});
    ASSERT_TRUE(chosen.ok()) << prefix << chosen.error().Format();
    EXPECT_EQ((*chosen)[0].offset, OffsetOf(folder, "raw.w")) << prefix;
  }
}

TEST(Checkpoint, ExplicitPrefixes) {
  TempFolder folder;
  const Checkpoint c = Of(folder, {T("w"), T("transformer.v")});
  EXPECT_TRUE(c.Resolve({W("net.w")}, {{}, "net.", false}).ok()) << "taken off where all begin with it";
  EXPECT_TRUE(c.Resolve({W("model.v")}, {{}, "model.=transformer.", false}).ok()) << "replaced";
  EXPECT_FALSE(c.Resolve({W("model.v")}, {{}, "model.=other.", false}).ok());
}

// FACTS: a graph uses lm_head.weight, its checkpoint holds model.embed_tokens.weight alone.
TEST(Checkpoint, ATiedNameFindsTheTensor) {
  TempFolder folder;
  const Checkpoint c = Of(folder, {T("model.embed_tokens.weight"), T("model.norm.weight")});
  const std::vector<WantedTensor> wanted = {W("model.lm_head.weight"), W("model.model.norm.weight")};
  EXPECT_FALSE(c.Resolve(wanted).ok());
  auto found = c.Resolve(wanted, {{{"model.model.embed_tokens.weight", "model.lm_head.weight"}}, "", true});
  ASSERT_TRUE(found.ok()) << found.error().Format();
  EXPECT_EQ((*found)[0].offset, OffsetOf(folder, "model.embed_tokens.weight"));
}

TEST(Checkpoint, NamesUnderWhichItHoldsWhatIsWanted) {
  TempFolder folder;
  const Checkpoint c = Of(folder, {T("embed.weight"), T("head.weight"), T("norm")});
  const std::vector<WantedTensor> wanted = {W("model.head.weight"), W("model.norm"), W("model.absent")};
  const auto names = c.NamesOf(wanted, {{{"model.head.weight", "model.embed.weight"}}, "", false});
  ASSERT_TRUE(names.ok()) << names.error().Format();
  EXPECT_EQ(*names, (std::vector<std::vector<std::string>>{{"head.weight", "embed.weight"}, {"norm"}, {}}));
}

TEST(Checkpoint, EverythingThatIsWrongIsSaidAtOnce) {
  TempFolder folder;
  const Checkpoint c = Of(folder, {T("a"), T("b", {3}), T("c", {2}, DType::Int64), T("spare")});
  const std::vector<WantedTensor> wanted = {W("a"), W("b"), W("c"), W("d"), W("e")};
  auto found = c.Resolve(wanted);
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().code, Code::kBadInput);
  const std::string& what = found.error().what;
  for (const char* part : {"2 of 5 missing", "d f32 [2]", "e f32 [2]", "b: f32 [2] is wanted, the checkpoint holds f32 [3]",
                           "c: f32 [2] is wanted, the checkpoint holds i64 [2]", "1 that nobody wants:\n    spare"})
    EXPECT_NE(what.find(part), std::string::npos) << part << "\n" << what;
  EXPECT_TRUE(c.Resolve({W("a"), W("b", {3}), W("c", {2}, DType::Int64)}).ok()) << "extra tensors alone are no error";
  auto strict = c.Resolve({W("a"), W("b", {3}), W("c", {2}, DType::Int64)}, {{}, "", true});
  ASSERT_FALSE(strict.ok());
  EXPECT_NE(strict.error().what.find("1 that nobody wants:\n    spare"), std::string::npos) << strict.error().what;
}

class Sharded : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(folder / "hf");
    ASSERT_TRUE(WriteSafetensors(folder / "hf/one.safetensors", {T("a")}).ok());
    ASSERT_TRUE(WriteSafetensors(folder / "hf/two.safetensors", {T("b")}).ok());
    Index(R"({"metadata":{},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  }
  void Index(const std::string& text) { Spill(folder / "hf/model.safetensors.index.json", text); }
  std::string What() {
    auto c = Checkpoint::Open(folder / "hf");
    EXPECT_TRUE(c.ok() || c.error().code == Code::kBadInput);
    return c.ok() ? "" : c.error().Format();
  }
  TempFolder folder;
};

TEST_F(Sharded, IsReadByItsIndex) {
  auto c = Checkpoint::Open(folder / "hf");
  ASSERT_TRUE(c.ok()) << c.error().Format();
  auto found = c->Resolve({W("a"), W("b")});
  ASSERT_TRUE(found.ok());
  EXPECT_NE((*found)[0].file, (*found)[1].file);
}

TEST_F(Sharded, ASingleFileInAFolder) {
  std::filesystem::create_directory(folder / "single");
  ASSERT_TRUE(WriteSafetensors(folder / "single/model.safetensors", {T("a")}).ok());
  EXPECT_TRUE(Checkpoint::Open(folder / "single").ok());
}

TEST_F(Sharded, Faults) {
  Index(R"({"weight_map":{"a":"one.safetensors","b":"three.safetensors"}})");
  EXPECT_NE(What().find("three.safetensors"), std::string::npos) << What();
  Index(R"({"weight_map":{"a":"one.safetensors","b":"../two.safetensors"}})");
  EXPECT_NE(What().find("not a file name"), std::string::npos) << What();
  Index(R"({"weight_map":{"a":"one.safetensors","b":"one.safetensors"}})");
  EXPECT_NE(What().find("b in one.safetensors"), std::string::npos) << What();
  Index(R"({"no_map":{}})");
  EXPECT_NE(What().find("weight_map"), std::string::npos) << What();
  Index("[");
  EXPECT_NE(What().find("not JSON"), std::string::npos) << What();
  Index(R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  ASSERT_TRUE(WriteSafetensors(folder / "hf/two.safetensors", {T("a"), T("b")}).ok());
  EXPECT_NE(What().find("two files"), std::string::npos) << What();
  Spill(folder / "hf/two.safetensors", "short");
  EXPECT_NE(What().find("two.safetensors"), std::string::npos) << What();
  std::filesystem::remove(folder / "hf/model.safetensors.index.json");
  EXPECT_NE(What().find("holds neither"), std::string::npos) << What();
  EXPECT_EQ(Checkpoint::Open(folder / "absent").error().code, Code::kBadInput);
}

}  // namespace
}  // namespace autospc
