#include "runtime/data/stream.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/base/bytes.h"
#include "runtime/base/json_text.h"

namespace autospc::data {
namespace {

constexpr int64_t kMaxMessage = int64_t{1} << 32;  // bytes of a safetensors message: more than any batch of tokens
constexpr uint64_t kMaxHeader = 100 << 20;         // as of safetensors files

// How a safetensors file begins: the header's length, then the header's brace.
std::optional<uint64_t> HeaderLength(std::span<const std::byte> start) {
  uint64_t length = 0;
  if (start.size() < 9 || start[8] != std::byte{'{'}) return std::nullopt;
  std::memcpy(&length, start.data(), 8);
  return length <= kMaxHeader ? std::optional(length) : std::nullopt;
}

// The length of the safetensors file that begins here, of whose header all is there.
Result<int64_t> MessageBytes(std::span<const std::byte> start, uint64_t header, const std::string& where) {
  const std::string_view text(reinterpret_cast<const char*>(start.data()) + 8, header);
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, where));
  int64_t end = 0;
  for (const auto& item : json) {
    if (!item.is_object() || !item.contains("data_offsets")) continue;  // __metadata__
    ASSIGN_OR_RETURN(const nlohmann::json* const offsets, JsonArray(item, "data_offsets", where));
    if (offsets->size() != 2 || !(*offsets)[1].is_number_integer() || (*offsets)[1] < 0 ||
        (*offsets)[1] > kMaxMessage) {
      return Error{Code::kBadInput, "a tensor of a safetensors file in it has no place or is too large", where,
                   fmt::format("a batch holds at most {}", FormatBytes(kMaxMessage))};
    }
    end = std::max(end, (*offsets)[1].get<int64_t>());
  }
  return 8 + static_cast<int64_t>(header) + end;
}

}  // namespace

bool IsStream(const std::string& path) {
  struct stat info;
  if (path == "-") return true;
  return stat(path.c_str(), &info) == 0 && (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode) || S_ISSOCK(info.st_mode));
}

StreamBatches::StreamBatches(const Contract& contract, std::string name, std::string package,
                             std::optional<TokenType> type, int fd)
    : contract_(contract),
      name_(std::move(name)),
      package_(std::move(package)),
      type_(type),
      token_type_(type.value_or(TokenType::kUInt16)),
      fd_(fd) {}

StreamBatches::~StreamBatches() {
  if (fd_ > STDERR_FILENO) close(fd_);
}

Error StreamBatches::Bad(std::string what, std::string hint) const {
  return {Code::kBadInput, std::move(what), name_, std::move(hint)};
}

Result<std::unique_ptr<StreamBatches>> StreamBatches::Open(const Contract& contract, const std::string& path,
                                                           std::optional<TokenType> type, const std::string& package) {
  const int fd = path == "-" ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Error{Code::kBadInput, fmt::format("cannot read: {}", std::strerror(errno)), path, ""};
  return std::unique_ptr<StreamBatches>(
      new StreamBatches(contract, path == "-" ? "standard input" : path, package, type, fd));
}

Status StreamBatches::Seek(const DataPosition& position) {
  position_ = position;
  return Ok();
}

Status StreamBatches::Fill(size_t count) {
  if (start_ > 0 && buffer_.size() - start_ < count) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(start_));
    start_ = 0;
  }
  constexpr size_t kPiece = 1 << 20;
  while (buffer_.size() - start_ < count && !over_) {
    const size_t have = buffer_.size(), want = std::min(kPiece, start_ + count - have);
    buffer_.resize(have + want);  // grows with what comes, not with what is announced
    const ssize_t n = read(fd_, buffer_.data() + have, want);
    buffer_.resize(have + static_cast<size_t>(std::max<ssize_t>(n, 0)));
    if (n == 0) over_ = true;
    if (n < 0 && errno != EINTR) return Bad(fmt::format("cannot read: {}", std::strerror(errno)), "");
  }
  return Ok();
}

Status StreamBatches::Begin() {
  if (begun_) return Ok();
  begun_ = true;
  RETURN_IF_ERROR(Fill(12));
  tensors_ = HeaderLength(Ahead()).has_value();
  if (tensors_) return Ok();
  RETURN_IF_ERROR(CheckFillable(contract_, package_));
  int32_t magic = 0;
  if (Ahead().size() >= 12) std::memcpy(&magic, Ahead().data(), sizeof(magic));
  // The header itself is read where it is taken: several files may follow each other.
  headers_ = magic == kTokenMagic16 || magic == kTokenMagic32;
  return Ok();
}

