#include "runtime/base/result.h"

namespace autospc {

std::string Error::Format() const {
  std::string text = "error: " + what;
  if (!where.empty()) text += "\n  at " + where;
  if (!hint.empty()) text += "\n  hint: " + hint;
  return text;
}

}  // namespace autospc
