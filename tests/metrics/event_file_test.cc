// The frame against known sums, the messages field by field. tests/shows/seeing.py reads such files with TensorBoard itself.
#include "runtime/metrics/event_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>

#include "runtime/base/files.h"
#include "tests/package/temp_folder.h"

namespace autospc::metrics {
namespace {

uint32_t Fixed32(std::string_view at) {
  uint32_t value = 0;
  std::memcpy(&value, at.data(), 4);
  return value;
}

TEST(EventFileTest, Crc32cOfKnownTexts) {  // RFC 3720, B.4
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
}

TEST(EventFileTest, ARecordIsFramed) {
  const std::string record = TfRecord("hello");
  ASSERT_EQ(record.size(), 8 + 4 + 5 + 4u);
  EXPECT_EQ(record.substr(0, 8), std::string("\5\0\0\0\0\0\0\0", 8));
  const auto mask = [](uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; };
  EXPECT_EQ(Fixed32(std::string_view(record).substr(8)), mask(Crc32c(std::string_view(record).substr(0, 8))));
  EXPECT_EQ(Fixed32(std::string_view(record).substr(17)), mask(Crc32c("hello")));
}

// One message: fields by number; the value's bytes as they stand.
std::multimap<int, std::string> Fields(std::string_view message) {
  std::multimap<int, std::string> fields;
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0; !message.empty(); shift += 7) {
      const auto byte = static_cast<uint8_t>(message[0]);
      message.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    return value;
  };
  while (!message.empty()) {
    const uint64_t tag = varint();
    size_t bytes = (tag & 7) == 1 ? 8 : (tag & 7) == 5 ? 4 : 0;
    if ((tag & 7) == 0) {
      fields.emplace(static_cast<int>(tag >> 3), std::to_string(varint()));
      continue;
    }
    if ((tag & 7) == 2) bytes = varint();
    fields.emplace(static_cast<int>(tag >> 3), message.substr(0, bytes));
    message.remove_prefix(std::min(bytes, message.size()));
  }
  return fields;
}

std::vector<std::string> Records(const std::string& path) {
  Result<std::string> text = ReadFile(path, 1 << 20);
  std::vector<std::string> records;
  for (std::string_view rest = *text; rest.size() >= 16;) {
    uint64_t length = 0;
    std::memcpy(&length, rest.data(), 8);
    records.emplace_back(rest.substr(12, length));
    rest.remove_prefix(16 + length);
  }
  return records;
}

TEST(EventFileTest, ScalarsAreEvents) {
  const TempFolder folder;
  auto events = EventFile::Create(folder / "logs/run", 41);
  ASSERT_TRUE(events.ok()) << events.error().Format();
  EXPECT_NE(std::filesystem::path(events->path()).filename().string().find("tfevents"), std::string::npos);
  ASSERT_TRUE(events->Write(300, 12.5, {{"train/loss", 0.25}, {"train/lr", 1}}).ok());
  const std::vector<std::string> records = Records(events->path());
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(Fields(records[0]).find(3)->second, "brain.Event:2");
  EXPECT_EQ(Fields(records[1]).find(2)->second, "41");  // from here on earlier files don't count
  EXPECT_EQ(Fields(Fields(records[1]).find(7)->second).find(1)->second, "1");
  const auto event = Fields(records[2]);
  EXPECT_EQ(event.find(2)->second, "300");
  double time = 0;
  std::memcpy(&time, event.find(1)->second.data(), 8);
  EXPECT_EQ(time, 12.5);
  const auto summary = Fields(event.find(5)->second);
  ASSERT_EQ(summary.count(1), 2u);
  const auto value = Fields(summary.begin()->second);
  EXPECT_EQ(value.find(1)->second, "train/loss");
  float number = 0;
  std::memcpy(&number, value.find(2)->second.data(), 4);
  EXPECT_EQ(number, 0.25f);
}

TEST(EventFileTest, TwoRunsInOneFolderDoNotMeet) {
  const TempFolder folder;
  auto a = EventFile::Create(folder / "logs", 1), b = EventFile::Create(folder / "logs", 1);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_NE(a->path(), b->path());
}

TEST(EventFileTest, AFolderThatCanNotBeIsSaid) {
  const TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder / "file", "x").ok());
  const auto events = EventFile::Create(folder / "file/logs", 1);
  ASSERT_FALSE(events.ok());
  EXPECT_EQ(events.error().code, Code::kFailed);
}

}  // namespace
}  // namespace autospc::metrics
