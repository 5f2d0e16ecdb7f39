#include "runtime/metrics/event_file.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <boost/crc.hpp>
#include <chrono>
#include <cstring>
#include <filesystem>

namespace autospc::metrics {
namespace {

namespace fs = std::filesystem;

// Little endian, as x86 and arm64 hold them.
template <typename T>
void PutFixed(std::string* out, T value) {
  static_assert(std::endian::native == std::endian::little);
  std::array<char, sizeof(T)> bytes;
  std::memcpy(bytes.data(), &value, sizeof(T));
  out->append(bytes.data(), bytes.size());
}

// The wire format of Protocol Buffers: a field is its number and type, then its value.
enum WireType : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void PutVarint(std::string* out, uint64_t value) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

void PutTag(std::string* out, int field, WireType type) { PutVarint(out, static_cast<uint64_t>(field) << 3 | type); }

void PutInt(std::string* out, int field, int64_t value) {
  PutTag(out, field, kVarint);
  PutVarint(out, static_cast<uint64_t>(value));
}

void PutBytes(std::string* out, int field, std::string_view value) {
  PutTag(out, field, kBytes);
  PutVarint(out, value.size());
  out->append(value);
}

// Event: 1 wall_time, 2 step, and one of 3 file_version, 5 summary, 7 session_log.
std::string Event(double wall_time, int64_t step, int field, std::string_view what) {
  std::string event;
  PutTag(&event, 1, kFixed64);
  PutFixed(&event, wall_time);
  PutInt(&event, 2, step);
  PutBytes(&event, field, what);
  return event;
}

// Summary: repeated 1 value, of which 1 is the tag and 2 the number.
std::string Summary(const Scalars& scalars) {
  std::string summary;
  for (const auto& [tag, number] : scalars) {
    std::string value;
    PutBytes(&value, 1, tag);
    PutTag(&value, 2, kFixed32);
    PutFixed(&value, static_cast<float>(number));
    PutBytes(&summary, 1, value);
  }
  return summary;
}

uint32_t Masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

double Now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

}  // namespace

uint32_t Crc32c(std::string_view data) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(data.data(), data.size());
  return crc.checksum();
}

std::string TfRecord(std::string_view data) {
  std::string record;
  PutFixed(&record, static_cast<uint64_t>(data.size()));
  PutFixed(&record, Masked(Crc32c(record)));
  record.append(data);
  PutFixed(&record, Masked(Crc32c(data)));
  return record;
}

Result<EventFile> EventFile::Create(const std::string& folder, int64_t first_step) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    return Error{Code::kFailed, "the folder can't be made: " + error.message(), folder,
                 "may this user write there, and is there no file of that name?"};
  }
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) std::strcpy(host.data(), "localhost");
  // TensorBoard reads a folder's files in the order of their names, which begin with the time in seconds.
  const auto seconds = static_cast<int64_t>(Now());
  fs::path path;
  for (int n = 0; path.empty() || fs::exists(path); ++n) {
    path = fs::path(folder) / fmt::format("events.out.tfevents.{:010}.{}.{}.{}", seconds, host.data(), getpid(), n);
  }
  ASSIGN_OR_RETURN(AppendFile file, AppendFile::Open(path.string()));
  EventFile events(std::move(file));
  RETURN_IF_ERROR(events.file_.Append(TfRecord(Event(Now(), 0, 3, "brain.Event:2"))));
  // SessionLog with 1 status START: what earlier files hold from that step on was told by a run that ended too early.
  std::string started;
  PutInt(&started, 1, 1);
  RETURN_IF_ERROR(events.file_.Append(TfRecord(Event(Now(), first_step, 7, started))));
  return events;
}

Status EventFile::Write(int64_t step, double wall_time, const Scalars& scalars) {
  return file_.Append(TfRecord(Event(wall_time, step, 5, Summary(scalars))));
}

}  // namespace autospc::metrics
