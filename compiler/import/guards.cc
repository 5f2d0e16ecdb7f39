#include "compiler/import/guards.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

namespace autospc::import {
namespace {

// A recursive-descent reader that computes as it goes, in Python's order of precedence. Whatever it does not know
// makes it fail as a whole.
class Evaluator {
 public:
  Evaluator(std::string_view text, const InputSizes& sizes) : text_(text), sizes_(sizes) {}

  std::optional<double> Run() {
    const double v = Or();
    Skip();
    return failed_ || at_ != text_.size() ? std::nullopt : std::optional(v);
  }

 private:
  static constexpr int kMaxDepth = 100;

  double Fail() {
    failed_ = true;
    return 0;
  }
  void Skip() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  bool Take(std::string_view token) {
    Skip();
    if (failed_ || !text_.substr(at_).starts_with(token)) return false;
    const size_t end = at_ + token.size();
    const bool word = std::isalpha(static_cast<unsigned char>(token.back())) != 0;
    if (word && end < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[end])) || text_[end] == '_'))
      return false;
    at_ = end;
    return true;
  }
  void Need(std::string_view token) {
    if (!Take(token)) failed_ = true;
  }

  double Or() {
    double v = And();
    while (Take("or")) {
      const double w = And();
      v = v != 0 ? v : w;
    }
    return v;
  }
  double And() {
    double v = Not();
    while (Take("and")) {
      const double w = Not();
      v = v == 0 ? v : w;
    }
    return v;
  }
  double Not() {
    bool negate = false;  // in a loop: a text may hold any number of them
    while (Take("not")) negate = !negate;
    const double v = Comparison();
    return negate ? (v == 0 ? 1 : 0) : v;
  }

  double Comparison() {
    double left = Sum();
    bool any = false, all = true;
    while (!failed_) {
      int op = -1;
      constexpr std::string_view kOps[] = {"==", "!=", "<=", ">=", "<", ">"};
      for (int i = 0; i < 6 && op < 0; ++i) op = Take(kOps[i]) ? i : -1;
      if (op < 0) break;
      const double right = Sum();
      const bool holds[] = {left == right, left != right, left <= right, left >= right, left<right, left> right};
      any = true;
      all = all && holds[op];
      left = right;
    }
    return any ? (all ? 1 : 0) : left;
  }

  double Sum() {
    double v = Product();
    while (!failed_) {
      if (Take("+"))
        v += Product();
      else if (Take("-"))
        v -= Product();
      else
        break;
    }
    return v;
  }
  double Product() {
    double v = Unary();
    while (!failed_) {
      if (Take("//"))
        v = std::floor(v / NonZero(Unary()));
      else if (Take("/"))
        v /= NonZero(Unary());
      else if (Take("%"))
        v = Mod(v, NonZero(Unary()));
      else if (!Peek("**") && Take("*"))
        v *= Unary();
      else
        break;
    }
    return v;
  }
  double Unary() {
    if (++depth_ > kMaxDepth) return Fail();
    double v;
    if (Take("-")) {
      v = -Unary();
    } else {
      v = Atom();
      if (Take("**")) v = std::pow(v, Unary());
    }
    --depth_;
    return v;
  }
  bool Peek(std::string_view token) {
    Skip();
    return text_.substr(at_).starts_with(token);
  }
  double NonZero(double v) { return v == 0 ? Fail() + 1 : v; }
  static double Mod(double a, double b) { return a - std::floor(a / b) * b; }

  double Atom() {
    Skip();
    if (failed_ || at_ == text_.size()) return Fail();
    if (Take("(")) {
      const double v = Or();
      Need(")");
      return v;
    }
    if (std::isdigit(static_cast<unsigned char>(text_[at_]))) {
      double v = 0;
      const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), v);
      if (error != std::errc()) return Fail();
      at_ = end - text_.data();
      return v;
    }
    if (Take("True")) return 1;
    if (Take("False")) return 0;
    if (Take("L")) return InputSize();
    return Call();
  }

  // L['name'].size()[dim]
  double InputSize() {
    Need("[");
    Skip();
    if (failed_ || at_ == text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) return Fail();
    const size_t end = text_.find(text_[at_], at_ + 1);
    if (end == text_.npos) return Fail();
    const auto input = sizes_.find(std::string(text_.substr(at_ + 1, end - at_ - 1)));
    at_ = end + 1;
    Need("]");
    Need(".size()");
    Need("[");
    const double dim = Sum();
    Need("]");
    if (failed_ || input == sizes_.end() || !(dim >= 0 && dim < static_cast<double>(input->second.size()))) return Fail();
    return static_cast<double>(input->second[static_cast<size_t>(dim)]);
  }

  double Call() {
    const size_t start = at_;
    while (at_ < text_.size() &&
           (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_' || text_[at_] == '.'))
      ++at_;
    const std::string_view name = text_.substr(start, at_ - start);
    if (name.empty() || ++depth_ > kMaxDepth) return Fail();
    Need("(");
    std::vector<double> x;
    do x.push_back(Or());
    while (Take(","));
    Need(")");
    --depth_;
    if (failed_) return 0;
    if (name == "min" || name == "Min") return *std::min_element(x.begin(), x.end());
    if (name == "max" || name == "Max") return *std::max_element(x.begin(), x.end());
    if (x.size() == 1 && (name == "int" || name == "math.trunc" || name == "TruncToInt")) return std::trunc(x[0]);
    if (x.size() == 1 && (name == "float" || name == "ToFloat")) return x[0];
    if (x.size() == 1 && (name == "math.floor" || name == "FloorToInt")) return std::floor(x[0]);
    if (x.size() == 1 && (name == "math.ceil" || name == "CeilToInt")) return std::ceil(x[0]);
    if (x.size() == 1 && (name == "abs" || name == "Abs")) return std::abs(x[0]);
    if (x.size() != 2) return Fail();
    if (name == "Mod" || name == "PythonMod") return Mod(x[0], NonZero(x[1]));
    if (name == "FloorDiv" || name == "CleanDiv") return std::floor(x[0] / NonZero(x[1]));
    if (name == "Eq") return x[0] == x[1] ? 1 : 0;
    if (name == "Ne") return x[0] != x[1] ? 1 : 0;
    return Fail();
  }

  std::string_view text_;
  const InputSizes& sizes_;
  size_t at_ = 0;
  int depth_ = 0;
  bool failed_ = false;
};

}  // namespace

std::optional<bool> EvalGuard(std::string_view guard, const InputSizes& sizes) {
  const auto v = Evaluator(guard, sizes).Run();
  return v ? std::optional(*v != 0) : std::nullopt;
}

Status CheckGuards(const std::vector<std::string>& guards, const ir::Graph& graph, std::vector<std::string>* warnings) {
  InputSizes sizes;
  for (const ir::GraphInput& in : graph.inputs) {
    if (in.kind == ir::InputKind::kUser) sizes[in.name] = graph.value(in.value).int_sizes();
  }
  for (const std::string& guard : guards) {
    if (EvalGuard(guard, sizes).value_or(true)) continue;
    if (guard.find("!=") != guard.npos) {
      warnings->push_back(
          fmt::format("the export was specialised on '{}', which does not hold for these sizes", guard));
      continue;
    }
    return Error{Code::kBadInput, fmt::format("the export does not hold for these sizes: it needs {}", guard), "",
                 "choose a size for which that is so"};
  }
  return Ok();
}

}  // namespace autospc::import
