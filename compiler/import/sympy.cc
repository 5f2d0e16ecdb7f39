#include "compiler/import/sympy.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>

namespace autospc::import {
namespace {

using ir::Expr;
using Op = ir::Expr::Op;

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<Sym> Parse() {
    ASSIGN_OR_RETURN(Sym sym, One());
    Skip();
    if (at_ != text_.size()) return Bad();
    return sym;
  }

 private:
  static constexpr int kMaxDepth = 200;

  Error Bad() const {
    return {Code::kBadInput, fmt::format("'{}' is not a size expression", text_.substr(0, 200)),
            fmt::format("column {}", at_ + 1), ""};
  }
  void Skip() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool Take(char c) {
    Skip();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  std::string_view Word() {
    Skip();
    const size_t start = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_')) ++at_;
    return text_.substr(start, at_ - start);
  }
  // 'text' or "text"
  bool Quoted(std::string* out) {
    Skip();
    if (at_ == text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) return false;
    const size_t end = text_.find(text_[at_], at_ + 1);
    if (end == text_.npos) return false;
    *out = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return true;
  }
  bool Int(int64_t* out) {
    Skip();
    const auto [end, failed] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), *out);
    if (failed != std::errc()) return false;
    at_ = end - text_.data();
    return true;
  }
  // The rest of a symbol's or float's arguments (", positive=True, integer=True"), which say nothing new.
  bool ToClose() {
    const size_t end = text_.find(')', at_);
    if (end == text_.npos) return false;
    at_ = end + 1;
    return true;
  }

  Result<Sym> One() {
    if (++depth_ > kMaxDepth) return Bad();
    Sym sym;
    if (Skip(); at_ < text_.size() && (text_[at_] == '-' || std::isdigit(static_cast<unsigned char>(text_[at_])))) {
      if (!Int(&sym.i)) return Bad();
      --depth_;
      return sym;
    }
    const std::string name(Word());
    if (name == "true" || name == "True" || name == "false" || name == "False") {
      sym.kind = Sym::Kind::kBool;
      sym.i = name == "true" || name == "True";
    } else if (name == "Integer") {
      if (!Take('(') || !Int(&sym.i) || !Take(')')) return Bad();
    } else if (name == "Symbol" || name == "Dummy") {
      sym.kind = Sym::Kind::kSymbol;
      if (!Take('(') || !Quoted(&sym.name) || sym.name.empty() || !ToClose()) return Bad();
    } else if (name == "Float") {
      std::string digits;
      sym.kind = Sym::Kind::kFloat;
      if (!Take('(') || !Quoted(&digits) || !ToClose()) return Bad();
      const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), sym.f);
      if (failed != std::errc() || end != digits.data() + digits.size()) return Bad();
    } else {
      if (name.empty() || !Take('(')) return Bad();
      sym.kind = Sym::Kind::kCall;
      sym.name = name;
      if (!Take(')')) {
        do {
          ASSIGN_OR_RETURN(Sym operand, One());
          sym.operands.push_back(std::move(operand));
        } while (Take(','));
        if (!Take(')')) return Bad();
      }
    }
    --depth_;
    return sym;
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

// num / den
struct Ratio {
  Expr num;
  Expr den = 1;
  bool whole() const { return den.is_const() && den.value() == 1; }
};

bool IsOne(const Expr& e) { return e.is_const() && e.value() == 1; }
Expr Times(const Expr& a, const Expr& b) { return IsOne(a) ? b : IsOne(b) ? a : Expr::Make(Op::kMul, {a, b}); }
Expr Floor(const Ratio& r) { return r.whole() ? r.num : Expr::Make(Op::kFloorDiv, {r.num, r.den}); }
Expr Negate(const Expr& e) { return Expr::Make(Op::kMul, {e, Expr(-1)}); }
Ratio Divide(const Ratio& a, const Ratio& b) { return {Times(a.num, b.den), Times(a.den, b.num)}; }

Error Unknown(const Sym& sym) {
  return {Code::kUnsupported,
          fmt::format("a size is made with '{}' of {} operands, which has no integer form here", sym.name,
                      sym.operands.size()),
          "", ""};
}

Result<Ratio> ToRatio(const Sym& sym);

Result<Ratio> SumOrProduct(const Sym& sym, bool product) {
  std::vector<Ratio> terms;
  for (const Sym& operand : sym.operands) {
    ASSIGN_OR_RETURN(Ratio r, ToRatio(operand));
    terms.push_back(std::move(r));
  }
  const bool whole = std::all_of(terms.begin(), terms.end(), [](const Ratio& r) { return r.whole(); });
  if (whole) {
    std::vector<Expr> parts;
    for (Ratio& r : terms) parts.push_back(std::move(r.num));
    if (parts.size() == 1) return Ratio{parts[0]};
    return Ratio{Expr::Make(product ? Op::kMul : Op::kAdd, std::move(parts))};
  }
  Ratio all = terms[0];
  for (size_t i = 1; i < terms.size(); ++i) {
    const Ratio& t = terms[i];
    all = product ? Ratio{Times(all.num, t.num), Times(all.den, t.den)}
                  : Ratio{Expr::Make(Op::kAdd, {Times(all.num, t.den), Times(t.num, all.den)}), Times(all.den, t.den)};
  }
  return all;
}

