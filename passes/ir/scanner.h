// The characters of the text form with a position: blanks, comments, words, numbers, strings, and errors that say
// where they are. passes/ir/parser.cc knows what they mean.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>

#include "passes/ir/types.h"
#include "runtime/base/result.h"

namespace autospc::ir {

inline bool IsDigit(char c) { return c >= '0' && c <= '9'; }
inline bool IsWordChar(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || IsDigit(c) || c == '_'; }

// The characters of a text with a position; knows blanks, comments, words, numbers and strings.
class Scanner {
 public:
  Scanner(std::string_view text, std::string_view file) : text_(text), file_(file) {}

  size_t at() const { return at_; }
  bool AtEnd() {
    Skip();
    return at_ == text_.size();
  }
  char Peek() {
    Skip();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool Take(char c) {
    if (Peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }
  // The word at the position (of letters, digits, _ and `extra`), empty if there is none; not taken.
  std::string_view PeekWord(std::string_view extra = "") {
    Skip();
    size_t end = at_;
    while (end < text_.size() && (IsWordChar(text_[end]) || extra.find(text_[end]) != std::string_view::npos)) ++end;
    return text_.substr(at_, end - at_);
  }
  std::string_view Word(std::string_view extra = "") {
    const std::string_view word = PeekWord(extra);
    at_ += word.size();
    return word;
  }
  bool TakeWord(std::string_view wanted) {
    if (PeekWord(".") != wanted) return false;  // with the point: "base.f" is an op, not the word "base"
    at_ += wanted.size();
    return true;
  }

  Status Expect(char c) {
    if (Take(c)) return Ok();
    return Expected(fmt::format("'{}'", c));
  }
  Status ExpectWord(std::string_view word) {
    if (TakeWord(word)) return Ok();
    return Expected(fmt::format("'{}'", word));
  }

  Result<int64_t> Integer(std::string_view what) {
    Skip();
    int64_t value = 0;
    const auto [end, failed] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (failed == std::errc::result_out_of_range) return Expected(fmt::format("{} within 64 bits", what));
    if (failed != std::errc()) return Expected(what);
    at_ = end - text_.data();
    return value;
  }

  // Whether a number with a point or exponent, an infinity or a NaN stands here: what is a float, not an integer.
  bool AtFloat() {
    std::string_view token = NumberToken();
    if (!token.empty() && token.front() == '-') token.remove_prefix(1);
    if (token == "inf" || token == "nan") return true;
    return !token.empty() && IsDigit(token.front()) && token.find_first_of(".eE") != std::string_view::npos;
  }
  Result<double> Float() {
    const std::string_view token = NumberToken();
    if (!AtFloat()) return Expected("a floating-point number");
    const bool negative = token.front() == '-';
    double value = 0;
    if (token.ends_with("inf")) {
      value = std::copysign(std::numeric_limits<double>::infinity(), negative ? -1.0 : 1.0);
    } else if (token.ends_with("nan")) {
      value = std::copysign(std::numeric_limits<double>::quiet_NaN(), negative ? -1.0 : 1.0);
    } else {
      const auto [end, failed] = std::from_chars(token.data(), token.data() + token.size(), value);
      if (failed != std::errc() || end != token.data() + token.size()) {
        return Expected("a floating-point number that a double holds");
      }
    }
    at_ += token.size();
    return value;
  }

  Result<std::string> String(std::string_view what) {
    if (!Take('"')) return Expected(fmt::format("{} in quotes", what));
    std::string value;
    while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\n') {
      char c = text_[at_];
      if (c != '\\') {
        value += c;
        ++at_;
        continue;
      }
      const char escaped = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
      if (escaped == '"' || escaped == '\\' || escaped == 'n') {
        value += escaped == 'n' ? '\n' : escaped;
        at_ += 2;
        continue;
      }
      unsigned char byte = 0;
      const char* const digits = text_.data() + std::min(at_ + 2, text_.size());
      const char* const last = text_.data() + std::min(at_ + 4, text_.size());
      const auto [end, failed] = std::from_chars(digits, last, byte, 16);
      if (escaped != 'x' || failed != std::errc() || end != digits + 2) {
        return FailAt(at_, R"(expected an escape: \", \\, \n or \x with two hexadecimal digits)");
      }
      value += static_cast<char>(byte);
      at_ += 4;
    }
    if (at_ == text_.size() || text_[at_] == '\n') return FailAt(at_, "expected a closing quote");
    ++at_;
    return value;
  }
  // A word, or a string in quotes.
  Result<std::string> WordOrString(std::string_view extra, std::string_view what) {
    if (Peek() == '"') return String(what);
    const std::string_view word = Word(extra);
    if (word.empty()) return Expected(what);
    return std::string(word);
  }

  // A size expression: an integer, a symbol, or a call with everything up to its closing parenthesis.
  Result<Expr> Expression() {
    Skip();
    size_t end = at_;
    if (end < text_.size() && text_[end] == '-') ++end;
    while (end < text_.size() && IsWordChar(text_[end])) ++end;
    if (end < text_.size() && text_[end] == '(') {
      int depth = 0;
      do {
        depth += text_[end] == '(' ? 1 : text_[end] == ')' ? -1 : 0;
        ++end;
      } while (depth > 0 && end < text_.size() && text_[end] != '\n');
    }
    Result<Expr> parsed = Expr::Parse(text_.substr(at_, end - at_));
    if (!parsed.ok()) return Expected("a size expression");
    at_ = end;
    return parsed;
  }

  Error Expected(std::string_view what) { return Fail(fmt::format("expected {}, found {}", what, Found())); }
  Error Fail(std::string what) { return FailAt(at_, std::move(what)); }
  Error FailAt(size_t at, std::string what) const {
    const std::string_view before = text_.substr(0, at);
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const size_t line_start = before.rfind('\n');
    const size_t column = at - (line_start == std::string_view::npos ? 0 : line_start + 1) + 1;
    return {Code::kBadInput, std::move(what), fmt::format("{}:{}:{}", file_, line, column),
            "the text form is described in passes/ir/README.md"};
  }

 private:
  void Skip() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '#') {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        ++at_;
      } else {
        return;
      }
    }
  }
  // "-1.5e-07", "-inf", "3": a sign, then word characters, points, and signs after an exponent.
  std::string_view NumberToken() {
    Skip();
    size_t end = at_;
    if (end < text_.size() && text_[end] == '-') ++end;
    const bool digits = end < text_.size() && IsDigit(text_[end]);
    while (end < text_.size()) {
      const char c = text_[end];
      const bool exponent_sign = digits && (c == '-' || c == '+') && (text_[end - 1] == 'e' || text_[end - 1] == 'E');
      if (!IsWordChar(c) && c != '.' && !exponent_sign) break;
      ++end;
    }
    return text_.substr(at_, end - at_);
  }
  std::string Found() {
    Skip();
    if (at_ == text_.size()) return "the end of the text";
    size_t end = at_ + 1;
    if (IsWordChar(text_[at_])) {
      while (end < text_.size() && end - at_ < 24 && IsWordChar(text_[end])) ++end;
    }
    const char c = text_[at_];
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) {
      return fmt::format("byte 0x{:02x}", static_cast<unsigned char>(c));
    }
    return fmt::format("'{}'", text_.substr(at_, end - at_));
  }

  std::string_view text_;
  std::string_view file_;
  size_t at_ = 0;
};

}  // namespace autospc::ir
