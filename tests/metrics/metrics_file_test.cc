#include "runtime/metrics/metrics_file.h"

#include <gtest/gtest.h>

#include "tests/package/temp_folder.h"
#include "runtime/base/files.h"

namespace autospc::metrics {
namespace {

std::string Content(const std::string& path) {
  Result<std::string> text = ReadFile(path, 1 << 20);
  return text.ok() ? *text : text.error().Format();
}

void Write(const std::string& path, int64_t first_step, std::vector<int64_t> steps, double loss) {
  Result<MetricsFile> file = MetricsFile::Open(path, first_step);
  ASSERT_TRUE(file.ok()) << file.error().Format();
  for (const int64_t step : steps) ASSERT_TRUE(file->Write(step, {{"loss", loss}}).ok());
}

TEST(MetricsFileTest, AResumedRunTellsEachStepOnce) {
  const TempFolder folder;
  const std::string path = folder / "metrics.jsonl";
  EXPECT_FALSE(HoldsMetrics(path));
  Write(path, 1, {1, 2, 3, 4}, 5);
  EXPECT_TRUE(HoldsMetrics(path));
  Write(path, 3, {3, 4}, 6);  // from the checkpoint behind step 2
  EXPECT_EQ(Content(path), "{\"step\": 1, \"loss\": 5}\n{\"step\": 2, \"loss\": 5}\n"
                           "{\"step\": 3, \"loss\": 6}\n{\"step\": 4, \"loss\": 6}\n");
  Write(path, 1, {1}, 7);  // anew
  EXPECT_EQ(Content(path), "{\"step\": 1, \"loss\": 7}\n");
}

TEST(MetricsFileTest, ALineCutOffByACrashGoes) {
  const TempFolder folder;
  const std::string path = folder / "metrics.jsonl";
  ASSERT_TRUE(WriteFileAtomically(path, "{\"step\": 1, \"loss\": 5}\n{\"step\": 2, \"lo").ok());
  Write(path, 3, {3}, 6);
  EXPECT_EQ(Content(path), "{\"step\": 1, \"loss\": 5}\n{\"step\": 3, \"loss\": 6}\n");
}

TEST(MetricsFileTest, AnotherFileIsLeftAlone) {
  const TempFolder folder;
  const std::string path = folder / "thesis.txt";
  ASSERT_TRUE(WriteFileAtomically(path, "years of work\n").ok());
  const auto file = MetricsFile::Open(path, 1);
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.error().code, Code::kBadInput);
  EXPECT_NE(file.error().what.find("line 1"), std::string::npos);
  EXPECT_EQ(Content(path), "years of work\n");
}

TEST(MetricsFileTest, WhatCanNotBeWrittenIsSaid) {
  const auto absent = MetricsFile::Open("/nonexistent/metrics.jsonl", 1);
  ASSERT_FALSE(absent.ok());
  EXPECT_EQ(absent.error().code, Code::kFailed);
  EXPECT_EQ(absent.error().where, "/nonexistent/metrics.jsonl");
  auto full = MetricsFile::Open("/dev/full", 1);
  ASSERT_TRUE(full.ok());
  const Status status = full->Write(1, {{"loss", 1}});
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().what.find("No space left"), std::string::npos);
}

}  // namespace
}  // namespace autospc::metrics
