#include "passes/ir/parser.h"

#include <algorithm>
#include <array>
#include <limits>

#include "passes/ir/printer.h"
#include "passes/ir/scanner.h"

namespace autospc::ir {
namespace {

struct Type {
  DType dtype = DType::kFloat32;
  std::vector<Expr> sizes;
  std::vector<Expr> strides;
  Placement placement, dp_placement;
  std::string base;  // its name, empty for none
  size_t base_at = 0;
  int64_t byte_offset = 0;
};

class Parser {
 public:
  Parser(std::string_view text, std::string_view file) : in_(text, file) {}

  Result<Graph> Whole() {
    RETURN_IF_ERROR(in_.ExpectWord("graph"));
    RETURN_IF_ERROR(in_.Expect('@'));
    ASSIGN_OR_RETURN(graph_.name, in_.WordOrString("._-", "the graph's name"));
    RETURN_IF_ERROR(in_.Expect('{'));
    while (!in_.Take('}')) {
      if (in_.TakeWord("symbol")) {
        RETURN_IF_ERROR(Symbol());
      } else if (in_.TakeWord("input")) {
        RETURN_IF_ERROR(Input());
      } else if (in_.TakeWord("output")) {
        RETURN_IF_ERROR(Output());
      } else {
        RETURN_IF_ERROR(OneNode());
      }
    }
    if (!in_.AtEnd()) return in_.Expected("the end of the text");
    return std::move(graph_);
  }

 private:
  Status Symbol() {
    const size_t at = in_.at();
    const std::string name(in_.Word());
    if (name.empty() || IsDigit(name.front())) return in_.Expected("the symbol's name");
    SymbolRange range;
    RETURN_IF_ERROR(in_.Expect('['));
    ASSIGN_OR_RETURN(range.min, in_.Integer("the symbol's minimum"));
    RETURN_IF_ERROR(in_.Expect(','));
    if (!in_.Take('*')) {
      ASSIGN_OR_RETURN(range.max, in_.Integer("the symbol's maximum, or '*' for none"));
    }
    RETURN_IF_ERROR(in_.Expect(']'));
    if (!graph_.symbols.emplace(name, range).second) {
      return in_.FailAt(at, fmt::format("symbol '{}' is declared twice", name));
    }
    return Ok();
  }

  Status Input() {
    ASSIGN_OR_RETURN(const std::string name, NewName());
    RETURN_IF_ERROR(in_.Expect(':'));
    ASSIGN_OR_RETURN(Type type, OneType());
    GraphInput input;
    ASSIGN_OR_RETURN(input.kind, (OneOf<InputKind, 5>("the input's kind")));
    ASSIGN_OR_RETURN(input.name, in_.String("the input's name"));
    if (in_.TakeWord("grad")) input.requires_grad = true;
    if (in_.TakeWord("nonpersistent")) input.persistent = false;
    if (in_.TakeWord("alias")) {
      ASSIGN_OR_RETURN(input.alias_of, in_.String("the name of the input that it aliases"));
    }
    if (in_.TakeWord("seq_dim")) {
      ASSIGN_OR_RETURN(input.seq_dim, Int32("the sequence dim"));
    }
    if (in_.TakeWord("batch_dim")) {
      ASSIGN_OR_RETURN(input.batch_dim, Int32("the batch dim"));
    }
    const ValueId v = graph_.AddInput(std::move(input), name, type.dtype, type.sizes, type.strides);
    return Finish(v, type);
  }

  Status Output() {
    GraphOutput output;
    ASSIGN_OR_RETURN(output.kind, (OneOf<OutputKind, 6>("the output's kind")));
    ASSIGN_OR_RETURN(output.value, Use());
    ASSIGN_OR_RETURN(output.name, in_.String("the output's name"));
    graph_.outputs.push_back(std::move(output));
    return Ok();
  }

