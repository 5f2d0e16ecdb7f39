#include "passes/ir/printer.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace autospc::ir {
namespace {

constexpr std::array<std::string_view, 5> kInputKinds = {"parameter", "buffer", "constant", "user", "state"};
constexpr std::array<std::string_view, 6> kOutputKinds = {
    "loss", "user", "gradient", "buffer_update", "parameter_update", "state_update"};
constexpr std::array<std::string_view, 3> kPhases = {"forward", "backward", "step"};

// Not <cctype>: its answers depend on the locale.
bool IsWordChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}
bool IsPlain(std::string_view text, std::string_view extra) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [&](char c) { return IsWordChar(c) || extra.find(c) != std::string_view::npos; });
}
// What the parser reads as an op without quotes: a word that starts with no digit and holds a dot.
bool IsPlainOp(std::string_view op) {
  return IsPlain(op, ".") && !(op.front() >= '0' && op.front() <= '9') && op.front() != '.' &&
         op.find('.') != std::string_view::npos;
}

std::string Quote(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      quoted += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}
std::string PlainOrQuoted(std::string_view text, std::string_view extra) {
  return IsPlain(text, extra) ? std::string(text) : Quote(text);
}

// The shortest text that reads back as the same double, and never as an integer.
std::string FloatText(double value) {
  if (std::isnan(value)) return std::signbit(value) ? "-nan" : "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

class Printer {
 public:
  Printer(const Graph& graph, const PrintOptions& options) : graph_(graph), options_(options) {}

  std::string Whole() const {
    std::string text = fmt::format("graph @{} {{\n", PlainOrQuoted(graph_.name, "._-"));
    for (const auto& [name, range] : graph_.symbols) {
      text += fmt::format("  symbol {} [{}, {}]\n", name, range.min, range.max < 0 ? "*" : std::to_string(range.max));
    }
    for (const GraphInput& in : graph_.inputs) text += "  " + Input(in) + "\n";
    for (const NodeId id : graph_.nodes()) text += "  " + One(graph_.node(id)) + "\n";
    for (const GraphOutput& out : graph_.outputs) {
      text += fmt::format("  output {} {} {}\n", Name(out.kind), Ref(out.value), Quote(out.name));
    }
    return text + "}\n";
  }

  std::string One(const Node& node) const {
    std::string text;
    for (const ValueId v : node.results) text += (text.empty() ? "" : ", ") + Ref(v);
    if (!text.empty()) text += " = ";
    text += IsPlainOp(node.op) ? node.op : Quote(node.op);
    text += '(';
    for (size_t i = 0; i < node.args.size(); ++i) text += (i ? ", " : "") + ArgText(node.args[i]);
    text += ')';
    for (size_t i = 0; i < node.results.size(); ++i) text += (i ? ", " : " : ") + Type(node.results[i]);
    if (options_.origin && !node.source.empty()) text += " !src " + Quote(node.source);
    if (options_.origin && !node.module.empty()) text += " !mod " + Quote(node.module);
    if (node.phase != Phase::kForward) text += fmt::format(" !phase {}", Name(node.phase));
    return text;
  }

 private:
  std::string Ref(ValueId v) const {
    if (!graph_.has_value(v)) return fmt::format("%?{}", v);
    return "%" + PlainOrQuoted(graph_.value(v).name, ".");
  }

  std::string Type(ValueId id) const {
    if (!graph_.has_value(id)) return "?";
    const Value& v = graph_.value(id);
    std::string text = fmt::format("{}[{}]", ir::Name(v.dtype), List(v.sizes));
    if (options_.strides && !v.strides.empty()) text += fmt::format("{{{}}}", List(v.strides));
    if (!v.placement.is_none()) text += " " + v.placement.ToString();
    if (!v.dp_placement.is_none()) text += " dp " + v.dp_placement.ToString();
    if (v.base != kNoValue) text += " base " + Ref(v.base);
    if (v.byte_offset != 0) text += fmt::format(" offset {}", v.byte_offset);
    return text;
  }

  std::string Input(const GraphInput& in) const {
    std::string text = fmt::format("input {} : {} {} {}", Ref(in.value), Type(in.value), Name(in.kind), Quote(in.name));
    if (in.requires_grad) text += " grad";
    if (!in.persistent) text += " nonpersistent";
    if (!in.alias_of.empty()) text += " alias " + Quote(in.alias_of);
    if (in.seq_dim != -1) text += fmt::format(" seq_dim {}", in.seq_dim);
    if (in.batch_dim != -1) text += fmt::format(" batch_dim {}", in.batch_dim);
    return text;
  }

  static std::string List(const std::vector<Expr>& exprs) {
    std::string text;
    for (size_t i = 0; i < exprs.size(); ++i) text += (i ? ", " : "") + exprs[i].ToString();
    return text;
  }

  std::string ArgText(const Arg& a) const {
    std::string text;
    switch (a.kind) {
      case Arg::Kind::kNone:
        return "none";
      case Arg::Kind::kValue:
        return Ref(a.value);
      case Arg::Kind::kValueList:
        if (a.values.empty()) return "values[]";
        for (const ValueId v : a.values) text += (text.empty() ? "[" : ", ") + (v == kNoValue ? "none" : Ref(v));
        return text + "]";
      case Arg::Kind::kInt:
        return a.i.ToString();
      case Arg::Kind::kIntList:
        return "[" + List(a.ints) + "]";
      case Arg::Kind::kFloat:
        return FloatText(a.f);
      case Arg::Kind::kFloatList:
        if (a.floats.empty()) return "floats[]";
        for (const double f : a.floats) text += (text.empty() ? "[" : ", ") + FloatText(f);
        return text + "]";
      case Arg::Kind::kBool:
        return a.b ? "true" : "false";
      case Arg::Kind::kBoolList:
        if (a.bools.empty()) return "bools[]";
        for (const bool b : a.bools) text += std::string(text.empty() ? "[" : ", ") + (b ? "true" : "false");
        return text + "]";
      case Arg::Kind::kString:
        return Quote(a.s);
      case Arg::Kind::kDType:
        return fmt::format("dtype({})", ir::Name(a.dtype));
      case Arg::Kind::kLayout:
        return fmt::format("layout({})", PlainOrQuoted(a.s, ":"));
      case Arg::Kind::kDevice:
        return fmt::format("device({})", PlainOrQuoted(a.s, ":"));
      case Arg::Kind::kMemoryFormat:
        return fmt::format("memory_format({})", PlainOrQuoted(a.s, ":"));
    }
    return "none";
  }

  const Graph& graph_;
  const PrintOptions& options_;
};

}  // namespace

std::string_view Name(InputKind kind) { return kInputKinds[static_cast<size_t>(kind)]; }
std::string_view Name(OutputKind kind) { return kOutputKinds[static_cast<size_t>(kind)]; }
std::string_view Name(Phase phase) { return kPhases[static_cast<size_t>(phase)]; }

std::string Print(const Graph& graph, const PrintOptions& options) { return Printer(graph, options).Whole(); }
std::string Print(const Graph& graph, const Node& node, const PrintOptions& options) {
  return Printer(graph, options).One(node);
}

}  // namespace autospc::ir