Status StreamBatches::NextTensors() {
  batch_.reset();
  RETURN_IF_ERROR(Fill(9));
  if (Ahead().empty()) return Ok();
  const std::optional<uint64_t> header = HeaderLength(Ahead());
  if (!header) return Bad("what follows a batch is no safetensors file", "write one whole file after the other");
  RETURN_IF_ERROR(Fill(8 + *header));
  const auto cut = [&] { return Bad("it ends within a safetensors file", "was its writer stopped?"); };
  if (Ahead().size() < 8 + *header) return cut();
  ASSIGN_OR_RETURN(const int64_t bytes, MessageBytes(Ahead(), *header, name_));
  RETURN_IF_ERROR(Fill(static_cast<size_t>(bytes)));
  if (static_cast<int64_t>(Ahead().size()) < bytes) return cut();
  // As a file in memory, for the one reader of safetensors.
  const int fd = memfd_create("batch", MFD_CLOEXEC);
  if (fd < 0) return Error{Code::kFailed, fmt::format("no memory for a batch: {}", std::strerror(errno)), name_, ""};
  int64_t written = 0;
  while (written < bytes) {
    const ssize_t n = write(fd, Ahead().data() + written, static_cast<size_t>(bytes - written));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    written += n;
  }
  Result<MappedFile> mapped = MappedFile::Open(fmt::format("/proc/self/fd/{}", fd));
  close(fd);
  if (!mapped.ok() || written < bytes) {
    return Error{Code::kFailed, "no memory for a batch", name_, ""};
  }
  Drop(static_cast<size_t>(bytes));
  ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(std::move(mapped).value()));
  ASSIGN_OR_RETURN(TensorBatch batch, TensorBatch::Make(contract_, std::move(file), name_, /*scan=*/true));
  batch_ = std::move(batch);
  row_ = 0;
  return Ok();
}

Result<bool> StreamBatches::NextTokens(int64_t count) {
  while (static_cast<int64_t>(pending_.size()) < count) {
    if (headers_ && left_ == 0) {
      RETURN_IF_ERROR(Fill(kTokenHeaderBytes));
      if (Ahead().empty()) return false;
      ASSIGN_OR_RETURN(const std::optional<TokenHeader> header, ReadTokenHeader(Ahead(), name_));
      if (!header) return Bad("what follows an llm.c file is no such file", "write one whole file after the other");
      if (type_ && *type_ != header->type) {
        return Bad(
            fmt::format("its header says {}, and --token-dtype says {}", TokenName(header->type), TokenName(*type_)),
            "leave --token-dtype out: llm.c's files say it themselves");
      }
      Drop(kTokenHeaderBytes);
      left_ = header->tokens;
      token_type_ = header->type;
      continue;
    }
    int64_t take = count - static_cast<int64_t>(pending_.size());
    if (headers_) take = std::min(take, left_);
    const int64_t element = TokenSize(token_type_);
    RETURN_IF_ERROR(Fill(static_cast<size_t>(take * element)));
    const auto have = static_cast<int64_t>(Ahead().size());
    if (have < take * element) {
      if (headers_) return Bad(fmt::format("it ends {} tokens before its header's count", left_ - have / element), "");
      if (have % element != 0) {
        return Bad(fmt::format("its bytes are not a whole number of {} tokens", TokenName(token_type_)),
                   "give the tokens' type with --token-dtype");
      }
      return false;
    }
    const size_t old = pending_.size();
    pending_.resize(old + static_cast<size_t>(take));
    LoadTokens(token_type_, Ahead().data(), take, pending_.data() + old);
    Drop(static_cast<size_t>(take * element));
    left_ -= headers_ ? take : 0;
    const InputSpec* const tightest = contract_.Tightest();
    for (size_t i = old; tightest != nullptr && i < pending_.size(); ++i) {
      if (pending_[i] >= 0 && pending_[i] < tightest->limit) continue;
      return Bad(fmt::format("a token is {}, and {}", pending_[i], LimitText(*tightest)),
                 "is it of --token-dtype, and made with this model's tokenizer?");
    }
  }
  return true;
}

Result<BatchInfo> StreamBatches::Next(const std::vector<InputView>& inputs) {
  BatchInfo info;
  RETURN_IF_ERROR(Begin());
  ASSIGN_OR_RETURN(const Places places, PlacesOf(contract_, inputs));
  const int64_t rows = contract_.rows(), needed = contract_.tokens_a_row();
  const auto end = [&](const char* unit, int64_t have) -> Result<BatchInfo> {
    if (position_.sample == 0) {
      return Bad(fmt::format("it ended before the first batch, after {} {}", have, unit),
                 fmt::format("a batch of this package is {} rows of {} tokens", rows, needed));
    }
    info.end = true;
    return info;
  };
  if (!tensors_) {
    // Rows overlap by the token that labels are shifted by.
    const int64_t stride = contract_.length(), batch = rows * stride + (needed - stride);
    ASSIGN_OR_RETURN(const bool whole, NextTokens(batch));
    if (!whole)
      return end("tokens",
                 static_cast<int64_t>(pending_.size() + Ahead().size() / static_cast<size_t>(TokenSize(token_type_))));
    for (int64_t row = 0; row < rows; ++row) {
      info.tokens +=
          FillRow(contract_, places, row,
                  std::span(pending_).subspan(static_cast<size_t>(row * stride), static_cast<size_t>(needed)));
    }
    pending_.erase(pending_.begin(), pending_.begin() + rows * stride);
    position_.sample += rows;
    return info;
  }
  for (int64_t row = 0; row < rows; ++row) {
    if (!batch_ || row_ == batch_->rows()) RETURN_IF_ERROR(NextTensors());
    if (!batch_) return end("rows", row);
    info.tokens += batch_->Fill(places, row_++, row);
  }
  position_.sample += rows;
  return info;
}

}  // namespace autospc::data
