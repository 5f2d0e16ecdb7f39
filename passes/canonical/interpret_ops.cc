// The ops that a mask's subgraph may hold, views apart (view_index.cc).
#include <algorithm>
#include <cmath>

#include "passes/canonical/interpret.h"

namespace autospc::canonical {
namespace {

bool OneOf(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// x as a tensor of this dtype holds it.
double Rounded(double x, DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return static_cast<float>(x);
    case DType::kBFloat16:
      return std::abs(x) >= 3.3961775e38 ? std::copysign(INFINITY, x) : static_cast<float>(x);
    case DType::kFloat16:
      return std::abs(x) >= 65520 ? std::copysign(INFINITY, x) : static_cast<float>(x);
    case DType::kBool:
      return x != 0;
    case DType::kFloat64:
      return x;
    default:
      return std::trunc(x);
  }
}

// "aten.__and__.Tensor" -> "and", "aten.bitwise_and.Tensor" -> "and", "aten.add.Tensor" -> "add".
std::string_view Operation(std::string_view op) {
  std::string_view name = ir::ShortName(op);
  if (name.starts_with("__") && name.ends_with("__")) return name.substr(2, name.size() - 4);
  if (name.starts_with("bitwise_")) return name.substr(8);
  if (name.starts_with("logical_")) return name.substr(8);
  if (name == "less") return "lt";
  if (name == "less_equal") return "le";
  if (name == "greater") return "gt";
  if (name == "greater_equal") return "ge";
  if (name == "not_equal") return "ne";
  if (name == "subtract") return "sub";
  if (name == "multiply") return "mul";
  if (name == "divide" || name == "true_divide") return "div";
  return name;
}

}  // namespace

Element Interpreter::Compute(const Node& node, const Value& v, const Index& index) {
  if (!node.op.starts_with("aten.")) return Element::Unknown();
  for (const auto step : {&Interpreter::Created, &Interpreter::Elementwise, &Interpreter::Joined, &Interpreter::Scanned,
                          &Interpreter::Indexed}) {
    Element e = (this->*step)(node, v, index);
    if (e.known()) return e;
  }
  return Element::Unknown();
}

Element Interpreter::Created(const Node& node, const Value& v, const Index& index) {
  const std::string_view name = ir::ShortName(node.op);
  if (name == "arange") {
    const bool has_start = node.op != "aten.arange.default";
    const auto start = has_start ? NumberAt(node, 0) : 0.0;
    const auto step = node.op == "aten.arange.start_step" ? NumberAt(node, 2).value_or(1) : 1.0;
    const auto first = start ? AsInteger(*start) : std::nullopt, each = AsInteger(step);
    if (!first || !each) return Element::Unknown();
    return Element::Of(index[0].Times(*each) + Linear(*first));
  }
  if (OneOf(name, {"zeros", "new_zeros", "zeros_like"})) return Element::Of(Linear(0));
  if (OneOf(name, {"ones", "new_ones", "ones_like"})) return Element::Of(Linear(1));
  std::optional<double> fill;
  if (OneOf(name, {"full", "full_like", "fill"})) fill = NumberAt(node, 1);
  if (name == "new_full") fill = NumberAt(node, 2);
  if (name == "scalar_tensor") fill = NumberAt(node, 0);
  if (fill) return Element::OfNumber(Rounded(*fill, v.dtype));
  if (name == "eye") {
    const auto p = algebra_.InRange(index[0] - index[1], 0, 0);
    return p ? Element::Of(*p) : Element::Unknown();
  }
  return Element::Unknown();
}

Element Interpreter::Cast(const Element& e, DType from, DType to) {
  if (!e.known() || from == to) return e;
  if (to == DType::kBool) {
    const auto p = algebra_.AsPredicate(e);
    return p ? Element::Of(*p) : Element::Unknown();
  }
  if (e.kind == Element::Kind::kLinear && !e.linear.is_const())
    return e;  // positions: exact in every type that holds them
  return algebra_.Map(e, [&](double x) { return Rounded(x, to); });
}

Element Interpreter::Divided(const Element& a, const Element& b, std::string_view rounding) {
  const auto constant = b.Constant();
  const auto divisor = constant ? AsInteger(*constant) : std::nullopt;
  if (a.kind == Element::Kind::kLinear && divisor && *divisor != 0) {
    const Linear numerator = *divisor < 0 ? a.linear.Times(-1) : a.linear;
    const int64_t d = std::abs(*divisor);
    if (rounding == "floor") return Element::Of(atoms().FloorDiv(numerator, d));
    if (rounding == "trunc" && atoms().RangeOf(numerator).lo >= 0) return Element::Of(atoms().FloorDiv(numerator, d));
    const bool exact = numerator.constant % d == 0 && std::all_of(numerator.terms.begin(), numerator.terms.end(),
                                                                  [&](const auto& t) { return t.second % d == 0; });
    if (exact) return Element::Of(atoms().FloorDiv(numerator, d));
  }
  return algebra_.Zip(a, b, [&](double x, double y) {
    return rounding == "floor" ? std::floor(x / y) : rounding == "trunc" ? std::trunc(x / y) : x / y;
  });
}

Element Interpreter::Arithmetic(std::string_view name, const Element& a, const Element& b, const Node& node,
                                DType type) {
  if (!a.known() || !b.known()) return Element::Unknown();
  const auto rounded = [&](const std::function<double(double, double)>& f) {
    return algebra_.Zip(a, b, [&](double x, double y) { return Rounded(f(x, y), type); });
  };
  if (name == "add" || name == "sub" || name == "rsub") {
    const double alpha = NumberAt(node, 2).value_or(1);
    const auto times = AsInteger(alpha);
    if (a.kind == Element::Kind::kLinear && b.kind == Element::Kind::kLinear && times && type != DType::kBool) {
      if (name == "rsub") return Element::Of(b.linear - a.linear.Times(*times));
      Linear sum = a.linear;
      return Element::Of(sum.Add(b.linear, name == "add" ? *times : -*times));
    }
    return rounded([&](double x, double y) {
      return name == "add" ? x + alpha * y : name == "sub" ? x - alpha * y : y - alpha * x;
    });
  }
  if (name == "mul") {
    const Element& constant = b.Constant() ? b : a;
    const Element& other = b.Constant() ? a : b;
    const auto c = constant.Constant();
    const auto times = c ? AsInteger(*c) : std::nullopt;
    if (times && other.kind == Element::Kind::kLinear && type != DType::kBool) return Element::Of(other.linear.Times(*times));
    return rounded([](double x, double y) { return x * y; });
  }
  if (name == "div" || name == "floor_divide") {
    const Arg* mode = node.op.ends_with("_mode") ? ArgAt(node, 2) : nullptr;
    const std::string_view rounding = name == "floor_divide" ? "floor" : mode ? std::string_view(mode->s) : "";
    return Divided(a, b, rounding);
  }
  if (name == "remainder" || name == "fmod") {
    const auto divisor = b.Constant();
    const auto integer = divisor ? AsInteger(*divisor) : std::nullopt;
    const bool usable = a.kind == Element::Kind::kLinear && integer && *integer > 0;
    if (usable && (name == "remainder" || atoms().RangeOf(a.linear).lo >= 0)) {
      return Element::Of(atoms().Mod(a.linear, *integer));
    }
    if (!divisor || *divisor <= 0) return Element::Unknown();
    return algebra_.Map(
        a, [&](double x) { return name == "fmod" ? std::fmod(x, *divisor) : x - *divisor * std::floor(x / *divisor); });
  }
  if (name == "maximum") return rounded([](double x, double y) { return std::isnan(x) || x > y ? x : y; });
  if (name == "minimum") return rounded([](double x, double y) { return std::isnan(x) || x < y ? x : y; });
  return Element::Unknown();
}

Element Interpreter::Elementwise(const Node& node, const Value& v, const Index& index) {
  const std::string_view base = BaseName(node.op), name = Operation(node.op);
  const auto at = [&](size_t i) { return OperandAt(node, i, index); };
  const ValueId x = ValueAt(node, 0);
  const DType from = x == kNoValue ? v.dtype : graph_.value(x).dtype;

  if (OneOf(base, {"aten.to", "aten._to_copy", "aten.type_as"})) return Cast(at(0), from, v.dtype);
  if (base == "aten.copy")
    return Cast(at(1), ValueAt(node, 1) == kNoValue ? v.dtype : graph_.value(ValueAt(node, 1)).dtype, v.dtype);
  if (OneOf(name, {"lt", "le", "gt", "ge", "eq", "ne"})) return algebra_.Compare(name, at(0), at(1));

  const bool logical = node.op.starts_with("aten.logical_") || v.dtype == DType::kBool;
  if (logical && OneOf(name, {"and", "or", "xor", "not", "mul", "add", "maximum", "minimum"})) {
    const Element ea = at(0);
    const auto a = ea.known() ? algebra_.AsPredicate(ea) : std::nullopt;
    if (!a) return Element::Unknown();
    if (name == "not") return Element::Of(Predicate::Not(*a));
    const Element eb = at(1);
    const auto b = eb.known() ? algebra_.AsPredicate(eb) : std::nullopt;
    if (!b) return Element::Unknown();
    if (name == "and" || name == "mul" || name == "minimum") return Element::Of(Predicate::And({*a, *b}));
    if (name == "or" || name == "add" || name == "maximum") return Element::Of(Predicate::Or({*a, *b}));
    return Element::Of(
        Predicate::Or({Predicate::And({*a, Predicate::Not(*b)}), Predicate::And({Predicate::Not(*a), *b})}));
  }
  if (OneOf(name, {"add", "sub", "rsub", "mul", "div", "floor_divide", "remainder", "fmod", "maximum", "minimum"})) {
    return Arithmetic(name, at(0), at(1), node, v.dtype);
  }
  if (name == "where" && node.args.size() == 3) {
    const Element condition = at(0);
    const auto p = condition.known() ? algebra_.AsPredicate(condition) : std::nullopt;
    return p ? algebra_.Select(*p, at(1), at(2)) : Element::Unknown();
  }
  if (name == "masked_fill") {
    const Element condition = at(1);
    const auto p = condition.known() ? algebra_.AsPredicate(condition) : std::nullopt;
    return p ? algebra_.Select(*p, Cast(at(2), DType::kFloat64, v.dtype), at(0)) : Element::Unknown();
  }
  if (name == "tril" || name == "triu") {
    const int64_t diagonal = IntAt(node, 1, 0);
    const Linear d = index[index.size() - 1] - index[index.size() - 2];  // column - row
    const auto kept = name == "tril" ? algebra_.InRange(d, Predicate::kMin, diagonal)
                                     : algebra_.InRange(d, diagonal, Predicate::kMax);
    if (!kept) return Element::Unknown();
    const Element e = Cast(algebra_.Select(*kept, at(0), Element::Of(Linear(0))), DType::kFloat64, v.dtype);
    return e;
  }
  if (OneOf(name, {"neg", "abs", "floor", "ceil", "trunc", "round", "clamp", "clamp_min", "clamp_max", "log",
                   "isneginf", "isinf", "zeros_like"})) {
    const Element e = at(0);
    if (e.kind == Element::Kind::kLinear && !e.linear.is_const()) {
      if (name == "neg") return Element::Of(e.linear.Times(-1));
      if (name == "abs") return Element::Of(atoms().Abs(e.linear));
      if (OneOf(name, {"floor", "ceil", "trunc", "round"})) return e;
      if (!name.starts_with("clamp")) return Element::Unknown();
      const Range range = atoms().RangeOf(e.linear);
      const auto lo = name == "clamp_max" ? std::nullopt : NumberAt(node, 1);
      const auto hi = name == "clamp_max" ? NumberAt(node, 1) : NumberAt(node, 2);
      const bool idle = (!lo || *lo <= static_cast<double>(range.lo)) && (!hi || *hi >= static_cast<double>(range.hi));
      return idle ? e : Element::Unknown();
    }
    return algebra_.Map(e, [&](double y) -> double {
      if (name == "neg") return -y;
      if (name == "abs") return std::abs(y);
      if (name == "floor") return std::floor(y);
      if (name == "ceil") return std::ceil(y);
      if (name == "trunc") return std::trunc(y);
      if (name == "round") return std::nearbyint(y);
      if (name == "log") return Rounded(std::log(y), v.dtype);
      if (name == "isinf") return std::isinf(y);
      if (name == "isneginf") return std::isinf(y) && y < 0;
      const auto lo = name == "clamp_max" ? std::nullopt : NumberAt(node, 1);
      const auto hi = name == "clamp_max" ? NumberAt(node, 1) : NumberAt(node, 2);
      if (lo) y = std::max(y, *lo);
      return hi ? std::min(y, *hi) : y;
    });
  }
  return Element::Unknown();
}

Element Interpreter::Joined(const Node& node, const Value& v, const Index& index) {
  const std::string_view name = ir::ShortName(node.op);
  const int rank = v.rank();
  if (name == "cat" || name == "concat" || name == "stack") {
    if (node.args.empty() || node.args[0].kind != Arg::Kind::kValueList) return Element::Unknown();
    const int d = WrapDim(IntAt(node, 1, 0), rank);
    Element e;
    int64_t begin = 0;
    bool first = true;
    for (const ValueId piece : node.args[0].values) {
      if (name != "stack" && graph_.value(piece).rank() != rank) return Element::Unknown();  // an empty one may have one dim
      const int64_t length = name == "stack" ? 1 : graph_.value(piece).sizes[d].value();
      const auto here = algebra_.InRange(index[d], begin, begin + length - 1);
      if (!here) return Element::Unknown();
      Index inner = index;
      inner[d].constant -= begin;
      if (name == "stack") inner.erase(inner.begin() + d);
      begin += length;
      if (here->kind == Predicate::Kind::kFalse) continue;
      const Element part = At(piece, inner);
      if (!part.known()) return Element::Unknown();
      e = first ? part : algebra_.Select(*here, part, e);
      first = false;
    }
    return e;
  }
  if (name == "slice_scatter") {
    const int d = WrapDim(IntAt(node, 2, 0), rank);
    const SliceRange range = ResolveSlice(v.sizes[d].value(), IntAt(node, 3), IntAt(node, 4), IntAt(node, 5, 1));
    if (range.step != 1) return Element::Unknown();
    const auto inside = algebra_.InRange(index[d], range.start, range.start + range.length - 1);
    if (!inside) return Element::Unknown();
    Index inner = index;
    inner[d].constant -= range.start;
    return algebra_.Select(*inside, At(ValueAt(node, 1), inner), At(ValueAt(node, 0), index));
  }
  if (name == "select_scatter") {
    const int d = WrapDim(IntAt(node, 2, 0), rank);
    const int64_t at = IntAt(node, 3, 0), position = at < 0 ? at + v.sizes[d].value() : at;
    const auto inside = algebra_.InRange(index[d], position, position);
    if (!inside) return Element::Unknown();
    Index inner = index;
    inner.erase(inner.begin() + d);
    return algebra_.Select(*inside, At(ValueAt(node, 1), inner), At(ValueAt(node, 0), index));
  }
  if (name == "pad" || name == "constant_pad_nd") {
    const std::vector<int64_t> pads = IntsAt(node, 1);
    const Arg* mode = name == "pad" ? ArgAt(node, 2) : nullptr;
    if (mode && mode->s != "constant") return Element::Unknown();
    const double fill = NumberAt(node, name == "pad" ? 3 : 2).value_or(0);
    Predicate inside = Predicate::True();
    Index inner = index;
    const std::vector<int64_t> sizes = graph_.value(ValueAt(node, 0)).int_sizes();
    if (sizes.size() != static_cast<size_t>(rank) || pads.size() > 2 * sizes.size()) return Element::Unknown();
    for (size_t i = 0; i + 1 < pads.size(); i += 2) {
      const auto d = static_cast<size_t>(rank) - 1 - i / 2;
      inner[d].constant -= pads[i];
      const auto here = algebra_.InRange(inner[d], 0, sizes[d] - 1);
      if (!here) return Element::Unknown();
      inside = Predicate::And({inside, *here});
    }
    return algebra_.Select(inside, At(ValueAt(node, 0), inner), Element::OfNumber(Rounded(fill, v.dtype)));
  }
  return Element::Unknown();
}

Element Interpreter::Scanned(const Node& node, const Value& v, const Index& index) {
  const std::string_view name = ir::ShortName(node.op);
  const int rank = v.rank();
  const ValueId x = ValueAt(node, 0);
  if (name == "cumsum" && rank > 0) {
    const int d = WrapDim(IntAt(node, 1, 0), rank);
    Index inner = index;
    inner[d] = Linear::Of(atoms().NewIndex(v.sizes[d].value()));
    const auto constant = At(x, inner).Constant();
    const auto each = constant ? AsInteger(*constant) : std::nullopt;
    return each ? Element::Of((index[d] + Linear(1)).Times(*each)) : Element::Unknown();
  }
  if (name == "diff" && IntAt(node, 1, 1) == 1 && ValueAt(node, 4) == kNoValue && v.dtype != DType::kBool) {
    const int d = WrapDim(IntAt(node, 2, -1), rank);
    const ValueId prepend = ValueAt(node, 3);
    if (rank == 0 || (prepend != kNoValue && graph_.value(prepend).rank() != rank)) return Element::Unknown();
    const int64_t before = prepend == kNoValue ? 0 : graph_.value(prepend).sizes[d].value();
    if (before > 1) return Element::Unknown();
    const auto shifted = [&](ValueId from, Linear at) {
      Index inner = index;
      inner[d] = std::move(at);
      return At(from, inner);
    };
    const auto minus = [](const Element& a, const Element& b) -> std::optional<Linear> {
      if (a.kind != Element::Kind::kLinear || b.kind != Element::Kind::kLinear) return std::nullopt;
      return a.linear - b.linear;
    };
    // Element i is x[i + 1 - before] - x[i - before], the first one x[0] - prepend[0]. Where they differ, no one
    // expression is the result. The second index may be -1 for the first element, which it does not stand for.
    const Range range = atoms().RangeOf(index[d]);
    std::optional<Linear> result;
    if (range.hi >= before) {
      const Linear next = index[d] + Linear(1 - before);
      result = minus(shifted(x, next), shifted(x, next - Linear(1)));
      if (!result) return Element::Unknown();
    }
    if (before == 1 && range.lo == 0) {
      const auto first = minus(shifted(x, Linear(0)), shifted(prepend, Linear(0)));
      if (!first || (result && *first != *result)) return Element::Unknown();
      result = first;
    }
    return result ? Element::Of(*result) : Element::Unknown();
  }
  return Element::Unknown();
}

Element Interpreter::Indexed(const Node& node, const Value& v, const Index& index) {
  const std::string_view name = ir::ShortName(node.op);
  const ValueId x = ValueAt(node, 0);
  if (x == kNoValue) return Element::Unknown();
  const std::vector<int64_t> sizes = graph_.value(x).int_sizes();
  // A computed position as an index along a dim of this size; negative ones count from the end.
  const auto position = [&](const Element& e, int64_t size) -> std::optional<Linear> {
    if (e.kind != Element::Kind::kLinear) return std::nullopt;
    const Range range = atoms().RangeOf(e.linear);
    if (range.Within(0, size - 1)) return e.linear;
    if (range.Within(-size, -1)) return e.linear + Linear(size);
    return std::nullopt;
  };
  if ((name == "gather" || name == "index_select") && !sizes.empty() && index.size() == sizes.size()) {
    const int d = WrapDim(IntAt(node, 1, 0), static_cast<int>(sizes.size()));
    const Element e = At(ValueAt(node, 2), name == "gather" ? index : Index{index[d]});
    const auto p = position(e, sizes[d]);
    if (!p) return Element::Unknown();
    Index inner = index;
    inner[d] = *p;
    return At(x, inner);
  }
  if (name != "index" || node.args.size() < 2 || node.args[1].kind != Arg::Kind::kValueList) return Element::Unknown();
  std::vector<ValueId> indices = node.args[1].values;
  indices.resize(sizes.size(), kNoValue);
  int broadcast = 0, first = -1, last = -1, count = 0;
  for (int d = 0; d < static_cast<int>(indices.size()); ++d) {
    if (indices[d] == kNoValue) continue;
    if (graph_.value(indices[d]).dtype == DType::kBool) return Element::Unknown();
    broadcast = std::max(broadcast, graph_.value(indices[d]).rank());
    if (first < 0) first = d;
    last = d;
    ++count;
  }
  if (first < 0) return At(x, index);
  // Indexed dims together stay in place; apart, their broadcast dims go first.
  const int at = last - first + 1 == count ? first : 0;
  const Index looked_up(index.begin() + at, index.begin() + at + broadcast);
  Index inner;
  int next = 0;
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (next == at) next += broadcast;
    if (indices[d] == kNoValue) {
      inner.push_back(index[next++]);
      continue;
    }
    const auto p = position(At(indices[d], Broadcast(indices[d], looked_up)), sizes[d]);
    if (!p) return Element::Unknown();
    inner.push_back(*p);
  }
  return At(x, inner);
}

}  // namespace autospc::canonical