Result<Ratio> ToRatio(const Sym& sym) {
  switch (sym.kind) {
    case Sym::Kind::kInt:
      return Ratio{Expr(sym.i)};
    case Sym::Kind::kSymbol:
      return Ratio{Expr::Symbol(sym.name)};
    case Sym::Kind::kFloat:
      if (sym.f == std::floor(sym.f) && std::abs(sym.f) < 1e15) return Ratio{Expr(static_cast<int64_t>(sym.f))};
      return Error{Code::kUnsupported, fmt::format("a size is made with the float {}", sym.f), "", ""};
    case Sym::Kind::kBool:
      return Error{Code::kUnsupported, "a size is made with a boolean", "", ""};
    case Sym::Kind::kCall:
      break;
  }
  const std::string& f = sym.name;
  if (sym.operands.empty()) return Unknown(sym);
  if (f == "Add" || f == "Mul") return SumOrProduct(sym, f == "Mul");
  std::vector<Ratio> x;
  for (const Sym& operand : sym.operands) {
    ASSIGN_OR_RETURN(Ratio r, ToRatio(operand));
    x.push_back(std::move(r));
  }
  const size_t n = x.size();
  if (n == 1) {
    if (f == "ToFloat" || f == "Identity") return x[0];
    if (f == "FloorToInt" || f == "floor" || f == "TruncToInt") return Ratio{Floor(x[0])};  // sizes are not negative
    if (f == "CeilToInt" || f == "ceiling") {
      if (x[0].whole()) return x[0];
      return Ratio{Negate(Floor({Negate(x[0].num), x[0].den}))};
    }
    return Unknown(sym);
  }
  if (f == "Min" || f == "Max") {
    std::vector<Expr> parts;
    for (const Ratio& r : x) parts.push_back(Floor(r));
    return Ratio{Expr::Make(f == "Min" ? Op::kMin : Op::kMax, std::move(parts))};
  }
  if (n == 3 && f == "ModularIndexing") {
    return Ratio{Expr::Make(Op::kMod, {Floor(Divide(x[0], x[1])), Floor(x[2])})};
  }
  if (n != 2) return Unknown(sym);
  if (f == "Rational" || f == "IntTrueDiv" || f == "FloatTrueDiv") return Divide(x[0], x[1]);
  if (f == "FloorDiv" || f == "CleanDiv") return Ratio{Floor(Divide(x[0], x[1]))};
  if (f == "CeilDiv") return Ratio{Negate(Floor(Divide({Negate(x[0].num), x[0].den}, x[1])))};
  if (f == "Mod" || f == "PythonMod") return Ratio{Expr::Make(Op::kMod, {Floor(x[0]), Floor(x[1])})};
  if (f == "Pow" || f == "PowByNatural" || f == "FloatPow") {
    if (!x[1].whole() || (x[1].num.is_const() && std::abs(x[1].num.value()) > 62)) return Unknown(sym);
    if (x[1].num.is_const() && x[1].num.value() < 0) {  // Pow(x, -1): a division
      const Expr e(-x[1].num.value());
      return Ratio{IsOne(e) ? x[0].den : Expr::Make(Op::kPow, {x[0].den, e}),
                   IsOne(e) ? x[0].num : Expr::Make(Op::kPow, {x[0].num, e})};
    }
    return Ratio{Expr::Make(Op::kPow, {x[0].num, x[1].num}),
                 x[0].whole() ? Expr(1) : Expr::Make(Op::kPow, {x[0].den, x[1].num})};
  }
  if (f == "LShift" || f == "RShift") {
    if (x[1].num.is_const() && (x[1].num.value() < 0 || x[1].num.value() > 62)) return Unknown(sym);
    const Expr power = Expr::Make(Op::kPow, {Expr(2), Floor(x[1])});
    return f == "LShift" ? Ratio{Times(Floor(x[0]), power)} : Ratio{Expr::Make(Op::kFloorDiv, {Floor(x[0]), power})};
  }
  return Unknown(sym);
}

double FloorMod(double a, double b) { return a - std::floor(a / b) * b; }

}  // namespace

Result<Sym> ParseSrepr(std::string_view text) { return Parser(text).Parse(); }

std::optional<std::string> FindUnbacked(const Sym& sym) {
  if (sym.kind == Sym::Kind::kSymbol) {
    const std::string& s = sym.name;
    const size_t prefix = s.starts_with("zuf") ? 3 : s.starts_with("u") ? 1 : 0;
    if (prefix && s.size() > prefix &&
        std::all_of(s.begin() + prefix, s.end(), [](unsigned char c) { return std::isdigit(c); }))
      return s;
  }
  for (const Sym& operand : sym.operands) {
    if (auto found = FindUnbacked(operand)) return found;
  }
  return std::nullopt;
}

