// BindSizes: symbolic sizes get their values.
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "compiler/import/guards.h"
#include "compiler/import/import.h"
#include "compiler/import/position_tables.h"
#include "passes/ir/verifier.h"
#include "runtime/base/bytes.h"

namespace autospc::import {
namespace {

using ir::Expr;
using ir::Graph;
using ir::GraphInput;
using Values = std::map<std::string, int64_t>;

std::string RangeText(const ir::SymbolRange& r) {
  return r.max < 0 ? fmt::format("{} or more", r.min) : fmt::format("{} to {}", r.min, r.max);
}

// What a flag is called, and what it was given.
struct Flag {
  const char* name;
  std::optional<int64_t> value;
};

class Binder {
 public:
  Binder(Graph* graph, const Bindings& bindings)
      : graph_(graph),
        bindings_(bindings),
        seq_flag_{"--seq-len", bindings.seq_len},
        batch_flag_{"--batch", bindings.batch} {}

  Result<Bound> Run(Values* values) {
    for (const Flag& flag : {seq_flag_, batch_flag_}) {
      if (flag.value && *flag.value < 1)
        return Error{Code::kUsage, fmt::format("{} {} is no size", flag.name, *flag.value), "",
                     "give a number of 1 or more"};
    }
    RETURN_IF_ERROR(ReadShards());
    std::vector<GraphInput*> users;
    for (GraphInput& in : graph_->inputs) {
      if (in.kind == ir::InputKind::kUser) users.push_back(&in);
    }
    for (GraphInput* in : users) RETURN_IF_ERROR(BindDim(*in, SeqDim(*in), seq_flag_));
    for (GraphInput* in : users) {
      if (Rank(*in) >= 2 && SeqDim(*in) != 0) RETURN_IF_ERROR(BindDim(*in, 0, batch_flag_));
    }
    for (GraphInput* in : users) RETURN_IF_ERROR(CheckAllBound(*in));
    for (const auto& [symbol, range] : graph_->symbols) {
      // Some symbols are only names for the range of an expression; a graph that uses one says so below.
      if (values_.contains(symbol)) RETURN_IF_ERROR(CheckRange(symbol, values_[symbol], range));
    }
    Bound bound;
    ASSIGN_OR_RETURN(bound.seq_len, SizeOf(users, seq_flag_, [&](const GraphInput& in) { return SeqDim(in); }));
    ASSIGN_OR_RETURN(bound.batch, SizeOf(users, batch_flag_, [&](const GraphInput& in) {
                       return Rank(in) >= 2 && SeqDim(in) != 0 ? 0 : -1;
                     }));
    RETURN_IF_ERROR(EvaluateAll());
    for (GraphInput* in : users) {
      in->seq_dim = FindSeqDim(*in, bound.seq_len);
      in->batch_dim = Rank(*in) >= 2 && SeqDim(*in) != 0 && Dim(*in, 0).value() == bound.batch ? 0 : -1;
    }
    graph_->symbols.clear();
    *values = values_;
    return bound;
  }

 private:
  int Rank(const GraphInput& in) const { return graph_->value(in.value).rank(); }
  const Expr& Dim(const GraphInput& in, int dim) const { return graph_->value(in.value).sizes[dim]; }

  // The dim that is the sequence by --shard or by custom; -1 for a scalar.
  int SeqDim(const GraphInput& in) const {
    if (const auto it = shards_.find(in.name); it != shards_.end()) return it->second;
    return Rank(in) >= 2 ? 1 : Rank(in) - 1;
  }

  Status ReadShards() {
    for (const std::string& text : bindings_.shard) {
      const size_t colon = text.rfind(':');
      int dim = -1;
      const char* const end = text.data() + text.size();
      const bool split = colon != text.npos && colon > 0 && colon + 1 < text.size();
      const auto [behind, failed] = std::from_chars(split ? text.data() + colon + 1 : end, end, dim);
      if (!split || failed != std::errc() || behind != end) {
        return Error{Code::kUsage, fmt::format("--shard {} is not INPUT:DIM", text), "",
                     "for example --shard input_ids:1"};
      }
      const std::string name = text.substr(0, colon);
      std::vector<std::string> names;
      const GraphInput* found = nullptr;
      for (const GraphInput& in : graph_->inputs) {
        if (in.kind != ir::InputKind::kUser) continue;
        names.push_back(in.name);
        if (in.name == name) found = &in;
      }
      if (!found)
        return Error{Code::kBadInput, fmt::format("--shard {}: the model has no input '{}'", text, name), "",
                     fmt::format("its inputs are: {}", fmt::join(names, ", "))};
      if (dim < 0) dim += Rank(*found);
      if (dim < 0 || dim >= Rank(*found)) {
        return Error{Code::kBadInput, fmt::format("--shard {}: input '{}' has {} dims", text, name, Rank(*found)), "",
                     "dims count from 0"};
      }
      shards_[name] = dim;
    }
    return Ok();
  }

