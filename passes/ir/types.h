// Element types and symbolic integers.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace autospc::ir {

enum class DType : uint8_t {
  kBool, kUInt8, kInt8, kInt16, kInt32, kInt64,
  kFloat16, kBFloat16, kFloat32, kFloat64, kComplex64, kComplex128,
};

int64_t ByteSize(DType dtype);
bool IsFloating(DType dtype);  // real floating point or complex: what can have a gradient
bool IsComplex(DType dtype);
// "bool", "u8", "i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f64", "c64", "c128".
std::string_view Name(DType dtype);
Result<DType> ParseDType(std::string_view name);

// An immutable integer expression over named symbols (the export's "s38"). Constants fold; no other
// algebra is done: expressions are evaluated, or compared by their text.
class Expr {
 public:
  enum class Op : uint8_t { kConst, kSymbol, kAdd, kMul, kFloorDiv, kMod, kMin, kMax, kPow };

  Expr(int64_t value = 0) : value_(value) {}  // implicit: sizes are mostly constants
  static Expr Symbol(std::string name);
  static Expr Make(Op op, std::vector<Expr> operands);  // floor_div, mod, pow take two

  bool is_const() const { return !node_; }
  int64_t value() const { return value_; }  // of a constant
  // The value under `bindings`; kBadInput naming the symbol that is not bound, or a division by zero.
  Result<int64_t> Eval(const std::map<std::string, int64_t>& bindings) const;
  void CollectSymbols(std::set<std::string>* symbols) const;
  // "64", "s38", "add(s38, -1)", "floordiv(s38, 2)"; Parse reads the same.
  std::string ToString() const;
  static Result<Expr> Parse(std::string_view text);
  bool operator==(const Expr& other) const;

 private:
  struct Node {
    Op op;
    std::string symbol;
    std::vector<Expr> operands;
  };
  int64_t value_ = 0;
  std::shared_ptr<const Node> node_;
};

}  // namespace autospc::ir