Result<Expr> ToExpr(const Sym& sym) {
  if (const auto unbacked = FindUnbacked(sym)) {
    return Error{Code::kUnsupported, fmt::format("a size depends on data (symbol {})", *unbacked), "",
                 "make the shape a function of the inputs' shapes"};
  }
  ASSIGN_OR_RETURN(const Ratio r, ToRatio(sym));
  return Floor(r);
}

Result<double> EvalNumber(const Sym& sym, const std::map<std::string, int64_t>& bindings) {
  switch (sym.kind) {
    case Sym::Kind::kInt:
    case Sym::Kind::kBool:
      return static_cast<double>(sym.i);
    case Sym::Kind::kFloat:
      return sym.f;
    case Sym::Kind::kSymbol: {
      const auto it = bindings.find(sym.name);
      if (it != bindings.end()) return static_cast<double>(it->second);
      return Error{Code::kBadInput, fmt::format("size symbol '{}' has no value", sym.name), "", ""};
    }
    case Sym::Kind::kCall:
      break;
  }
  std::vector<double> x;
  for (const Sym& operand : sym.operands) {
    ASSIGN_OR_RETURN(const double v, EvalNumber(operand, bindings));
    x.push_back(v);
  }
  const std::string& f = sym.name;
  const size_t n = x.size();
  if (n == 0) return Unknown(sym);
  const auto fold = [&](auto op) {
    double all = x[0];
    for (size_t i = 1; i < n; ++i) all = op(all, x[i]);
    return all;
  };
  if (f == "Add") return fold([](double a, double b) { return a + b; });
  if (f == "Mul") return fold([](double a, double b) { return a * b; });
  if (f == "Min") return fold([](double a, double b) { return std::min(a, b); });
  if (f == "Max") return fold([](double a, double b) { return std::max(a, b); });
  if (f == "And") return fold([](double a, double b) { return a != 0 && b != 0 ? 1.0 : 0.0; });
  if (f == "Or") return fold([](double a, double b) { return a != 0 || b != 0 ? 1.0 : 0.0; });
  if (n == 1) {
    if (f == "ToFloat" || f == "Identity") return x[0];
    if (f == "FloorToInt" || f == "floor") return std::floor(x[0]);
    if (f == "CeilToInt" || f == "ceiling") return std::ceil(x[0]);
    if (f == "TruncToInt" || f == "TruncToFloat") return std::trunc(x[0]);
    if (f == "RoundToInt") return std::nearbyint(x[0]);
    if (f == "Abs") return std::abs(x[0]);
    if (f == "Not") return x[0] == 0 ? 1.0 : 0.0;
    if (f == "OpaqueUnaryFn_sqrt") return std::sqrt(x[0]);
    if (f == "OpaqueUnaryFn_exp" || f == "exp") return std::exp(x[0]);
    if (f == "OpaqueUnaryFn_log" || f == "log") return std::log(x[0]);
    if (f == "OpaqueUnaryFn_log2") return std::log2(x[0]);
    if (f == "OpaqueUnaryFn_cos" || f == "cos") return std::cos(x[0]);
    if (f == "OpaqueUnaryFn_sin" || f == "sin") return std::sin(x[0]);
    if (f == "OpaqueUnaryFn_tanh" || f == "tanh") return std::tanh(x[0]);
    return Unknown(sym);
  }
  if (n == 3 && f == "Where") return x[0] != 0 ? x[1] : x[2];
  if (n == 3 && f == "ModularIndexing") return FloorMod(std::floor(x[0] / x[1]), x[2]);
  if (n != 2) return Unknown(sym);
  if (f == "Rational" || f == "IntTrueDiv" || f == "FloatTrueDiv") return x[0] / x[1];
  if (f == "FloorDiv" || f == "CleanDiv") return std::floor(x[0] / x[1]);
  if (f == "CeilDiv") return std::ceil(x[0] / x[1]);
  if (f == "Mod" || f == "PythonMod") return FloorMod(x[0], x[1]);
  if (f == "Pow" || f == "PowByNatural" || f == "FloatPow") return std::pow(x[0], x[1]);
  if (f == "LShift") return std::ldexp(x[0], static_cast<int>(x[1]));
  if (f == "RShift") return std::floor(std::ldexp(x[0], -static_cast<int>(x[1])));
  if (f == "Equality" || f == "Eq") return x[0] == x[1] ? 1.0 : 0.0;
  if (f == "Unequality" || f == "Ne") return x[0] != x[1] ? 1.0 : 0.0;
  if (f == "StrictLessThan") return x[0] < x[1] ? 1.0 : 0.0;
  if (f == "LessThan") return x[0] <= x[1] ? 1.0 : 0.0;
  if (f == "StrictGreaterThan") return x[0] > x[1] ? 1.0 : 0.0;
  if (f == "GreaterThan") return x[0] >= x[1] ? 1.0 : 0.0;
  return Unknown(sym);
}

}  // namespace autospc::import