  // Gives the symbol in a dim its value from the flag. A symbol is bound once; what that makes of the other dims
  // is checked by SizeOf.
  Status BindDim(const GraphInput& in, int dim, const Flag& flag) {
    if (dim < 0) return Ok();
    const Expr& size = Dim(in, dim);
    std::set<std::string> symbols;
    size.CollectSymbols(&symbols);
    std::erase_if(symbols, [&](const std::string& s) { return values_.contains(s); });
    if (symbols.empty()) return Ok();
    if (!flag.value) {
      return Error{Code::kUsage, fmt::format("dim {} of input '{}' is dynamic and has no size", dim, in.name), "",
                   fmt::format("give {} N ({})", flag.name, Ranges(symbols))};
    }
    if (symbols.size() > 1) {
      return Error{Code::kUnsupported,
                   fmt::format("dim {} of input '{}' is {}, of several unknowns", dim, in.name, size.ToString()), "",
                   "export with one dynamic dim there"};
    }
    // The dim is its symbol, or a * symbol + b.
    const std::string& symbol = *symbols.begin();
    const auto at = [&](int64_t v) {
      Values with = values_;
      with[symbol] = v;
      return size.Eval(with);
    };
    ASSIGN_OR_RETURN(const int64_t b, at(0));
    ASSIGN_OR_RETURN(const int64_t ab, at(1));
    const int64_t a = ab - b;
    const int64_t value = a == 0 ? 0 : (*flag.value - b) / a;
    const auto back = at(value);
    if (a == 0 || !back.ok() || *back != *flag.value) {
      return Error{Code::kBadInput,
                   fmt::format("{} {} is impossible: dim {} of input '{}' is {}", flag.name, *flag.value, dim, in.name,
                               size.ToString()),
                   "", "choose a length of that form"};
    }
    values_[symbol] = value;
    flag_of_[symbol] = flag.name;
    return Ok();
  }

  std::string Ranges(const std::set<std::string>& symbols) const {
    std::vector<std::string> texts;
    for (const std::string& s : symbols) {
      const auto it = graph_->symbols.find(s);
      texts.push_back(it == graph_->symbols.end() ? "any size" : "the export allows " + RangeText(it->second));
    }
    return fmt::format("{}", fmt::join(texts, "; "));
  }

  Status CheckAllBound(const GraphInput& in) const {
    for (int d = 0; d < Rank(in); ++d) {
      std::set<std::string> symbols;
      Dim(in, d).CollectSymbols(&symbols);
      std::erase_if(symbols, [&](const std::string& s) { return values_.contains(s); });
      if (!symbols.empty()) {
        return Error{
            Code::kUsage,
            fmt::format("dim {} of input '{}' is dynamic and is neither its batch nor its sequence", d, in.name), "",
            fmt::format("if it is the sequence, give --shard {}:{}; else export it with a fixed size", in.name, d)};
      }
    }
    return Ok();
  }

  Status CheckRange(const std::string& symbol, int64_t value, const ir::SymbolRange& range) {
    // torch.export gives every dynamic dim 2 as its least size (it decides broadcasts by what may be 1). A batch of
    // 1 computes the same: what broadcasts then has one row to repeat.
    const bool one_row = value == 1 && range.min == 2 && flag_of_[symbol] == batch_flag_.name;
    if (one_row || (value >= range.min && (range.max < 0 || value <= range.max))) return Ok();
    return Error{
        Code::kBadInput,
        fmt::format("{} {} is outside of what the export allows: {}", flag_of_[symbol], value, RangeText(range)), "",
        "choose a size in that range, or export with a wider one"};
  }

  // The size that a flag names: that of the first dynamic dim of its kind, else of the first static one. Token ids
  // come before what else a model takes (frames, masks). Only these must agree with the flag: a static dim at the
  // same place in another input may be anything.
  template <typename DimOf>
  Result<int64_t> SizeOf(const std::vector<GraphInput*>& users, const Flag& flag, DimOf dim_of) {
    const GraphInput* found = nullptr;
    int best = 4;
    for (const GraphInput* in : users) {
      const int dim = dim_of(*in);
      if (dim < 0) continue;
      const bool is_static = Dim(*in, dim).is_const();
      if (!is_static && flag.value) RETURN_IF_ERROR(CheckFlag(*in, dim, flag));
      const int rank = 2 * is_static + ir::IsFloating(graph_->value(in->value).dtype);
      if (rank < best) {
        best = rank;
        found = in;
      }
    }
    if (!found) return flag.value.value_or(1);
    if (flag.value) RETURN_IF_ERROR(CheckFlag(*found, dim_of(*found), flag));
    return Dim(*found, dim_of(*found)).Eval(values_);
  }

