#include "runtime/package/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/package/temp_folder.h"

namespace autospc {
namespace {

using program::DType;

std::string File(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header + data;
}

TEST(Safetensors, WritesAndReadsBack) {
  TempFolder folder;
  const std::vector<float> w = {1, 2, 3, 4, 5, 6};
  const std::vector<int64_t> ids = {7, 8, 9};
  const std::vector<float> big(64, 3.5f);
  const double loss = 0.25;
  const std::vector<TensorToWrite> tensors = {
      {"w", DType::Float32, {2, 3}, w.data(), nullptr}, {"ids", DType::Int64, {3}, ids.data(), nullptr},
      {"big", DType::Float32, {64}, big.data(), nullptr}, {"loss", DType::Float64, {}, &loss, nullptr},
      {"none", DType::Float32, {0, 4}, nullptr, nullptr}};
  ASSERT_TRUE(WriteSafetensors(folder / "a", tensors, {{"tied", "x,y"}}).ok());
  ASSERT_TRUE(WriteSafetensors(folder / "b", {tensors[4], tensors[2], tensors[0], tensors[3], tensors[1]}, {{"tied", "x,y"}}).ok());
  EXPECT_EQ(Slurp(folder / "a"), Slurp(folder / "b"));
  EXPECT_EQ(folder.Names(), (std::vector<std::string>{"a", "b"}));
  auto file = SafetensorsFile::Open(folder / "a");
  ASSERT_TRUE(file.ok()) << file.error().Format();
  EXPECT_EQ(file->metadata().at("tied"), "x,y");
  ASSERT_EQ(file->entries().size(), 5u);
  EXPECT_EQ(file->Find("w")->sizes, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(file->data(*file->Find("w")), w.data(), 24), 0);
  EXPECT_EQ(std::memcmp(file->data(*file->Find("ids")), ids.data(), 24), 0);
  EXPECT_EQ(std::memcmp(file->data(*file->Find("loss")), &loss, 8), 0);
  EXPECT_EQ(file->Find("none")->bytes, 0);
  EXPECT_EQ(file->Find("nothing"), nullptr);
  EXPECT_EQ(file->Find("big")->offset % 64, 0) << "a multiple of 64 bytes is aligned to 64";
  for (const auto& entry : file->entries()) EXPECT_EQ(entry.offset % (entry.dtype == DType::Float32 ? 4 : 8), 0) << entry.name;
}

// The layout that the format's specification shows, written by hand.
TEST(Safetensors, ReadsAForeignFile) {
  TempFolder folder;
  Spill(folder / "f", File(R"({"b":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]},"__metadata__":{"format":"pt"},)"
                           R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}   )", std::string("\0\0\x80\x3f\x80\x3f\x00\x40", 8)));
  auto file = SafetensorsFile::Open(folder / "f");
  ASSERT_TRUE(file.ok()) << file.error().Format();
  EXPECT_EQ(file->entries()[0].name, "a");
  EXPECT_EQ(file->entries()[1].dtype, DType::BFloat16);
  const WeightSource source = file->Source(file->entries()[1]);
  float values[2];
  ASSERT_TRUE(ReadWeight(source, DType::Float32, values).ok());
  EXPECT_EQ(values[0], 1);
  EXPECT_EQ(values[1], 2);
}

struct Broken {
  const char* name;
  std::string content;
  const char* says;
};

TEST(Safetensors, BrokenFilesAreRefused) {
  auto one = [](const char* dtype, const char* shape, const char* offsets) {
    return std::string("{\"a\":{\"dtype\":\"") + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}";
  };
  const std::string four(4, '\0'), eight(8, '\0');
  const Broken cases[] = {
      {"empty", "", "not a safetensors file"},
      {"text", "this is a text file, no tensors", "not a safetensors file"},
      {"a header longer than the file", File("{}", "").replace(0, 8, std::string("\xff\0\0\0\0\0\0\0", 8)), "header of 255 bytes"},
      {"a header of 2^63 bytes", File("{}", "").replace(0, 8, std::string("\0\0\0\0\0\0\0\x80", 8)), "not a safetensors file"},
      {"a header that is no JSON", File("{\"a\":", ""), "not JSON"},
      {"a list", File("[]", ""), "not an object"},
      {"a name twice", File(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", ""),
       "occurs twice"},
      {"no dtype", File(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", four), "dtype"},
      {"an unknown dtype", File(one("F12", "[1]", "[0,4]"), four), "'F12' is not supported"},
      {"cut off", File(one("F32", "[2]", "[0,8]"), four), "the file holds only 4"},
      {"offsets backwards", File(one("F32", "[1]", "[4,0]"), four), "data_offsets"},
      {"offsets negative", File(one("F32", "[1]", "[-4,0]"), four), "natural number"},
      {"three offsets", File(one("F32", "[1]", "[0,4,8]"), eight), "data_offsets"},
      {"a shape of other size", File(one("F32", "[3]", "[0,8]"), eight), "does not take 8 bytes"},
      {"a shape that overflows", File(one("F32", "[4611686018427387904,4]", "[0,8]"), eight), "does not take 8 bytes"},
      {"a size past 63 bits", File(one("F32", "[18446744073709551615]", "[0,8]"), eight), "natural number"},
      {"overlap", File(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})", eight),
       "overlap"},
      {"metadata of numbers", File(R"({"__metadata__":{"x":1}})", ""), "not a string"},
  };
  TempFolder folder;
  for (const Broken& broken : cases) {
    Spill(folder / "f", broken.content);
    auto file = SafetensorsFile::Open(folder / "f");
    ASSERT_FALSE(file.ok()) << broken.name;
    EXPECT_EQ(file.error().code, Code::kBadInput) << broken.name;
    EXPECT_NE(file.error().what.find(broken.says), std::string::npos) << broken.name << ": " << file.error().Format();
    EXPECT_NE(file.error().where.find(folder / "f"), std::string::npos) << broken.name;
  }
  EXPECT_EQ(SafetensorsFile::Open(folder / "absent").error().code, Code::kBadInput);
  EXPECT_NE(SafetensorsFile::Open(folder / ".").error().what.find("folder"), std::string::npos);
}

TEST(Safetensors, UnknownTypesCanBeSkipped) {
  TempFolder folder;
  Spill(folder / "f", File(R"({"a":{"dtype":"F8_E5M2","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                           std::string(8, '\0')));
  auto file = SafetensorsFile::Open(folder / "f", /*skip_unknown_types=*/true);
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(file->entries().size(), 1u);
  EXPECT_EQ(file->entries()[0].name, "b");
}

TEST(Safetensors, AWriterThatFailsLeavesNothing) {
  TempFolder folder;
  const float x = 1;
  TensorToWrite shorter{"t", DType::Float32, {2}, nullptr, [&](const ByteSink& sink) { return sink(&x, 4); }};
  EXPECT_EQ(WriteSafetensors(folder / "f", {shorter}).error().code, Code::kFailed);
  const TensorToWrite same{"t", DType::Float32, {1}, &x, nullptr};
  EXPECT_NE(WriteSafetensors(folder / "f", {same, same}).error().what.find("taken"), std::string::npos);
  EXPECT_EQ(WriteSafetensors(folder / "no/such/folder", {same}).error().code, Code::kUsage);
  EXPECT_TRUE(folder.Names().empty());
}

TEST(ReadWeight, StridedAndConverted) {
  TempFolder folder;
  std::vector<float> raw = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  Spill(folder / "raw", std::string(reinterpret_cast<char*>(raw.data()), 48));
  // [2, 1, 3] with strides (1, 99, 4) from element 1: 1 5 9 / 2 6 10.
  const WeightSource source{"t", DType::Float32, {2, 1, 3}, {1, 99, 4}, folder / "raw", 4, 44};
  double out[6];
  ASSERT_TRUE(ReadWeight(source, DType::Float64, out).ok());
  EXPECT_EQ(std::vector<double>(out, out + 6), (std::vector<double>{1, 5, 9, 2, 6, 10}));
  WeightSource expanded = source;  // stride 0, as expand leaves it
  expanded.sizes = {3, 2};
  expanded.strides = {0, 2};
  ASSERT_TRUE(ReadWeight(expanded, DType::Float64, out).ok());
  EXPECT_EQ(std::vector<double>(out, out + 6), (std::vector<double>{1, 3, 1, 3, 1, 3}));
}

TEST(ReadWeight, ShortOrWrongDataIsRefused) {
  TempFolder folder;
  Spill(folder / "raw", std::string(48, '\0'));
  const WeightSource good{"layer.w", DType::Float32, {12}, {1}, folder / "raw", 0, 48};
  float out[16];
  ASSERT_TRUE(ReadWeight(good, DType::Float32, out).ok());
  WeightSource bad = good;
  bad.sizes = {13};
  EXPECT_NE(ReadWeight(bad, DType::Float32, out).error().what.find("only 48 bytes"), std::string::npos);
  EXPECT_NE(ReadWeight(bad, DType::Float32, out).error().where.find("layer.w"), std::string::npos);
  bad.bytes = 52;  // the member claims more than the file has
  EXPECT_EQ(ReadWeight(bad, DType::Float32, out).error().code, Code::kBadInput);
  bad = good;
  bad.strides = {-1};
  EXPECT_EQ(ReadWeight(bad, DType::Float32, out).error().code, Code::kBadInput);
  bad = good;
  bad.strides = {int64_t{1} << 61};
  EXPECT_EQ(ReadWeight(bad, DType::Float32, out).error().code, Code::kBadInput);
  bad = good;
  bad.offset = -4;
  EXPECT_EQ(ReadWeight(bad, DType::Float32, out).error().code, Code::kBadInput);
  bad = good;
  bad.dtype = DType::Int32;
  EXPECT_NE(ReadWeight(bad, DType::Float32, out).error().what.find("i32 does not convert to f32"), std::string::npos);
  bad = good;
  bad.file = folder / "absent";
  EXPECT_EQ(ReadWeight(bad, DType::Float32, out).error().code, Code::kBadInput);
}

}  // namespace
}  // namespace autospc
