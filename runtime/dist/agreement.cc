#include "runtime/dist/agreement.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "runtime/base/sha256.h"

// Of LibTorch. ATen/Version.h would bring in all of its context; the second stands in aoti_torch's C interface.
namespace at {
std::string get_cpu_capability();
}
extern "C" uint64_t aoti_torch_abi_version();

namespace autospc {
namespace {

constexpr int64_t kEnd = 64 << 10;
constexpr char kNone[] = "(none)";

// The library's own word on itself: the headers of the build say only what was there then.
std::string TorchVersion() {
  const uint64_t version = aoti_torch_abi_version();
  return fmt::format("{}.{}.{}", version >> 56, version >> 48 & 0xff, version >> 40 & 0xff);
}

std::string ValueOf(const std::vector<Term>& terms, const std::string& name) {
  for (const Term& t : terms) {
    if (t.name == name) return t.value;
  }
  return kNone;
}

std::string FingerprintOfFile(const std::string& path) {
  struct stat status {};
  // Asked before it is opened: a FIFO's writer takes whoever opens it for its reader.
  if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return "";
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    if (fd >= 0) close(fd);
    return "";
  }
  std::string ends;
  std::string buffer(kEnd, '\0');
  for (const int64_t at : {int64_t{0}, std::max<int64_t>(kEnd, status.st_size - kEnd)}) {
    const ssize_t n = pread(fd, buffer.data(), buffer.size(), at);
    if (n > 0) ends.append(buffer, 0, static_cast<size_t>(n));
  }
  close(fd);
  return fmt::format("{} bytes, {:.12} at its ends", status.st_size, Sha256Hex(ends));
}

}  // namespace

std::vector<Term> MachineTerms() {
  return {{"the version of autosp-run", AUTOSPC_VERSION},
          {"the version of LibTorch", TorchVersion()},
          {"the instruction set of LibTorch's kernels", at::get_cpu_capability(), /*advice=*/true}};
}

std::string Fingerprint(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code failed;
  if (!fs::is_directory(path, failed)) return FingerprintOfFile(path);
  std::set<std::string> lines;
  for (const auto& entry : fs::recursive_directory_iterator(path, failed)) {
    const std::string name = entry.path().lexically_relative(path).string();
    if (entry.is_regular_file(failed)) lines.insert(name + " " + FingerprintOfFile(entry.path().string()));
  }
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return fmt::format("{} files, {:.12} over them", lines.size(), Sha256Hex(text));
}

Status CheckTerms(const std::vector<std::vector<Term>>& by_rank, std::vector<std::string>* warnings) {
  std::set<std::string> warned;
  for (size_t r = 1; r < by_rank.size(); ++r) {
    std::vector<Term> all = by_rank[0];
    for (const Term& t : by_rank[r]) {
      if (std::none_of(all.begin(), all.end(), [&](const Term& known) { return known.name == t.name; }))
        all.push_back(t);
    }
    std::string differences;
    for (const Term& t : all) {
      const std::string mine = ValueOf(by_rank[r], t.name), first = ValueOf(by_rank[0], t.name);
      if (mine == first) continue;
      const std::string text = fmt::format("{}: {} on rank {}, {} on rank 0", t.name, mine, r, first);
      if (!t.advice) {
        differences += (differences.empty() ? "" : "; ") + text;
      } else if (warned.insert(t.name).second && warnings != nullptr) {
        warnings->push_back(text);
      }
    }
    if (differences.empty()) continue;
    return Error{Code::kBadInput, fmt::format("rank {} does not run what rank 0 runs: {}", r, differences), "",
                 "give every rank the same package, flags and program"};
  }
  return Ok();
}

}  // namespace autospc
