#include "passes/canonical/interpret.h"

#include <algorithm>
#include <cmath>

namespace autospc::canonical {
namespace {

constexpr int kBudget = 100000;  // elements computed for one score shape; a mask needs some hundred
constexpr int kMaxDepth = 300;   // nodes on one path: each takes some KiB of the stack, and a mask has dozens

bool IsInteger(DType dtype) { return !IsFloating(dtype); }

// x where x only passed through views that keep the order of its elements.
ValueId StripViews(const Graph& graph, ValueId v) {
  while (const Node* node = graph.producer(v)) {
    const std::string_view base = BaseName(node->op);
    const bool view = base == "aten.expand" || base == "aten.unsqueeze" || base == "aten.squeeze" ||
                      base == "aten.alias" || base == "aten.contiguous" || base == "aten.clone" || base == "aten.to" ||
                      base == "aten.reshape" || base == "aten.view" || base == "aten._to_copy";
    const ValueId x = ValueAt(*node, 0);
    if (!view || x == kNoValue || IsFloating(graph.value(x).dtype)) break;
    v = x;
  }
  return v;
}

}  // namespace

Interpreter::Interpreter(Graph& graph, Constants& constants, ScoreShape shape)
    : graph_(graph),
      constants_(constants),
      shape_(shape),
      algebra_(shape.batch, shape.heads, shape.q, shape.k),
      budget_(kBudget) {}

Index Interpreter::TopIndex(ValueId mask) const {
  const std::vector<int64_t> sizes = graph_.value(mask).int_sizes();
  const int rank = static_cast<int>(sizes.size());
  Index index(rank);
  for (int d = 0; d < rank; ++d) {
    AtomId atom = 4 - rank + d;  // right-aligned with [batch, heads, q, k]
    // Scores [N, q, k] have one head, and what broadcasts to them has its batch where heads would be.
    if (atom == Atoms::kHead && shape_.heads == 1) atom = Atoms::kBatch;
    if (sizes[d] != 1) index[d] = Linear::Of(atom);
  }
  return index;
}

std::optional<Predicate> Interpreter::ReadBoolean(ValueId mask) {
  if (graph_.value(mask).rank() > 4) return std::nullopt;
  const Element e = At(mask, TopIndex(mask));
  return e.known() ? algebra_.AsPredicate(e) : std::nullopt;
}

std::optional<std::vector<Case>> Interpreter::ReadCases(ValueId mask) {
  if (graph_.value(mask).rank() > 4) return std::nullopt;
  return algebra_.AsCases(At(mask, TopIndex(mask)));
}

std::optional<Predicate> Interpreter::Finish(const Predicate& predicate) {
  return algebra_.ResolvePairs(predicate, [&](int s, int p) { return SegmentsOf(s, p); });
}

Element Interpreter::At(ValueId v, const Index& index) {
  if (static_cast<int>(index.size()) != graph_.value(v).rank()) return Element::Unknown();  // the recorded shapes are lies
  const std::pair<ValueId, Index> key(v, index);
  if (const auto it = memo_.find(key); it != memo_.end()) return it->second;
  if (--budget_ < 0 || depth_ > kMaxDepth) return Element::Unknown();
  ++depth_;
  Element e;
  const Value& value = graph_.value(v);
  if (const Node* node = graph_.producer(v)) {
    if (const auto view = MapViewIndex(graph_, *node, value, index, atoms())) {
      e = At(view->first, view->second);
    } else {
      e = Compute(*node, value, index);
    }
  } else if (constants_.IsConstant(v)) {
    e = FromConstant(v, index);
  }
  if (!Fits(e, value.dtype)) e = Element::Unknown();
  if (!e.known()) e = Leaf(v, index);
  --depth_;
  memo_.emplace(key, e);
  return e;
}

bool Interpreter::Fits(const Element& e, DType dtype) {
  int64_t lo = 0, hi = 0;
  switch (dtype) {
    case DType::kUInt8:
      hi = 255;
      break;
    case DType::kInt8:
      lo = -128, hi = 127;
      break;
    case DType::kInt16:
      lo = -32768, hi = 32767;
      break;
    // Positions that a narrow floating type does not hold exactly; constants were rounded when they were read.
    case DType::kBFloat16:
      lo = -256, hi = 256;
      break;
    case DType::kFloat16:
      lo = -2048, hi = 2048;
      break;
    case DType::kFloat32:
      lo = -(1 << 24), hi = 1 << 24;
      break;
    case DType::kInt32:
      lo = INT32_MIN, hi = INT32_MAX;
      break;
    default:
      return true;
  }
  if (IsFloating(dtype) && (e.kind != Element::Kind::kLinear || e.linear.is_const())) return true;
  const auto fits = [&](double x) { return static_cast<double>(lo) <= x && x <= static_cast<double>(hi); };
  if (e.kind == Element::Kind::kCases) {
    return std::all_of(e.cases.begin(), e.cases.end(), [&](const Case& c) { return fits(c.value); });
  }
  if (e.kind != Element::Kind::kLinear) return true;
  // A vector's own elements fit; what is computed from them may not.
  const bool own = e.linear.AsAtom() >= 0 && atoms().at(e.linear.AsAtom()).kind == Atom::Kind::kVector;
  return own || atoms().RangeOf(e.linear).Within(lo, hi);
}

Index Interpreter::Broadcast(ValueId v, const Index& index) const {
  const std::vector<int64_t> sizes = graph_.value(v).int_sizes();
  Index mapped(index.end() - static_cast<std::ptrdiff_t>(std::min(sizes.size(), index.size())), index.end());
  for (size_t d = 0; d < mapped.size(); ++d) {
    if (sizes[d] == 1) mapped[d] = Linear(0);
  }
  return mapped;
}

Element Interpreter::OperandAt(const Node& node, size_t i, const Index& index) {
  const Arg* arg = ArgAt(node, i);
  if (!arg) return Element::Unknown();
  if (arg->is_value()) return At(arg->value, Broadcast(arg->value, index));
  const auto number = NumberAt(node, i);
  return number ? Element::OfNumber(*number) : Element::Unknown();
}

// [S], [1, S], [B, S], also with dims of size 1 between: indexed by the batch and by q or k as they stand.
Element Interpreter::Leaf(ValueId v, const Index& index) {
  const Value& value = graph_.value(v);
  const ir::GraphInput* in = graph_.FindInput(v);
  if (!IsInteger(value.dtype) || (in && in->kind == ir::InputKind::kParameter)) return Element::Unknown();
  Atom atom;
  atom.kind = Atom::Kind::kVector;
  atom.source = v;
  bool batch = false;
  for (int d = 0; d < value.rank(); ++d) {
    const int64_t size = value.sizes[d].value();
    if (size == 1) continue;
    const AtomId id = index[d].AsAtom();
    if (id == Atoms::kBatch && !batch && atom.position < 0 && size == shape_.batch) {
      batch = true;
    } else if (atom.position < 0 &&
               ((id == Atoms::kQuery && size == shape_.q) || (id == Atoms::kKey && size == shape_.k))) {
      atom.position = id;
    } else {
      return Element::Unknown();
    }
  }
  if (atom.position < 0 && !batch) return Element::Unknown();  // one element: nothing to look up
  const bool per_batch = atom.position < 0;
  if (value.dtype != DType::kBool) return Element::Of(Linear::Of(atoms().Intern(atom)));
  const int vector = algebra_.InternVector({v, Predicate::kMin, Predicate::kMax, per_batch});
  const auto kind = atom.position == Atoms::kKey ? Predicate::Kind::kKey : Predicate::Kind::kQuery;
  return Element::Of(Predicate::Make(kind, Predicate::kMin, Predicate::kMax, vector));
}

// segments = cumsum(diff(positions) != 1): constant only where positions grow by one a step.
bool Interpreter::SegmentsOf(int segments, int positions) const {
  const ValueId source = algebra_.vectors()[positions].source;
  const Node* cumsum = ProducerIs(graph_, StripViews(graph_, algebra_.vectors()[segments].source), "aten.cumsum");
  if (!cumsum) return false;
  const Node* ne = ProducerIs(graph_, StripViews(graph_, ValueAt(*cumsum, 0)), "aten.ne");
  if (!ne || NumberAt(*ne, 1) != 1.0) return false;
  const Node* diff = ProducerIs(graph_, StripViews(graph_, ValueAt(*ne, 0)), "aten.diff");
  if (!diff || IntAt(*diff, 1, 1) != 1) return false;
  const int rank = graph_.value(ValueAt(*diff, 0)).rank();
  const bool along_positions =
      WrapDim(IntAt(*diff, 2, -1), rank) == rank - 1 && WrapDim(IntAt(*cumsum, 1, 0), rank) == rank - 1;
  // One element before the first makes the result as long as the positions; its value moves all segments alike.
  const ValueId prepend = ValueAt(*diff, 3);
  const bool one_before =
      prepend != kNoValue && graph_.value(prepend).sizes.back().value() == 1 && ValueAt(*diff, 4) == kNoValue;
  return along_positions && one_before && StripViews(graph_, ValueAt(*diff, 0)) == StripViews(graph_, source);
}

Predicate Interpreter::Materialise(const Predicate& predicate, std::vector<ValueId>* vectors) {
  Predicate p = predicate;
  std::map<int, int> renumbered;
  const auto visit = [&](const auto& self, Predicate& node) -> void {
    if (node.vector >= 0) {
      const auto [it, is_new] = renumbered.try_emplace(node.vector, static_cast<int>(vectors->size()));
      if (is_new) {
        const auto emitted = emitted_.find(node.vector);
        const ValueId v = emitted != emitted_.end() ? emitted->second : EmitVector(algebra_.vectors()[node.vector]);
        emitted_[node.vector] = v;
        vectors->push_back(v);
      }
      node.vector = it->second;
    }
    for (Predicate& o : node.operands) self(self, o);
  };
  visit(visit, p);
  return p;
}

ValueId Interpreter::EmitVector(const VectorSpec& spec) {
  const Node* producer = graph_.producer(spec.source);
  // Right after the source, so that every attention that shares the mask comes later.
  auto at = graph_.nodes().begin();
  if (producer) at = std::next(std::find(graph_.nodes().begin(), graph_.nodes().end(), producer->id));
  const NodeId before = at == graph_.nodes().end() ? kNoNode : *at;
  const Node like = producer ? *producer : before == kNoNode ? Node{} : graph_.node(before);

  ValueId v = spec.source;
  const Value source = graph_.value(v);
  int64_t length = 1;  // positions are the last dim of more than one element
  for (int d = source.rank(); d-- > 0 && length == 1 && !spec.per_batch;) length = source.sizes[d].value();
  const std::vector<int64_t> flat = {source.numel() / std::max<int64_t>(length, 1), length};
  const auto sizes = [](const std::vector<int64_t>& s) { return std::vector<ir::Expr>(s.begin(), s.end()); };
  if (source.int_sizes() != flat) {
    v = graph_.Emit("aten.reshape.default", {Arg::Value(v), Arg::Ints(flat)}, source.dtype, sizes(flat), before, &like);
  }
  const auto compare = [&](const char* op, int64_t bound) {
    return graph_.Emit(op, {Arg::Value(v), Arg::Int(bound)}, DType::kBool, sizes(flat), before, &like);
  };
  const bool has_lo = spec.lo != Predicate::kMin, has_hi = spec.hi != Predicate::kMax;
  if (has_lo && has_hi && spec.lo == spec.hi) {
    v = compare("aten.eq.Scalar", spec.lo);
  } else if (has_lo && has_hi) {
    const ValueId lower = compare("aten.ge.Scalar", spec.lo), upper = compare("aten.le.Scalar", spec.hi);
    v = graph_.Emit("aten.logical_and.default", {Arg::Value(lower), Arg::Value(upper)}, DType::kBool, sizes(flat),
                    before, &like);
  } else if (has_lo) {
    v = compare("aten.ge.Scalar", spec.lo);
  } else if (has_hi) {
    v = compare("aten.le.Scalar", spec.hi);
  }
  const DType dtype = graph_.value(v).dtype;
  if (dtype != DType::kBool && dtype != DType::kInt64) {
    v = graph_.Emit("aten.to.dtype",
                    {Arg::Value(v), Arg::Type(DType::kInt64), Arg::Bool(false), Arg::Bool(false), Arg::None()},
                    DType::kInt64, sizes(flat), before, &like);
  }
  if (spec.per_batch) {
    const std::vector<int64_t> wide = {flat[0], std::max(shape_.q, shape_.k)};
    v = graph_.Emit("aten.expand.default", {Arg::Value(v), Arg::Ints(wide), Arg::Bool(false)}, graph_.value(v).dtype,
                    sizes(wide), before, &like);
  }
  return v;
}

// Data of the file: one element, an affine or piecewise sequence, or a fitted matrix.
Element Interpreter::FromConstant(ValueId v, const Index& index) {
  const Value& value = graph_.value(v);
  Linear offset;
  int64_t stride = 1;
  for (int d = value.rank(); d-- > 0;) {
    const int64_t size = value.sizes[d].value();
    if (!atoms().RangeOf(index[d]).Within(0, size - 1)) return Element::Unknown();
    offset.Add(index[d], stride);
    stride *= size;
  }
  if (offset.is_const()) {
    const auto x = constants_.Read(v, offset.constant);
    return x ? Element::OfNumber(*x) : Element::Unknown();
  }
  // One or two indices vary: the query's and the key's where it is a mask.
  if (offset.terms.size() > 2) return Element::Unknown();
  const bool is_mask = std::all_of(offset.terms.begin(), offset.terms.end(),
                                   [](const auto& t) { return t.first == Atoms::kQuery || t.first == Atoms::kKey; });
  const AtomId first = is_mask ? Atoms::kQuery : offset.terms.begin()->first;
  const AtomId second = is_mask ? Atoms::kKey : std::prev(offset.terms.end())->first;
  const auto step = [&](AtomId atom) {
    const auto it = offset.terms.find(atom);
    return it == offset.terms.end() ? int64_t{0} : it->second;
  };
  const bool one = first == second;
  const int64_t by_q = step(first), by_k = one ? 0 : step(second);
  if (atoms().at(first).kind != Atom::Kind::kIndex || atoms().at(second).kind != Atom::Kind::kIndex)
    return Element::Unknown();
  const int64_t rows = by_q == 0 ? 1 : atoms().at(first).size, columns = by_k == 0 ? 1 : atoms().at(second).size;
  const auto read = [&](int64_t q, int64_t k) { return constants_.Read(v, offset.constant + by_q * q + by_k * k); };
  if (!read(0, 0)) return Element::Unknown();  // the file holds no data of it
  const auto at = [&](int64_t q, int64_t k) { return *read(q, k); };

  // Affine integers: start + a q + b k.
  if (IsInteger(value.dtype) && value.dtype != DType::kBool) {
    const auto corner = AsInteger(at(0, 0)), below = AsInteger(at(rows > 1 ? 1 : 0, 0)), beside = AsInteger(at(0, columns > 1 ? 1 : 0));
    bool affine = corner && below && beside;
    const double start = at(0, 0), a = affine ? at(rows > 1 ? 1 : 0, 0) - start : 0, b = affine ? at(0, columns > 1 ? 1 : 0) - start : 0;
    for (int64_t q = 0; q < rows && affine; ++q) {
      for (int64_t k = 0; k < columns && affine; ++k) {
        affine = at(q, k) == start + a * static_cast<double>(q) + b * static_cast<double>(k);
      }
    }
    if (affine) {
      return Element::Of(Linear::Of(first).Times(*below - *corner) + Linear::Of(second).Times(*beside - *corner) + Linear(*corner));
    }
  }
  if (!is_mask) return Element::Unknown();
  // At most two values: where is the higher one?
  double low = at(0, 0), high = low;
  for (int64_t q = 0; q < rows; ++q) {
    for (int64_t k = 0; k < columns; ++k) {
      const double x = at(q, k);
      if (x == low || x == high) continue;
      if (low != high || std::isnan(x)) return Element::Unknown();
      (x < low ? low : high) = x;
    }
  }
  if (low == high) return Element::OfNumber(low);
  std::vector<uint8_t> is_high(static_cast<size_t>(rows * columns));
  for (int64_t i = 0; i < rows * columns; ++i) is_high[i] = at(i / columns, i % columns) == high;
  const auto fitted = FitPredicate(rows, columns, [&](int64_t q, int64_t k) { return is_high[q * columns + k] != 0; });
  if (!fitted) return Element::Unknown();
  // Fitted over what varies: with one row only, an index difference is one of the other index alone.
  Predicate p = *fitted;
  if (rows == 1 || columns == 1) {
    const auto one_axis = [&](const auto& self, const Predicate& node) -> Predicate {
      using Kind = Predicate::Kind;
      if (node.kind == Kind::kDiff && rows == 1) {
        return Predicate::Make(Kind::kK, node.hi == Predicate::kMax ? Predicate::kMin : -node.hi,
                               node.lo == Predicate::kMin ? Predicate::kMax : -node.lo);
      }
      if (node.kind == Kind::kDiff) return Predicate::Make(Kind::kQ, node.lo, node.hi);
      if (node.kind == Kind::kSameChunk) return Predicate::Make(rows == 1 ? Kind::kK : Kind::kQ, 0, node.lo - 1);
      if (node.kind == (rows == 1 ? Kind::kQ : Kind::kK)) {
        return node.lo <= 0 && 0 <= node.hi ? Predicate::True() : Predicate::False();
      }
      std::vector<Predicate> operands;
      for (const Predicate& o : node.operands) operands.push_back(self(self, o));
      if (node.kind == Kind::kAnd) return Predicate::And(std::move(operands));
      if (node.kind == Kind::kOr) return Predicate::Or(std::move(operands));
      if (node.kind == Kind::kNot) return Predicate::Not(std::move(operands.front()));
      return node;
    };
    p = one_axis(one_axis, p);
  }
  return algebra_.Select(p, Element::OfNumber(high), Element::OfNumber(low));
}

}  // namespace autospc::canonical
