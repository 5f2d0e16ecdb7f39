// Batches from a FIFO, in each of the three forms, cut at every byte, and with what does not belong there.
#include "runtime/data/stream.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <cstdio>
#include <thread>

#include "tests/data/batch.h"
#include "tests/data/tensor_files.h"
#include "tests/data/token_files.h"
#include "tests/package/temp_folder.h"

namespace autospc::data {
namespace {

using Doubles = std::vector<double>;

// Writes the text to a FIFO from another thread, as a loader does.
class Writer {
 public:
  explicit Writer(const std::string& text) {
    signal(SIGPIPE, SIG_IGN);  // a reader may stop before the end
    mkfifo(path().c_str(), 0600);
    thread_ = std::thread([this, text] {
      if (std::FILE* file = std::fopen(path().c_str(), "wb")) {
        std::fwrite(text.data(), 1, text.size(), file);
        std::fclose(file);
      }
    });
  }
  ~Writer() { thread_.join(); }
  std::string path() const { return folder_ / "fifo"; }

 private:
  TempFolder folder_;
  std::thread thread_;
};

struct Taken {
  Doubles ids, labels;  // of all batches
  int64_t tokens = 0, batches = 0;
  std::string error;
};

Taken TakeAll(const Contract& contract, const std::string& text, std::optional<TokenType> type = std::nullopt) {
  const Writer writer(text);
  Taken taken;
  EXPECT_TRUE(IsStream(writer.path()));
  auto source = StreamBatches::Open(contract, writer.path(), type, "package");
  EXPECT_TRUE(source.ok());
  const Memory memory(contract);
  while (true) {
    const Result<BatchInfo> info = (*source)->Next(memory.views());
    if (!info.ok()) taken.error = info.error().Format();
    if (!info.ok() || info->end) break;
    for (double id : memory.Get("input_ids")) taken.ids.push_back(id);
    for (double label : memory.Get("labels")) taken.labels.push_back(label);
    taken.tokens += info->tokens;
    ++taken.batches;
    EXPECT_EQ((*source)->position().sample, taken.batches * contract.rows());
  }
  return taken;
}

TEST(StreamTest, BareTokens) {
  const Taken shifted = TakeAll(Causal(2, 2, Labels::kShifted), TokenBytes(TokenType::kUInt16, Count(1, 10)));
  EXPECT_EQ(shifted.error, "");
  EXPECT_EQ(shifted.ids, (Doubles{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(shifted.labels, (Doubles{2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(shifted.tokens, 8);
  const Taken plain =
      TakeAll(Causal(1, 3, Labels::kUnshifted), TokenBytes(TokenType::kInt32, Count(1, 6)), TokenType::kInt32);
  EXPECT_EQ(plain.ids, (Doubles{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(plain.labels, plain.ids);
}

TEST(StreamTest, FilesOfLlmCOneAfterTheOther) {
  const std::string text = WithHeader(TokenType::kUInt16, Count(1, 3)) + WithHeader(TokenType::kUInt32, Count(4, 6));
  const Taken taken = TakeAll(Causal(1, 4, Labels::kShifted), text);
  EXPECT_EQ(taken.error, "");
  EXPECT_EQ(taken.ids, (Doubles{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(taken.labels, (Doubles{2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(StreamTest, SafetensorsBatchesOfAnyNumberOfRows) {
  const std::string text = Tensors({{"input_ids", {2, 2}, {1, 2, 3, 4}}, {"labels", {2, 2}, {2, 3, 4, 5}}}) +
                           Tensors({{"input_ids", {4, 1}, {5, 6, 7, 8}}, {"labels", {4, 1}, {6, 7, 8, 9}}}) +
                           Tensors({{"input_ids", {1, 2}, {9, 10}}, {"labels", {1, 2}, {10, 11}}});
  const Taken taken = TakeAll(Causal(2, 2, Labels::kShifted), text);
  EXPECT_EQ(taken.error, "");
  EXPECT_EQ(taken.ids, (Doubles{1, 2, 3, 4, 5, 0, 6, 0, 7, 0, 8, 0}));  // the last row alone is no batch
  EXPECT_EQ(taken.labels, (Doubles{2, 3, 4, 5, 6, -100, 7, -100, 8, -100, 9, -100}));
  EXPECT_EQ(taken.tokens, 8);
}

// Whole batches before the cut are given; the rest is an end or a mistake, as the form can tell.
TEST(StreamTest, CutAtEveryByte) {
  const Contract contract = Causal(1, 2, Labels::kShifted);
  const std::string message = Tensors({{"input_ids", {1, 2}, {1, 2}}, {"labels", {1, 2}, {2, 3}}});
  for (size_t cut = 1; cut < message.size(); ++cut) {
    const Taken taken = TakeAll(contract, message + message.substr(0, cut));
    EXPECT_EQ(taken.batches, 1) << cut;
    EXPECT_NE(taken.error, "") << cut;
  }
  const std::string tokens = TokenBytes(TokenType::kUInt16, Count(1, 12));
  for (size_t cut = 0; cut <= tokens.size(); ++cut) {
    const Taken taken = TakeAll(contract, tokens.substr(0, cut));
    EXPECT_EQ(taken.batches, static_cast<int64_t>(cut < 6 ? 0 : (cut / 2 - 1) / 2)) << cut;
    EXPECT_EQ(taken.error.empty(), cut >= 6 && cut % 2 == 0) << cut << taken.error;
  }
  const std::string header = WithHeader(TokenType::kUInt16, Count(1, 3));
  for (size_t cut : {size_t{12}, size_t{500}, header.size() - 3, header.size() - 1}) {
    EXPECT_NE(TakeAll(contract, header.substr(0, cut)).error, "") << cut;
  }
}

TEST(StreamTest, SaysWhatIsWrong) {
  const Contract contract = Causal(1, 2, Labels::kShifted);
  const auto has = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  EXPECT_TRUE(has(TakeAll(contract, "").error, "ended before the first batch, after 0 tokens"));
  EXPECT_TRUE(
      has(TakeAll(contract, TokenBytes(TokenType::kUInt16, {1, 1000, 3})).error, "a token is 1000, and the embedding"));
  EXPECT_TRUE(
      has(TakeAll(Causal(1, 2, Labels::kUnknown), TokenBytes(TokenType::kUInt16, {1, 2, 3})).error, "--labels"));
  const std::string message = Tensors({{"input_ids", {1, 2}, {1, 2}}, {"labels", {1, 2}, {2, 3}}});
  EXPECT_TRUE(has(TakeAll(contract, message + "something else").error, "no safetensors file"));
  EXPECT_TRUE(has(TakeAll(contract, Tensors({{"input_ids", {1, 2}, {1, 2000}}, {"labels", {1, 2}, {2, 3}}})).error,
                  "holds 2000"));
  EXPECT_TRUE(has(TakeAll(contract, WithHeader(TokenType::kUInt16, Count(1, 3)) + std::string(1024, 'x')).error,
                  "no such file"));
  EXPECT_TRUE(
      has(TakeAll(contract, WithHeader(TokenType::kUInt16, Count(1, 3)), TokenType::kUInt32).error, "--token-dtype"));
  // A header that announces more than a batch can be takes no memory for it.
  std::string hostile = std::string("\x60\0\0\0\0\0\0\0", 8) +
                        R"({"x":{"dtype":"I64","shape":[1],"data_offsets":[0,9223372036854775807]}})";
  hostile.resize(8 + 0x60, ' ');
  EXPECT_TRUE(has(TakeAll(contract, hostile).error, "too large"));
  const auto absent = StreamBatches::Open(contract, "/nonexistent/fifo", std::nullopt, "package");
  EXPECT_FALSE(absent.ok());
}

}  // namespace
}  // namespace autospc::data
