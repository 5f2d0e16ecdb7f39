#include "passes/ir/own_ops.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <vector>

#include "runtime/base/autosp_ops.h"

namespace autospc::ir {
namespace {

using Kind = Arg::Kind;

struct Parameter {
  std::string type;  // without the marks of aliasing: "Tensor", "Tensor?", "Tensor[]", "int", "int[]", "str", …
  std::string name;
  bool has_default = false;
};

struct Schema {
  std::vector<Parameter> parameters;
  int results = 0;  // -1: any number
};

// "Tensor(a!)[] xs" or "str axis=\"sp\"".
Parameter ReadParameter(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  const size_t equals = text.find('='), space = text.find(' ');
  Parameter p;
  p.has_default = equals != std::string_view::npos;
  p.type = text.substr(0, space);
  p.name = text.substr(space + 1, p.has_default ? equals - space - 1 : std::string_view::npos);
  if (const size_t mark = p.type.find('('); mark != std::string::npos) p.type.erase(mark, p.type.find(')') - mark + 1);
  return p;
}

// The items of "(a, b(c!), d)", which begins and ends with its parentheses.
std::vector<std::string_view> Items(std::string_view list) {
  std::vector<std::string_view> items;
  list = list.substr(1, list.size() - 2);
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    items.push_back(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return items;
}

const std::map<std::string, Schema, std::less<>>& Schemas() {
  static const auto* const schemas = [] {
    auto* all = new std::map<std::string, Schema, std::less<>>;
    for (const std::string_view text : kAutospSchemas) {
      const size_t open = text.find('('), arrow = text.find(" -> ");
      Schema schema;
      for (const std::string_view item : Items(text.substr(open, arrow - open)))
        schema.parameters.push_back(ReadParameter(item));
      const std::string_view results = text.substr(arrow + 4);
      schema.results = results == "Tensor[]" ? -1 : results[0] == '(' ? static_cast<int>(Items(results).size()) : 1;
      all->emplace("autosp." + std::string(text.substr(0, open)), std::move(schema));
    }
    return all;
  }();
  return *schemas;
}

bool Fits(const Arg& arg, const std::string& type) {
  if (type == "Tensor?") return arg.is_value() || arg.is_none();
  if (type == "Tensor") return arg.is_value();
  if (type == "Tensor[]")
    return arg.kind == Kind::kValueList &&
           std::find(arg.values.begin(), arg.values.end(), kNoValue) == arg.values.end();
  if (type == "int") return arg.kind == Kind::kInt;
  if (type == "int[]") return arg.kind == Kind::kIntList;
  if (type == "float" || type == "Scalar") return arg.is_number();
  if (type == "bool") return arg.kind == Kind::kBool;
  if (type == "str") return arg.kind == Kind::kString;
  return type == "ScalarType" && arg.kind == Kind::kDType;
}

// A dim of the first operand; dropout's may be -1, which says that it is not sharded.
std::string WrongDim(const Graph& graph, const Node& node, const Parameter& p, const Arg& arg) {
  if (p.type != "int" || !(p.name == "dim" || p.name.ends_with("_dim")) || !arg.i.is_const()) return "";
  const ValueId x = node.args[0].value;
  if (!node.args[0].is_value() || !graph.has_value(x)) return "";
  const int64_t least = node.op == "autosp.dropout" ? -1 : 0, dim = arg.i.value();
  if (dim >= least && dim < graph.value(x).rank()) return "";
  return fmt::format("\"{}\" is {}, and its operand has {} dims", p.name, dim, graph.value(x).rank());
}

// Sizes of two operands' dims that are one number; symbols that have no value yet may turn out equal.
bool Differ(const Expr& a, const Expr& b) { return a.is_const() && b.is_const() && a.value() != b.value(); }

std::string WrongAttention(const Graph& graph, const Node& node) {
  const bool backward = node.op == "autosp.attention_backward";
  const size_t first = backward ? 1 : 0;
  for (size_t i = 0; i < first + 3; ++i) {
    if (!graph.has_value(node.args[i].value)) return "";
    if (const int rank = graph.value(node.args[i].value).rank(); rank != 4)
      return fmt::format("an operand has {} dims, not 4", rank);
  }
  const auto& q = graph.value(node.args[first].value).sizes;
  const auto& k = graph.value(node.args[first + 1].value).sizes;
  const auto& v = graph.value(node.args[first + 2].value).sizes;
  if (Differ(q[0], k[0]) || Differ(k[0], v[0])) return "q, k and v have different batches";
  if (Differ(k[1], v[1])) return "k and v have different heads";
  if (Differ(k[2], v[2])) return "k and v have different rows";
  if (Differ(q[3], k[3])) return "q and k have heads of different sizes";
  for (const ValueId vector : node.args[first + 3].values) {
    if (graph.has_value(vector) && graph.value(vector).rank() != 2)
      return fmt::format("a vector of its predicate has {} dims, not 2", graph.value(vector).rank());
  }
  for (size_t i = 0; !backward && i < 2; ++i) {
    const int rank = graph.has_value(node.results[i]) ? graph.value(node.results[i]).rank() : -1;
    if (rank >= 0 && rank != (i == 0 ? 4 : 3)) return fmt::format("its result {} has {} dims", i, rank);
  }
  return "";
}

}  // namespace

std::string WrongOwnOp(const Graph& graph, const Node& node) {
  if (!node.op.starts_with("autosp.")) return "";
  const auto schema = Schemas().find(node.op);
  if (schema == Schemas().end()) return "there is no such op";
  const std::vector<Parameter>& parameters = schema->second.parameters;
  if (node.args.size() > parameters.size())
    return fmt::format("{} arguments of {}", node.args.size(), parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& p = parameters[i];
    if (i >= node.args.size()) {
      if (!p.has_default) return fmt::format("no argument \"{}\"", p.name);
      continue;
    }
    if (!Fits(node.args[i], p.type)) return fmt::format("argument \"{}\" is no {}", p.name, p.type);
    if (std::string wrong = WrongDim(graph, node, p, node.args[i]); !wrong.empty()) return wrong;
  }
  const int results = schema->second.results;
  if (results >= 0 && node.results.size() != static_cast<size_t>(results))
    return fmt::format("{} results of {}", node.results.size(), results);
  return node.op.starts_with("autosp.attention") ? WrongAttention(graph, node) : "";
}

}  // namespace autospc::ir
