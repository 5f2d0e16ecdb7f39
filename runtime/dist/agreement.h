// What the ranks of a job must have in common before they send each other tensors.
#pragma once

#include <string>
#include <vector>

#include "runtime/base/result.h"

namespace autospc {

// One thing that must be the same on all ranks: {"the package", "sha256:…"}, {"--lr", "0.001"}. `value` is shown.
struct Term {
  std::string name;
  std::string value;
  bool advice = false;  // a difference is only warned of

  bool operator==(const Term&) const = default;
};

// The terms that this build and machine bring: the version of autosp-run, that of the LibTorch it runs with, and, as
// advice, the instruction set that LibTorch's kernels use here: replicated values may differ in their last bits.
std::vector<Term> MachineTerms();

// What tells one file, or the files of one folder, from another without reading it all: sizes, names in a folder, and
// the sha256 of a file's first and last 64 KiB. "" for what is no file and no folder (a pipe). For files that each
// rank has at a path of its own.
std::string Fingerprint(const std::string& path);

// Compares by rank with rank 0. kBadInput names the first rank that differs, everything in which it differs, and both
// values; a term that only one of them has is "(none)" on the other. Advice goes to `warnings`, one a term.
Status CheckTerms(const std::vector<std::vector<Term>>& by_rank, std::vector<std::string>* warnings);

}  // namespace autospc
