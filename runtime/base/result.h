// Result<T>: a value or an Error. Whatever an input can cause is a Result; an assert is for our own bugs.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include <fmt/format.h>

namespace autospc {

// The exit codes of every program here.
enum class Code : int {
  kOk = 0,
  kFailed = 1,        // a comparison or a run failed
  kUsage = 2,         // flags alone, or an output that exists
  kBadInput = 3,      // a file, or flags against a file
  kUnsupported = 4,   // an op without LibTorch schema; under --strict one without partition rule
  kDoesNotFit = 5,    // the memory budget
  kTimeout = 6,
  kPeerFailed = 7,
  kInterrupted = 130,
};

// What went wrong, where (file, node, Python source line) and what to do about it.
struct Error {
  Code code = Code::kFailed;
  std::string what;
  std::string where;  // may be empty
  std::string hint;   // may be empty

  // "error: WHAT\n  at WHERE\n  hint: HINT"
  std::string Format() const;
};

struct [[nodiscard]] Unit {};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}
  Result(Error error) : state_(std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  Error& error() & { return std::get<1>(state_); }
  const Error& error() const& { return std::get<1>(state_); }
  Error&& error() && { return std::get<1>(std::move(state_)); }

 private:
  std::variant<T, Error> state_;
};

using Status = Result<Unit>;
inline Status Ok() { return Unit{}; }

}  // namespace autospc

#define AUTOSPC_CONCAT_(a, b) a##b
#define AUTOSPC_CONCAT(a, b) AUTOSPC_CONCAT_(a, b)

// Returns the error of a Status or Result expression to the caller.
#define RETURN_IF_ERROR(expr)                          \
  do {                                                 \
    auto status_ = (expr);                             \
    if (!status_.ok()) return std::move(status_).error(); \
  } while (false)

// ASSIGN_OR_RETURN(auto x, F()): x takes F's value, or the caller returns F's error.
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL_(AUTOSPC_CONCAT(result_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr)     \
  auto tmp = (expr);                               \
  if (!tmp.ok()) return std::move(tmp).error();    \
  lhs = std::move(tmp).value()
