// hostile pt2|safetensors|tokens FILE FLIPS, hostile package|resealed FOLDER FLIPS: opens it cut off at every length and
// with bits turned, in this process; prints a JSON line for each. `resealed`: the digests above what was changed are made
// right again, so that the readers behind them see it.
#include "tests/fuzz/hostile.h"

#include <fmt/format.h>

#include <cstring>

#include "compiler/import/import.h"
#include "runtime/data/token_file.h"
#include "runtime/package/golden.h"
#include "runtime/package/oci.h"
#include "tests/fuzz/package_files.h"

namespace autospc::fuzz {
namespace {

template <typename T>
Status Forget(const Result<T>& result) {
  return result.ok() ? Ok() : Status(result.error());
}

void Print(const std::string& what, const Outcome& o) {
  fmt::print("{{\"what\": \"{}\", \"tries\": {}, \"accepted\": {}, \"file_bytes\": {}, \"peak_bytes\": {}, \"slowest_ms\": {:.3f}}}\n", what,
             o.tries, o.accepted, o.file_bytes, o.peak_bytes, o.slowest_ms);
  std::fflush(stdout);
}

void Add(const Outcome& one, Outcome* all) {
  all->tries += one.tries;
  all->accepted += one.accepted;
  all->file_bytes += one.file_bytes;
  all->peak_bytes = std::max(all->peak_bytes, one.peak_bytes);
  all->slowest_ms = std::max(all->slowest_ms, one.slowest_ms);
}

void OneFile(const std::string& kind, const std::string& path, int64_t flips) {
  const TempFolder folder;
  const std::string copy = folder / ("copy." + kind);
  std::filesystem::copy_file(path, copy);
  const Opener open = [&]() -> Status {
    if (kind == "pt2") return Forget(import::ImportPt2(copy));
    if (kind == "tokens") return Forget(data::TokenFile::Open(copy));
    return Forget(GoldenFile::Open(copy));
  };
  Print("cut off", Truncations(copy, open));
  Print("flipped", Flips(copy, open, flips, 1));
}

void Files(const std::string& path, int64_t flips) {
  const TempFolder folder;
  const std::string copy = folder / "p";
  std::filesystem::copy(path, copy, std::filesystem::copy_options::recursive);
  const Opener open = [&] { return Forget(autospc::Package::Open(copy)); };
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(copy)) {
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  Outcome cut, flipped;
  for (const std::string& file : files) {
    Add(Truncations(file, open), &cut);
    Add(Flips(file, open, flips / static_cast<int64_t>(files.size()) + 1, 1), &flipped);
  }
  Print("cut off", cut);
  Print("flipped", flipped);
}

void Resealed(const std::string& path, int64_t flips) {
  const auto parts = ReadPackageParts(path);
  if (!parts.ok()) Broken(parts.error().Format());
  const TempFolder folder;
  Outcome cut, flipped;
  std::mt19937 random(1);
  const auto again = [&](const PackageParts& changed, Outcome* outcome) {
    std::filesystem::remove_all(folder / "p");
    WritePackageParts(changed, folder / "p");
    TryOnce([&] { return Forget(autospc::Package::Open(folder / "p")); }, outcome);
  };
  for (size_t p = 0; p < parts->size(); ++p) {
    PackageParts changed = *parts;
    cut.file_bytes += static_cast<int64_t>((*parts)[p].size());
    // Data is cut off at some lengths alone: its header says all of them.
    const size_t step = (*parts)[p].size() > 20000 ? 97 : 1;
    for (size_t length = 0; length < (*parts)[p].size(); length += step) {
      changed[p] = (*parts)[p].substr(0, length);
      again(changed, &cut);
    }
    for (int64_t i = 0; i < flips / 7 && !(*parts)[p].empty(); ++i) {
      changed[p] = (*parts)[p];
      for (int64_t k = 0; k <= i % 3; ++k) changed[p][random() % changed[p].size()] ^= static_cast<char>(1 << random() % 8);
      again(changed, &flipped);
    }
  }
  flipped.file_bytes = cut.file_bytes;
  Print("cut off", cut);
  Print("flipped", flipped);
}

}  // namespace
}  // namespace autospc::fuzz

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const std::string kind = argv[1];
  const int64_t flips = std::atoll(argv[3]);
  if (kind == "package") autospc::fuzz::Files(argv[2], flips);
  else if (kind == "resealed") autospc::fuzz::Resealed(argv[2], flips);
  else autospc::fuzz::OneFile(kind, argv[2], flips);
  return 0;
}