  Status OneNode() {
    std::vector<std::string> names;
    if (in_.Peek() == '%') {
      do {
        in_.Peek();
        const size_t at = in_.at();
        ASSIGN_OR_RETURN(std::string name, NewName());
        if (std::find(names.begin(), names.end(), name) != names.end()) return Twice(at, name);
        names.push_back(std::move(name));
      } while (in_.Take(','));
      RETURN_IF_ERROR(in_.Expect('='));
    }
    ASSIGN_OR_RETURN(std::string op, Op(names.empty()));
    std::vector<Arg> args;
    RETURN_IF_ERROR(in_.Expect('('));
    if (!in_.Take(')')) {
      do {
        ASSIGN_OR_RETURN(Arg a, OneArg());
        args.push_back(std::move(a));
      } while (in_.Take(','));
      RETURN_IF_ERROR(in_.Expect(')'));
    }
    std::vector<Type> types;
    for (size_t i = 0; i < names.size(); ++i) {
      RETURN_IF_ERROR(in_.Expect(i == 0 ? ':' : ','));
      ASSIGN_OR_RETURN(Type type, OneType());
      types.push_back(std::move(type));
    }
    std::vector<ValueId> results;
    for (size_t i = 0; i < names.size(); ++i) {
      results.push_back(graph_.AddValue(names[i], types[i].dtype, types[i].sizes, types[i].strides));
    }
    for (size_t i = 0; i < names.size(); ++i) RETURN_IF_ERROR(Finish(results[i], types[i]));
    Node& node = graph_.node(graph_.AddNode(std::move(op), std::move(args), std::move(results)));
    while (in_.Take('!')) {
      if (in_.TakeWord("src")) {
        ASSIGN_OR_RETURN(node.source, in_.String("the source line"));
      } else if (in_.TakeWord("mod")) {
        ASSIGN_OR_RETURN(node.module, in_.String("the module path"));
      } else if (in_.TakeWord("phase")) {
        ASSIGN_OR_RETURN(node.phase, (OneOf<Phase, 3>("a phase")));
      } else {
        return in_.Expected("src, mod or phase");
      }
    }
    return Ok();
  }

  Result<std::string> Op(bool may_be_statement) {
    if (in_.Peek() == '"') return in_.String("the op");
    const std::string_view word = in_.PeekWord(".");
    if (word.empty() || IsDigit(word.front()) || word.front() == '.' || word.find('.') == std::string_view::npos) {
      return in_.Expected(may_be_statement ? "'symbol', 'input', 'output', '%', an op with its overload, or '}'"
                                           : "an op with its overload (\"aten.add.Tensor\")");
    }
    return std::string(in_.Word("."));
  }

  Result<Type> OneType() {
    Type type;
    const std::string_view word = in_.PeekWord();
    const Result<DType> dtype = ParseDType(word);
    if (!dtype.ok()) return in_.Expected("an element type (f32, bf16, i64, bool, ...)");
    in_.TakeWord(word);
    type.dtype = *dtype;
    RETURN_IF_ERROR(in_.Expect('['));
    ASSIGN_OR_RETURN(type.sizes, Expressions(']'));
    if (in_.Take('{')) {
      ASSIGN_OR_RETURN(type.strides, Expressions('}'));
    }
    ASSIGN_OR_RETURN(type.placement, OnePlacement());
    if (in_.TakeWord("dp")) {
      ASSIGN_OR_RETURN(type.dp_placement, OnePlacement());
      if (type.dp_placement.is_none()) return in_.Expected("a placement along dp (R, V, P or S)");
    }
    if (in_.TakeWord("base")) {
      type.base_at = in_.at();
      ASSIGN_OR_RETURN(type.base, ValueName());
    }
    if (in_.TakeWord("offset")) {
      ASSIGN_OR_RETURN(type.byte_offset, in_.Integer("the offset in bytes"));
    }
    return type;
  }

