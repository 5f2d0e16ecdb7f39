#include "passes/step/zero.h"

#include <algorithm>

namespace autospc::step {

int ZeroStage(const PassContext& context) {
  if (context.ranks <= 1 || context.optimizer == "none") return 0;
  return std::clamp(context.zero, 0, 2);
}

}  // namespace autospc::step
