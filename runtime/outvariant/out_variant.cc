#include "runtime/outvariant/out_variant.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <vector>

namespace autospc {
namespace {

bool Writes(const c10::Argument& argument) {
  return argument.alias_info() != nullptr && argument.alias_info()->isWrite();
}

// `candidate` is `functional` with one written, keyword-only tensor more for each result.
bool IsOutOverloadOf(const c10::FunctionSchema& candidate, const c10::FunctionSchema& functional) {
  const auto& args = candidate.arguments();
  const auto& wanted = functional.arguments();
  if (args.size() != wanted.size() + functional.returns().size()) return false;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (Writes(args[i]) || args[i].name() != wanted[i].name() || *args[i].type() != *wanted[i].type()) return false;
  }
  for (size_t i = wanted.size(); i < args.size(); ++i) {
    if (!Writes(args[i]) || args[i].type()->kind() != c10::TypeKind::TensorType) return false;
  }
  return true;
}

bool ReturnsFreshTensors(const c10::FunctionSchema& schema) {
  if (schema.returns().empty()) return false;
  for (const c10::Argument& argument : schema.arguments()) {
    if (Writes(argument)) return false;
  }
  for (const c10::Argument& result : schema.returns()) {
    if (result.alias_info() != nullptr || result.type()->kind() != c10::TypeKind::TensorType) return false;
  }
  return true;
}

// The overload names of each op, sorted: the dispatcher has no look-up by base name.
const std::map<std::string, std::vector<std::string>>& Overloads() {
  static const auto* const overloads = [] {
    auto* map = new std::map<std::string, std::vector<std::string>>;
    for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames()) {
      (*map)[name.name].push_back(name.overload_name);
    }
    for (auto& [base, names] : *map) std::sort(names.begin(), names.end());
    return map;
  }();
  return *overloads;
}

// Whose overload does not write what the functional one returns (2.11): where the losses reduce, they give the result that
// they are handed the shape of their operands first; batch norm takes operands that are not contiguous for such that are.
constexpr std::array<std::string_view, 7> kUnsound = {"aten::mse_loss",          "aten::smooth_l1_loss",       "aten::huber_loss",
                                                      "aten::soft_margin_loss",  "aten::binary_cross_entropy", "aten::native_batch_norm",
                                                      "aten::_native_batch_norm_legit"};

std::optional<std::string> Find(std::string_view op) {
  const auto [base, overload] = DispatcherName(op);
  if (std::find(kUnsound.begin(), kUnsound.end(), base) != kUnsound.end()) return std::nullopt;
  const auto functional = c10::Dispatcher::singleton().findSchema({base, overload});
  if (!functional || !ReturnsFreshTensors(functional->schema())) return std::nullopt;
  const auto names = Overloads().find(base);
  if (names == Overloads().end()) return std::nullopt;
  for (const std::string& name : names->second) {
    const auto candidate = c10::Dispatcher::singleton().findSchema({base, name});
    if (!candidate || !IsOutOverloadOf(candidate->schema(), functional->schema())) continue;
    if (!candidate->hasKernelForDispatchKey(c10::DispatchKey::CPU)) continue;
    std::string result(op.substr(0, op.find('.')));
    return result + base.substr(base.find("::")).replace(0, 2, ".") + "." + name;
  }
  return std::nullopt;
}

}  // namespace

std::pair<std::string, std::string> DispatcherName(std::string_view op) {
  const size_t first = op.find('.');
  if (first == std::string_view::npos) return {std::string(op), ""};
  const size_t last = op.rfind('.');
  std::string base = std::string(op.substr(0, first)) + "::";
  if (last == first) return {base + std::string(op.substr(first + 1)), ""};
  base += op.substr(first + 1, last - first - 1);
  std::string overload(op.substr(last + 1));
  return {base, overload == "default" ? "" : overload};
}

std::optional<std::string> OutVariant(std::string_view op) {
  static std::mutex mutex;
  static std::map<std::string, std::optional<std::string>, std::less<>> cache;
  std::lock_guard lock(mutex);
  auto it = cache.find(op);
  if (it == cache.end()) it = cache.emplace(std::string(op), Find(op)).first;
  return it->second;
}

}  // namespace autospc