  Result<Placement> OnePlacement() {
    if (in_.TakeWord("R")) return Placement::Replicated();
    if (in_.TakeWord("V")) return Placement::Varying();
    if (in_.TakeWord("P")) return Placement::Partial();
    if (!in_.TakeWord("S")) return Placement();
    Placement p = Placement::Sharded(0, 0, 0);
    RETURN_IF_ERROR(in_.Expect('('));
    RETURN_IF_ERROR(Key("dim"));
    ASSIGN_OR_RETURN(p.dim, Int32("the sharded dim"));
    const std::array<std::pair<const char*, int64_t*>, 4> fields = {
        {{"valid", &p.valid}, {"block", &p.block}, {"outer", &p.outer}, {"inner", &p.inner}}};
    for (const auto& [key, field] : fields) {
      RETURN_IF_ERROR(in_.Expect(','));
      RETURN_IF_ERROR(Key(key));
      ASSIGN_OR_RETURN(*field, in_.Integer(fmt::format("the placement's {}", key)));
    }
    RETURN_IF_ERROR(in_.Expect(')'));
    return p;
  }
  Status Key(std::string_view key) {
    RETURN_IF_ERROR(in_.ExpectWord(key));
    return in_.Expect('=');
  }

  // After the opening bracket, up to and with `close`.
  Result<std::vector<Expr>> Expressions(char close) {
    std::vector<Expr> exprs;
    if (in_.Take(close)) return exprs;
    do {
      ASSIGN_OR_RETURN(Expr e, in_.Expression());
      exprs.push_back(std::move(e));
    } while (in_.Take(','));
    RETURN_IF_ERROR(in_.Expect(close));
    return exprs;
  }

  Result<Arg> OneArg() {
    const char c = in_.Peek();
    if (c == '%') {
      ASSIGN_OR_RETURN(const ValueId v, Use());
      return Arg::Value(v);
    }
    if (c == '"') {
      ASSIGN_OR_RETURN(std::string s, in_.String("a text"));
      return Arg::String(std::move(s));
    }
    if (in_.Take('[')) return List();
    if (in_.TakeWord("none")) return Arg::None();
    if (in_.TakeWord("true")) return Arg::Bool(true);
    if (in_.TakeWord("false")) return Arg::Bool(false);
    if (in_.AtFloat()) {
      ASSIGN_OR_RETURN(const double f, in_.Float());
      return Arg::Float(f);
    }
    if (in_.TakeWord("values")) return Empty(Arg::Values({}));
    if (in_.TakeWord("floats")) return Empty(Arg::Floats({}));
    if (in_.TakeWord("bools")) return Empty(Arg::Bools({}));
    if (in_.TakeWord("dtype")) {
      const size_t at = in_.at();
      ASSIGN_OR_RETURN(const std::string name, Tagged("an element type"));
      const Result<DType> dtype = ParseDType(name);
      if (!dtype.ok()) return in_.FailAt(at, dtype.error().what);
      return Arg::Type(*dtype);
    }
    if (in_.TakeWord("layout")) {
      ASSIGN_OR_RETURN(std::string s, Tagged("a layout"));
      return Arg::Layout(std::move(s));
    }
    if (in_.TakeWord("device")) {
      ASSIGN_OR_RETURN(std::string s, Tagged("a device"));
      return Arg::Device(std::move(s));
    }
    if (in_.TakeWord("memory_format")) {
      ASSIGN_OR_RETURN(std::string s, Tagged("a memory format"));
      return Arg::MemoryFormat(std::move(s));
    }
    if (c != '-' && !IsWordChar(c)) return in_.Expected("an argument");
    ASSIGN_OR_RETURN(Expr e, in_.Expression());
    return Arg::Int(std::move(e));
  }
  Result<Arg> Empty(Arg a) {
    RETURN_IF_ERROR(in_.Expect('['));
    RETURN_IF_ERROR(in_.Expect(']'));
    return a;
  }
  Result<std::string> Tagged(std::string_view what) {
    RETURN_IF_ERROR(in_.Expect('('));
    ASSIGN_OR_RETURN(std::string s, in_.WordOrString(":", what));
    RETURN_IF_ERROR(in_.Expect(')'));
    return s;
  }