  Status CheckFlag(const GraphInput& in, int dim, const Flag& flag) const {
    ASSIGN_OR_RETURN(const int64_t size, Dim(in, dim).Eval(values_));
    if (size == *flag.value) return Ok();
    if (Dim(in, dim).is_const()) {
      return Error{Code::kBadInput,
                   fmt::format("{} {} contradicts dim {} of input '{}', which the export fixes to {}", flag.name,
                               *flag.value, dim, in.name, size),
                   "", fmt::format("leave {} out, or export with a dynamic dim", flag.name)};
    }
    return Error{Code::kBadInput,
                 fmt::format("{} {}: dim {} of input '{}' would be {}", flag.name, *flag.value, dim, in.name, size), "",
                 "the export ties two dims to one size: export with other example sizes"};
  }

  // The dim that is the sequence once all sizes are known: by custom, or any other of that length where that has
  // another.
  int FindSeqDim(const GraphInput& in, int64_t seq_len) const {
    if (shards_.contains(in.name)) return shards_.at(in.name);
    const int dim = SeqDim(in);
    if (dim >= 0 && Dim(in, dim).value() == seq_len) return dim;
    for (int d = 2; d < Rank(in); ++d) {
      if (Dim(in, d).value() == seq_len) return d;
    }
    return -1;
  }

  Status Evaluate(Expr* e) const {
    if (e->is_const()) return Ok();
    ASSIGN_OR_RETURN(const int64_t v, e->Eval(values_));
    *e = Expr(v);
    return Ok();
  }

  Status EvaluateSizes(ir::Value& v) const {
    for (Expr& e : v.sizes) {
      RETURN_IF_ERROR(Evaluate(&e));
      if (e.value() < 0)
        return Error{Code::kBadInput, fmt::format("a dim of '{}' would have the size {}", v.name, e.value()), "",
                     "choose a longer sequence"};
    }
    for (Expr& e : v.strides) RETURN_IF_ERROR(Evaluate(&e));
    if (!ir::IsCountable(v)) {
      return Error{Code::kBadInput, fmt::format("'{}' would take more than {}", v.name, FormatBytes(ir::kMaxValueBytes)), "",
                   "choose a shorter sequence or a smaller batch"};
    }
    return Ok();
  }

  Status EvaluateNode(ir::Node& node) {
    for (ir::Arg& a : node.args) {
      RETURN_IF_ERROR(Evaluate(&a.i));
      for (Expr& e : a.ints) RETURN_IF_ERROR(Evaluate(&e));
    }
    for (const ir::ValueId v : node.results) RETURN_IF_ERROR(EvaluateSizes(graph_->value(v)));
    return Ok();
  }

  Status EvaluateAll() {
    for (const GraphInput& in : graph_->inputs) RETURN_IF_ERROR(EvaluateSizes(graph_->value(in.value)));
    for (const ir::NodeId id : graph_->nodes()) {
      ir::Node& node = graph_->node(id);
      Status status = EvaluateNode(node);
      if (!status.ok()) {
        Error e = std::move(status).error();
        const std::string name = node.results.empty() ? node.op : graph_->value(node.results[0]).name;
        e.where = fmt::format("node '{}' ({})", name, node.source);
        return e;
      }
    }
    return Ok();
  }

  Graph* graph_;
  const Bindings& bindings_;
  const Flag seq_flag_, batch_flag_;
  std::map<std::string, int> shards_;
  Values values_;
  std::map<std::string, std::string> flag_of_;
};

Status BindPending(Model* model, const Values& values) {
  for (const PendingNumber& p : model->pending) {
    if (!model->graph.has_node(p.node)) continue;
    ir::Arg& arg = model->graph.node(p.node).args[p.arg];
    ASSIGN_OR_RETURN(const double v, EvalNumber(p.value, values));
    arg = arg.kind == ir::Arg::Kind::kBool ? ir::Arg::Bool(v != 0) : ir::Arg::Float(v);
  }
  model->pending.clear();
  return Ok();
}

}  // namespace

Result<Bound> BindSizes(Graph* graph, const Bindings& bindings) {
  Values values;
  ASSIGN_OR_RETURN(const Bound bound, Binder(graph, bindings).Run(&values));
  RETURN_IF_ERROR(CheckPositionTables(*graph));
  return bound;
}

Result<Bound> BindSizes(Model* model, const Bindings& bindings) {
  Values values;
  ASSIGN_OR_RETURN(const Bound bound, Binder(&model->graph, bindings).Run(&values));
  RETURN_IF_ERROR(BindPending(model, values));
  RETURN_IF_ERROR(CheckPositionTables(model->graph));
  RETURN_IF_ERROR(CheckGuards(model->guards, model->graph, &model->warnings));
  return bound;
}

}  // namespace autospc::import
