#include "compiler/import/sympy.h"

#include <gtest/gtest.h>

#include <cmath>

namespace autospc::import {
namespace {

const std::string kS = "Symbol('s0', positive=True, integer=True)";

int64_t At(const std::string& text, int64_t s) {
  const auto sym = ParseSrepr(text);
  EXPECT_TRUE(sym.ok()) << text;
  if (!sym.ok()) return -1;
  const auto e = ToExpr(*sym);
  EXPECT_TRUE(e.ok()) << text << " " << e.error().Format();
  if (!e.ok()) return -1;
  // Both ways of computing agree.
  EXPECT_EQ(std::floor(*EvalNumber(*sym, {{"s0", s}})), *e->Eval({{"s0", s}})) << text;
  return *e->Eval({{"s0", s}});
}

TEST(Sympy, Functions) {
  EXPECT_EQ(At("Integer(-7)", 5), -7);
  EXPECT_EQ(At(kS, 5), 5);
  EXPECT_EQ(At("Add(Mul(Integer(2), " + kS + "), Integer(-2))", 5), 8);
  EXPECT_EQ(At("Max(Integer(1), Add(" + kS + ", Integer(-1)))", 1), 1);
  EXPECT_EQ(At("Min(Mul(Integer(128), " + kS + "), Mul(Integer(512), " + kS + "))", 3), 384);
  EXPECT_EQ(At("Pow(" + kS + ", Integer(2))", 7), 49);
  EXPECT_EQ(At("FloorDiv(Add(" + kS + ", Integer(3)), Integer(4))", 6), 2);
  EXPECT_EQ(At("CleanDiv(" + kS + ", Integer(2))", 6), 3);
  EXPECT_EQ(At("Mod(" + kS + ", Integer(4))", 7), 3);
  EXPECT_EQ(At("PythonMod(Mul(Integer(-1), " + kS + "), Integer(4))", 7), 1);
  EXPECT_EQ(At("ModularIndexing(" + kS + ", Integer(3), Integer(4))", 17), 1);
  EXPECT_EQ(At("ToFloat(" + kS + ")", 7), 7);
  EXPECT_EQ(At("TruncToInt(IntTrueDiv(" + kS + ", Integer(2)))", 7), 3);
  EXPECT_EQ(At("FloorToInt(FloatTrueDiv(ToFloat(" + kS + "), Float('2.0', precision=53)))", 7), 3);
  EXPECT_EQ(At("CeilToInt(IntTrueDiv(" + kS + ", Integer(2)))", 7), 4);
  EXPECT_EQ(At("LShift(" + kS + ", Integer(3))", 5), 40);
  EXPECT_EQ(At("RShift(" + kS + ", Integer(1))", 5), 2);
}

TEST(Sympy, RationalsMeetInOneDivision) {
  EXPECT_EQ(At("Mul(Rational(1, 2), " + kS + ")", 6), 3);
  EXPECT_EQ(At("Add(Mul(Rational(1, 2), " + kS + "), Rational(1, 2))", 7), 4);  // halves add up before the floor
  EXPECT_EQ(At("Mul(Integer(12), Pow(" + kS + ", Integer(-1)))", 4), 3);
}

TEST(Sympy, FloatsAndComparisons) {
  const auto number = [](const std::string& text, int64_t s) { return *EvalNumber(*ParseSrepr(text), {{"s0", s}}); };
  EXPECT_DOUBLE_EQ(number("FloatTrueDiv(Float('1.0', precision=53), OpaqueUnaryFn_sqrt(ToFloat(" + kS + ")))", 16),
                   0.25);
  EXPECT_DOUBLE_EQ(number("FloatPow(ToFloat(" + kS + "), Float('0.5', precision=53))", 16), 4);
  EXPECT_EQ(number("Where(StrictGreaterThan(" + kS + ", Integer(4)), Integer(1), Integer(2))", 5), 1);
  EXPECT_EQ(number("And(true, Equality(" + kS + ", Integer(5)))", 5), 1);
}

TEST(Sympy, WhatDependsOnDataIsRefused) {
  const auto sym = ParseSrepr("Add(Symbol('u12', integer=True), Integer(1))");
  ASSERT_TRUE(sym.ok());
  EXPECT_EQ(FindUnbacked(*sym).value_or(""), "u12");
  EXPECT_EQ(ToExpr(*sym).error().code, Code::kUnsupported);
  EXPECT_EQ(FindUnbacked(*ParseSrepr("Symbol('zuf0')")).value_or(""), "zuf0");
  EXPECT_FALSE(FindUnbacked(*ParseSrepr("Symbol('user')")).has_value());
}

TEST(Sympy, WhatIsNoExpressionIsAnError) {
  for (const char* bad : {"", "Integer(", "Integer(x)", "Symbol(s0)", "Symbol('')", "Add(Integer(1)",
                          "Add(Integer(1),)", "Integer(1) 2", "Integer(99999999999999999999)", ")", "Float('x')"}) {
    EXPECT_FALSE(ParseSrepr(bad).ok()) << bad;
  }
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "Add(";
  EXPECT_FALSE(ParseSrepr(deep).ok());
  EXPECT_EQ(ToExpr(*ParseSrepr("Bessel(Integer(1))")).error().code, Code::kUnsupported);
  EXPECT_EQ(EvalNumber(*ParseSrepr(kS), {}).error().code, Code::kBadInput);
}

}  // namespace
}  // namespace autospc::import