  // After '['. The first element decides what the list holds.
  Result<Arg> List() {
    if (in_.Peek() == '%' || in_.PeekWord() == "none") {
      std::vector<ValueId> values;
      do {
        ValueId v = kNoValue;
        if (!in_.TakeWord("none")) {
          ASSIGN_OR_RETURN(v, Use());
        }
        values.push_back(v);
      } while (in_.Take(','));
      RETURN_IF_ERROR(in_.Expect(']'));
      return Arg::Values(std::move(values));
    }
    if (in_.PeekWord() == "true" || in_.PeekWord() == "false") {
      std::vector<bool> bools;
      do {
        const bool b = in_.TakeWord("true");
        if (!b) RETURN_IF_ERROR(in_.ExpectWord("false"));
        bools.push_back(b);
      } while (in_.Take(','));
      RETURN_IF_ERROR(in_.Expect(']'));
      return Arg::Bools(std::move(bools));
    }
    if (in_.AtFloat()) {
      std::vector<double> floats;
      do {
        ASSIGN_OR_RETURN(const double f, in_.Float());
        floats.push_back(f);
      } while (in_.Take(','));
      RETURN_IF_ERROR(in_.Expect(']'));
      return Arg::Floats(std::move(floats));
    }
    ASSIGN_OR_RETURN(std::vector<Expr> ints, Expressions(']'));
    return Arg::Ints(std::move(ints));
  }

  Result<std::string> ValueName() {
    RETURN_IF_ERROR(in_.Expect('%'));
    const size_t at = in_.at();
    ASSIGN_OR_RETURN(std::string name, in_.WordOrString(".", "a value's name"));
    if (name.empty()) return in_.FailAt(at, "a value's name is empty");
    return name;
  }
  Result<std::string> NewName() {
    in_.Peek();
    const size_t at = in_.at();
    ASSIGN_OR_RETURN(std::string name, ValueName());
    if (graph_.FindValue(name) != kNoValue) return Twice(at, name);
    return name;
  }
  Error Twice(size_t at, std::string_view name) const {
    return in_.FailAt(at, fmt::format("value %{} is defined twice", name));
  }
  Result<ValueId> Use() {
    in_.Peek();
    const size_t at = in_.at();
    ASSIGN_OR_RETURN(const std::string name, ValueName());
    const ValueId v = graph_.FindValue(name);
    if (v == kNoValue) return in_.FailAt(at, fmt::format("value %{} is used before its definition", name));
    return v;
  }

  Status Finish(ValueId id, const Type& type) {
    Value& v = graph_.value(id);
    v.placement = type.placement;
    v.dp_placement = type.dp_placement;
    v.byte_offset = type.byte_offset;
    if (type.base.empty()) return Ok();
    v.base = graph_.FindValue(type.base);
    if (v.base == kNoValue) {
      return in_.FailAt(type.base_at, fmt::format("base %{} is used before its definition", type.base));
    }
    return Ok();
  }

  Result<int> Int32(std::string_view what) {
    ASSIGN_OR_RETURN(const int64_t value, in_.Integer(what));
    if (value < std::numeric_limits<int>::min() || value > std::numeric_limits<int>::max()) {
      return in_.Fail(fmt::format("{} is out of range: {}", what, value));
    }
    return static_cast<int>(value);
  }

  template <typename Enum, int kCount>
  Result<Enum> OneOf(std::string_view what) {
    std::string all;
    for (int i = 0; i < kCount; ++i) {
      const std::string_view name = Name(static_cast<Enum>(i));
      if (in_.TakeWord(name)) return static_cast<Enum>(i);
      all += (i ? ", " : "") + std::string(name);
    }
    return in_.Expected(fmt::format("{} ({})", what, all));
  }

  Scanner in_;
  Graph graph_;
};

}  // namespace

Result<Graph> Parse(std::string_view text, std::string_view file_name) { return Parser(text, file_name).Whole(); }

}  // namespace autospc::ir
