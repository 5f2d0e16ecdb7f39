#include "passes/framework/pass.h"

#include <cstdio>
#include <cstdlib>

namespace autospc {

void PassRegistry::Add(PassInfo info) {
  if (Find(info.name)) {
    std::fprintf(stderr, "internal error: pass '%s' is registered twice\n", info.name.c_str());
    std::abort();
  }
  passes_.push_back(std::move(info));
}

const PassInfo* PassRegistry::Find(std::string_view name) const {
  for (const PassInfo& p : passes_) {
    if (p.name == name) return &p;
  }
  return nullptr;
}

}  // namespace autospc
