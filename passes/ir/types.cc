#include "passes/ir/types.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>

namespace autospc::ir {
namespace {

struct DTypeInfo {
  std::string_view name;
  int64_t bytes;
  bool floating;
};
constexpr std::array<DTypeInfo, 12> kDTypes = {{
    {"bool", 1, false}, {"u8", 1, false}, {"i8", 1, false}, {"i16", 2, false}, {"i32", 4, false},
    {"i64", 8, false}, {"f16", 2, true}, {"bf16", 2, true}, {"f32", 4, true}, {"f64", 8, true},
    {"c64", 8, true}, {"c128", 16, true},
}};
const DTypeInfo& Info(DType dtype) { return kDTypes[static_cast<size_t>(dtype)]; }

constexpr std::array<std::string_view, 9> kOpNames = {"", "", "add", "mul", "floordiv", "mod", "min", "max", "pow"};

// The value of one operation; nullopt for a division by zero, a negative exponent, or more than 64 bits.
std::optional<int64_t> Apply(Expr::Op op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case Expr::Op::kAdd: return __builtin_add_overflow(a, b, &result) ? std::nullopt : std::optional(result);
    case Expr::Op::kMul: return __builtin_mul_overflow(a, b, &result) ? std::nullopt : std::optional(result);
    case Expr::Op::kFloorDiv:
    case Expr::Op::kMod: {
      if (b == 0 || (b == -1 && a == std::numeric_limits<int64_t>::min())) return std::nullopt;
      const bool inexact_negative = a % b != 0 && ((a < 0) != (b < 0));
      if (op == Expr::Op::kFloorDiv) return a / b - inexact_negative;
      return a % b + (inexact_negative ? b : 0);
    }
    case Expr::Op::kMin: return std::min(a, b);
    case Expr::Op::kMax: return std::max(a, b);
    case Expr::Op::kPow: {
      if (b < 0) return std::nullopt;
      if (a == 0 || a == 1 || a == -1) return b == 0 ? 1 : a == -1 && b % 2 == 0 ? 1 : a;
      result = 1;
      for (int64_t i = 0; i < b; ++i) {  // ends by overflow after 63 rounds at most
        if (__builtin_mul_overflow(result, a, &result)) return std::nullopt;
      }
      return result;
    }
    default: return std::nullopt;
  }
}

class ExprParser {
 public:
  explicit ExprParser(std::string_view text) : text_(text) {}

  Result<Expr> Parse() {
    ASSIGN_OR_RETURN(Expr e, ParseOne());
    Skip();
    if (at_ != text_.size()) return Bad();
    return e;
  }

 private:
  Error Bad() const {
    return {Code::kBadInput, fmt::format("'{}' is not a size expression", text_), fmt::format("column {}", at_ + 1), ""};
  }
  void Skip() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  Result<Expr> ParseOne() {
    Skip();
    if (at_ == text_.size()) return Bad();
    if (text_[at_] == '-' || std::isdigit(static_cast<unsigned char>(text_[at_]))) {
      int64_t value = 0;
      const auto [end, failed] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
      if (failed != std::errc()) return Bad();
      at_ = end - text_.data();
      return Expr(value);
    }
    const size_t start = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_')) ++at_;
    const std::string_view word = text_.substr(start, at_ - start);
    if (word.empty()) return Bad();
    Skip();
    if (at_ == text_.size() || text_[at_] != '(') return Expr::Symbol(std::string(word));
    const auto op = std::find(kOpNames.begin() + 2, kOpNames.end(), word);
    if (op == kOpNames.end() || ++depth_ > 64) return Bad();
    std::vector<Expr> operands;
    do {
      ++at_;
      ASSIGN_OR_RETURN(Expr e, ParseOne());
      operands.push_back(std::move(e));
      Skip();
    } while (at_ < text_.size() && text_[at_] == ',');
    if (at_ == text_.size() || text_[at_] != ')' || operands.size() < 2) return Bad();
    ++at_;
    --depth_;
    return Expr::Make(static_cast<Expr::Op>(op - kOpNames.begin()), std::move(operands));
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

int64_t ByteSize(DType dtype) { return Info(dtype).bytes; }
bool IsFloating(DType dtype) { return Info(dtype).floating; }
bool IsComplex(DType dtype) { return dtype >= DType::kComplex64; }
std::string_view Name(DType dtype) { return Info(dtype).name; }

Result<DType> ParseDType(std::string_view name) {
  for (size_t i = 0; i < kDTypes.size(); ++i) {
    if (kDTypes[i].name == name) return static_cast<DType>(i);
  }
  return Error{Code::kBadInput, fmt::format("'{}' is not an element type", name), "", ""};
}

Expr Expr::Symbol(std::string name) {
  Expr e;
  e.node_ = std::make_shared<Node>(Node{Op::kSymbol, std::move(name), {}});
  return e;
}

Expr Expr::Make(Op op, std::vector<Expr> operands) {
  const bool all_const = std::all_of(operands.begin(), operands.end(), [](const Expr& e) { return e.is_const(); });
  if (all_const) {
    std::optional<int64_t> value = operands.front().value_;
    for (size_t i = 1; i < operands.size() && value; ++i) value = Apply(op, *value, operands[i].value_);
    if (value) return Expr(*value);
  }
  Expr e;
  e.node_ = std::make_shared<Node>(Node{op, "", std::move(operands)});
  return e;
}

Result<int64_t> Expr::Eval(const std::map<std::string, int64_t>& bindings) const {
  if (!node_) return value_;
  if (node_->op == Op::kSymbol) {
    const auto it = bindings.find(node_->symbol);
    if (it != bindings.end()) return it->second;
    return Error{Code::kBadInput, fmt::format("size symbol '{}' has no value", node_->symbol), "", ""};
  }
  std::optional<int64_t> value;
  for (const Expr& operand : node_->operands) {
    ASSIGN_OR_RETURN(const int64_t v, operand.Eval(bindings));
    const bool first = &operand == &node_->operands.front();
    value = first ? std::optional(v) : Apply(node_->op, *value, v);
    if (!value) return Error{Code::kBadInput, fmt::format("'{}' divides by zero or leaves 64 bits", ToString()), "", ""};
  }
  return *value;
}

void Expr::CollectSymbols(std::set<std::string>* symbols) const {
  if (!node_) return;
  if (node_->op == Op::kSymbol) symbols->insert(node_->symbol);
  for (const Expr& operand : node_->operands) operand.CollectSymbols(symbols);
}

std::string Expr::ToString() const {
  if (!node_) return std::to_string(value_);
  if (node_->op == Op::kSymbol) return node_->symbol;
  std::string text(kOpNames[static_cast<size_t>(node_->op)]);
  for (size_t i = 0; i < node_->operands.size(); ++i) text += (i ? ", " : "(") + node_->operands[i].ToString();
  return text + ")";
}

Result<Expr> Expr::Parse(std::string_view text) { return ExprParser(text).Parse(); }

bool Expr::operator==(const Expr& other) const {
  if (!node_ || !other.node_) return !node_ && !other.node_ && value_ == other.value_;
  return node_ == other.node_ || ToString() == other.ToString();
}

}  // namespace autospc::ir
