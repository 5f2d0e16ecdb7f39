// What can be wrong with a .pt2 file before its graph is read: each is one clear error.
#include "compiler/import/archive.h"

#include <gtest/gtest.h>

#include "tests/import/pt2_builder.h"

namespace autospc::import {
namespace {

using testing::json;
using testing::SmallModel;
using testing::TempFolder;
using testing::WriteFile;
using testing::Zip;

// The error of a file with these bytes.
Error ErrorOf(const std::string& bytes) {
  const TempFolder folder;
  WriteFile(folder / "m.pt2", bytes);
  const auto archive = OpenArchive(folder / "m.pt2");
  if (archive.ok()) {
    ADD_FAILURE() << "accepted";
    return {};
  }
  EXPECT_EQ(archive.error().code, Code::kBadInput);
  EXPECT_NE(archive.error().where.find("m.pt2"), std::string::npos);
  EXPECT_FALSE(archive.error().hint.empty()) << archive.error().what;
  return archive.error();
}

void ExpectError(const std::string& bytes, const std::string& what) {
  const Error e = ErrorOf(bytes);
  EXPECT_NE(e.what.find(what), std::string::npos) << e.Format();
}

std::string Good() { return Zip(SmallModel().Members()); }

TEST(Archive, AGoodFileIsRead) {
  const TempFolder folder;
  WriteFile(folder / "m.pt2", Good());
  const auto archive = OpenArchive(folder / "m.pt2");
  ASSERT_TRUE(archive.ok()) << archive.error().Format();
  EXPECT_EQ(archive->root, "m");
  const Payload& p = archive->weights.at("lin.weight");
  EXPECT_TRUE(p.has_data);
  EXPECT_EQ(p.source.bytes, 64);
  EXPECT_EQ(Good().substr(p.source.offset, 64), std::string(64, '\1'));
}

TEST(Archive, NoSuchFile) {
  const TempFolder folder;
  const auto archive = OpenArchive(folder / "none.pt2");
  ASSERT_FALSE(archive.ok());
  EXPECT_EQ(archive.error().code, Code::kBadInput);
  EXPECT_NE(archive.error().what.find("no such file"), std::string::npos);
  EXPECT_NE(OpenArchive(folder / "").error().what.find("directory"), std::string::npos);
}

TEST(Archive, EmptyAndOtherFiles) {
  ExpectError("", "empty");
  ExpectError("hello\n", "no zip archive");
  ExpectError(std::string(70000, 'x'), "no zip archive");
  ExpectError(Zip({{"notes.txt", "hello"}}), "no models/model.json");
  ExpectError(Zip({{"a/data.pkl", "x"}}), "TorchScript");
  ExpectError(Zip({{"version", "3"}}), "torch.save");
  ExpectError(Zip({{"a/models/other.json", "{}"}}), "other.json");
  ExpectError(Zip({{"a/models/model.json", "{}"}, {"b/models/model.json", "{}"}}), "two models");
}

// Cut anywhere, the file is refused and nothing crashes.
TEST(Archive, TruncatedAnywhere) {
  const std::string good = Good();
  for (size_t size = 1; size < good.size(); size += 97) ErrorOf(good.substr(0, size));
  ExpectError(good.substr(0, good.size() / 2), "truncated");
}

TEST(Archive, MemberNamesThatLeaveTheirFolder) {
  for (const char* name : {"../escape", "m/../../escape", "/etc/passwd", "m/..", "a\\b"}) {
    auto members = SmallModel().Members();
    members.emplace_back(name, "x");
    const Error e = ErrorOf(Zip(members));
    EXPECT_NE(e.what.find(name), std::string::npos) << e.Format();
  }
}

TEST(Archive, CompressedOrEncryptedMembers) {
  ExpectError(Zip(SmallModel().Members(), 8), "compressed");
  ExpectError(Zip(SmallModel().Members(), 0, 1), "encrypted");
}

TEST(Archive, TwoMembersOfOneName) {
  auto members = SmallModel().Members();
  members.push_back(members[0]);
  ExpectError(Zip(members), "two members");
}

// The directory's own fields, each set to its greatest value.
TEST(Archive, SizesAreHeldAgainstTheFile) {
  const std::string good = Good();
  const size_t entry = good.find("PK\1\2"), end = good.find("PK\5\6");
  const auto with = [&](size_t at, int bytes) {
    std::string bad = good;
    for (int i = 0; i < bytes; ++i) bad[at + i] = static_cast<char>(i == bytes - 1 ? 0x7f : 0xff);
    return bad;
  };
  std::string huge = with(entry + 20, 4);
  for (int i = 0; i < 4; ++i) huge[entry + 24 + i] = huge[entry + 20 + i];
  ExpectError(huge, "past the end of the file");
  ErrorOf(with(entry + 42, 4));                    // where the member's header lies
  ErrorOf(with(entry + 28, 2));                    // length of its name
  ErrorOf(with(entry + 30, 2));                    // length of its extra field
  ErrorOf(with(end + 10, 2));                      // number of entries
  ExpectError(with(end + 12, 4), "past the end");  // bytes of the directory
  ExpectError(with(end + 16, 4), "past the end");  // where it lies
}

// A flipped bit in the graph's text is noticed.
TEST(Archive, ADamagedModelJson) {
  std::string bad = Good();
  bad[bad.find("graph_module") + 3] ^= 1;
  ExpectError(bad, "checksum");
}

TEST(Archive, BrokenConfigs) {
  auto with_config = [](const std::string& text) {
    auto members = SmallModel().Members();
    for (auto& [name, data] : members) {
      if (name.ends_with("weights_config.json")) data = text;
    }
    return Zip(members);
  };
  ExpectError(with_config("{"), "broken");
  ExpectError(with_config("[]"), "broken");
  ExpectError(with_config(R"({"config": {"lin.weight": 3}})"), "at 'lin.weight'");
}

TEST(Archive, Weights) {
  auto b = SmallModel();
  b.members[0].second.resize(60);
  ExpectError(Zip(b.Members()), "needs 64 bytes");

  b = SmallModel();
  b.members.clear();
  ExpectError(Zip(b.Members()), "no member 'm/data/weights/weight_0'");

  b = SmallModel();
  b.weights["lin.weight"]["tensor_meta"]["storage_offset"]["as_int"] = 1;
  ExpectError(Zip(b.Members()), "needs 68 bytes");

  b = SmallModel();
  b.weights["lin.weight"]["use_pickle"] = true;
  ExpectError(Zip(b.Members()), "pickled");

  b = SmallModel();
  b.weights["lin.weight"]["tensor_meta"]["sizes"][0]["as_int"] = int64_t{1} << 62;
  ExpectError(Zip(b.Members()), "impossible");

  b = SmallModel();
  b.weights["lin.weight"]["tensor_meta"]["strides"][0]["as_int"] = -4;
  ExpectError(Zip(b.Members()), "impossible");

  b = SmallModel();
  b.weights["lin.weight"]["tensor_meta"] = nullptr;
  ExpectError(Zip(b.Members()), "no tensor");
}

TEST(Archive, ElementTypes) {
  EXPECT_EQ(*ExportDType(5), ir::DType::kInt64);
  EXPECT_EQ(*ExportDType(6), ir::DType::kFloat16);
  EXPECT_EQ(*ExportDType(13), ir::DType::kBFloat16);
  EXPECT_EQ(ExportDType(29).error().code, Code::kUnsupported);
  EXPECT_NE(ExportDType(29).error().what.find("float8_e4m3fn"), std::string::npos);
  EXPECT_EQ(ExportDType(99).error().code, Code::kBadInput);
}

}  // namespace
}  // namespace autospc::import
