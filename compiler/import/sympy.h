// Size expressions as torch.export writes them: sympy's srepr, e.g.
// "Mul(Integer(2), Symbol('s38', positive=True, integer=True))".
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "passes/ir/types.h"
#include "runtime/base/result.h"

namespace autospc::import {

// A parsed expression: integer, float, boolean or symbol, or a function of operands.
struct Sym {
  enum class Kind : uint8_t { kInt, kFloat, kBool, kSymbol, kCall };
  Kind kind = Kind::kInt;
  int64_t i = 0;     // kInt; kBool: 0 or 1
  double f = 0;      // kFloat
  std::string name;  // kSymbol: its name; kCall: the function's ("Mul")
  std::vector<Sym> operands;
};

// kBadInput where the text is no such expression.
Result<Sym> ParseSrepr(std::string_view text);

// As an integer expression. Rationals are carried through sums and products and end in one floor division
// (exports hold Mul(Rational(1, 2), s) only where it divides). kUnsupported for a function that ir::Expr
// can't express, and for an unbacked symbol (u0), whose value depends on data.
Result<ir::Expr> ToExpr(const Sym& sym);

// As a number, symbols taken from `bindings`. Booleans are 0 and 1. kBadInput for an unbound symbol,
// kUnsupported for an unknown function.
Result<double> EvalNumber(const Sym& sym, const std::map<std::string, int64_t>& bindings);

// The first symbol in it whose value depends on data ("u0", "zuf1"): export's names for them.
std::optional<std::string> FindUnbacked(const Sym& sym);

}  // namespace autospc::import
