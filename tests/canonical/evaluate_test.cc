#include "tests/canonical/evaluate.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/jit_type.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "runtime/base/predicate.h"

namespace autospc::testing {
namespace {

at::ScalarType ToTorch(DType t) {
  switch (t) {
    case DType::kBool:
      return at::kBool;
    case DType::kUInt8:
      return at::kByte;
    case DType::kInt8:
      return at::kChar;
    case DType::kInt16:
      return at::kShort;
    case DType::kInt32:
      return at::kInt;
    case DType::kInt64:
      return at::kLong;
    case DType::kFloat16:
      return at::kHalf;
    case DType::kBFloat16:
      return at::kBFloat16;
    case DType::kFloat32:
      return at::kFloat;
    case DType::kFloat64:
      return at::kDouble;
    case DType::kComplex64:
      return at::kComplexFloat;
    case DType::kComplex128:
      return at::kComplexDouble;
  }
  return at::kFloat;
}

DType FromTorch(at::ScalarType t) {
  for (int d = 0; d <= static_cast<int>(DType::kComplex128); ++d) {
    if (ToTorch(static_cast<DType>(d)) == t) return static_cast<DType>(d);
  }
  return DType::kFloat32;
}

at::Tensor Make(const Tensor& t) {
  at::Tensor x = at::empty(t.sizes, at::TensorOptions().dtype(at::kDouble));
  std::memcpy(x.mutable_data_ptr(), t.data.data(), t.data.size() * sizeof(double));
  return x.to(ToTorch(t.dtype)).clone();
}

Tensor Read(const at::Tensor& t) {
  const at::Tensor x = t.to(at::kDouble).contiguous();
  Tensor r{FromTorch(t.scalar_type()), t.sizes().vec(), std::vector<double>(static_cast<size_t>(t.numel()))};
  std::memcpy(r.data.data(), x.const_data_ptr(), r.data.size() * sizeof(double));
  return r;
}

using Values = std::map<ValueId, at::Tensor>;

c10::IValue ToIValue(const Arg& a, const c10::TypePtr& declared, const Values& values) {
  c10::TypePtr type = declared;
  if (const auto optional = type->cast<c10::OptionalType>()) {
    if (a.is_none()) return {};
    type = optional->getElementType();
  }
  const bool wants_tensor = type->kind() == c10::TypeKind::TensorType;
  const bool wants_list = type->kind() == c10::TypeKind::ListType;
  switch (a.kind) {
    case Arg::Kind::kNone:
      return {};
    case Arg::Kind::kValue:
      return values.at(a.value);
    case Arg::Kind::kValueList: {
      if (type->str().find("?") != std::string::npos || type->str().find("Optional") != std::string::npos) {
        c10::List<std::optional<at::Tensor>> list;
        for (ValueId v : a.values) list.push_back(v == ir::kNoValue ? std::nullopt : std::optional(values.at(v)));
        return list;
      }
      c10::List<at::Tensor> list;
      for (ValueId v : a.values) list.push_back(values.at(v));
      return list;
    }
    case Arg::Kind::kInt:
    case Arg::Kind::kFloat:
    case Arg::Kind::kBool:
      if (wants_tensor) {
        const at::ScalarType t = a.kind == Arg::Kind::kFloat ? at::kDouble
                                 : a.kind == Arg::Kind::kInt ? at::kLong
                                                             : at::kBool;
        at::Tensor x = at::empty({}, t).fill_(a.number());
        x.unsafeGetTensorImpl()->set_wrapped_number(true);
        return x;
      }
      if (wants_list) return c10::IValue(std::vector<int64_t>{a.i.value()});
      if (type->kind() == c10::TypeKind::FloatType) return a.number();
      if (a.kind == Arg::Kind::kFloat) return a.f;
      if (a.kind == Arg::Kind::kBool) return a.b;
      return a.i.value();
    case Arg::Kind::kIntList:
      return c10::IValue(a.int_values());
    case Arg::Kind::kFloatList:
      return c10::IValue(a.floats);
    case Arg::Kind::kBoolList: {
      c10::List<bool> l;
      for (bool b : a.bools) l.push_back(b);
      return l;
    }
    case Arg::Kind::kString:
      return a.s;
    case Arg::Kind::kDType:
      return static_cast<int64_t>(ToTorch(a.dtype));
    case Arg::Kind::kLayout:
      return static_cast<int64_t>(at::kStrided);
    case Arg::Kind::kDevice:
      return at::Device(at::kCPU);
    case Arg::Kind::kMemoryFormat:
      return static_cast<int64_t>(a.s == "contiguous" ? at::MemoryFormat::Contiguous : at::MemoryFormat::Preserve);
  }
  return {};
}

const c10::OperatorHandle Find(const std::string& op) {
  const size_t first = op.find('.'), last = op.rfind('.');
  std::string overload = op.substr(last + 1);
  if (overload == "default") overload = "";
  return c10::Dispatcher::singleton().findSchemaOrThrow(("aten::" + op.substr(first + 1, last - first - 1)).c_str(),
                                                        overload.c_str());
}

Arg FromDefault(const c10::Argument& argument) {
  const auto& value = argument.default_value();
  if (!value || value->isNone()) return Arg::None();
  if (value->isInt()) return Arg::Int(value->toInt());
  if (value->isDouble()) return Arg::Float(value->toDouble());
  if (value->isBool()) return Arg::Bool(value->toBool());
  if (value->isIntList()) return Arg::Ints(value->toIntVector());
  if (value->isString()) return Arg::String(value->toStringRef());
  return Arg::None();
}

std::vector<at::Tensor> Call(const std::string& op, const std::vector<Arg>& args, const Values& values) {
  const c10::OperatorHandle handle = Find(op);
  c10::Stack stack;
  const auto& schema = handle.schema().arguments();
  for (size_t i = 0; i < schema.size(); ++i) {
    stack.push_back(ToIValue(i < args.size() ? args[i] : FromDefault(schema[i]), schema[i].type(), values));
  }
  handle.callBoxed(stack);
  std::vector<at::Tensor> results;
  for (const c10::IValue& v : stack) {
    if (v.isTensor()) {
      results.push_back(v.toTensor());
    } else if (v.isTensorList()) {
      for (const at::Tensor& t : v.toTensorVector()) results.push_back(t);
    }
  }
  return results;
}

// autosp.attention by its definition, in doubles.
std::vector<at::Tensor> Attend(const ir::Node& node, const Values& values) {
  const Tensor q = Read(values.at(node.args[0].value)), k = Read(values.at(node.args[1].value)),
               v = Read(values.at(node.args[2].value));
  std::vector<Tensor> vectors;
  for (ValueId id : node.args[3].values) vectors.push_back(Read(values.at(id)));
  const Predicate predicate = *Predicate::Parse(node.args[4].s);
  const double scale = node.args[5].f;
  const int64_t B = q.sizes[0], H = q.sizes[1], Sq = q.sizes[2], D = q.sizes[3], G = k.sizes[1], Sk = k.sizes[2],
                Dv = v.sizes[3];
  EXPECT_EQ(node.args[7].i.value(), Sq);
  EXPECT_EQ(node.args[10].i.value(), H);
  Tensor out{q.dtype, {B, H, Sq, Dv}, std::vector<double>(static_cast<size_t>(B * H * Sq * Dv))};
  Tensor lse{q.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32,
             {B, H, Sq},
             std::vector<double>(static_cast<size_t>(B * H * Sq))};
  for (int64_t b = 0; b < B; ++b) {
    const VectorAt at = [&](int i, int64_t position) {
      const Tensor& t = vectors[i];
      EXPECT_EQ(t.sizes.size(), 2u);
      EXPECT_TRUE(t.dtype == DType::kBool || t.dtype == DType::kInt64);
      return static_cast<int64_t>(t.data.at(static_cast<size_t>((t.sizes[0] == 1 ? 0 : b) * t.sizes[1] + position)));
    };
    for (int64_t h = 0; h < H; ++h) {
      const int64_t g = h * G / H;
      for (int64_t i = 0; i < Sq; ++i) {
        std::vector<double> p(static_cast<size_t>(Sk), -INFINITY);
        double top = -INFINITY, sum = 0;
        for (int64_t j = 0; j < Sk; ++j) {
          if (!Holds(predicate, i, j, at)) continue;
          double s = 0;
          for (int64_t d = 0; d < D; ++d)
            s += q.data[((b * H + h) * Sq + i) * D + d] * k.data[((b * G + g) * Sk + j) * D + d];
          p[j] = s * scale;
          top = std::max(top, p[j]);
        }
        for (double& x : p) sum += x = std::isinf(top) ? 0 : std::exp(x - top);
        lse.data[(b * H + h) * Sq + i] = top + std::log(sum);
        for (int64_t j = 0; j < Sk && sum > 0; ++j) {
          for (int64_t d = 0; d < Dv; ++d)
            out.data[((b * H + h) * Sq + i) * Dv + d] += p[j] / sum * v.data[((b * G + g) * Sk + j) * Dv + d];
        }
      }
    }
  }
  return {Make(out), Make(lse)};
}

}  // namespace

Tensor Random(std::vector<int64_t> sizes, int seed, DType dtype) {
  std::mt19937 rng(static_cast<uint32_t>(seed));
  std::normal_distribution<double> normal;
  int64_t n = 1;
  for (int64_t s : sizes) n *= s;
  Tensor t{dtype, std::move(sizes), std::vector<double>(static_cast<size_t>(n))};
  for (double& x : t.data) x = normal(rng);
  return t;
}

Tensor Integers(std::vector<int64_t> sizes, const std::vector<int64_t>& data, DType dtype) {
  return {dtype, std::move(sizes), std::vector<double>(data.begin(), data.end())};
}

struct Builder::State {
  Values values;
};

Builder::Builder() : state_(std::make_unique<State>()) {}
Builder::~Builder() = default;

ValueId Builder::Input(ir::InputKind kind, const std::string& name, const Tensor& data) {
  std::vector<ir::Expr> sizes(data.sizes.begin(), data.sizes.end());
  const at::Tensor t = Make(data);
  std::vector<ir::Expr> strides(t.strides().begin(), t.strides().end());
  const ValueId v = graph.AddInput({.kind = kind, .name = name, .requires_grad = kind == ir::InputKind::kParameter},
                                   name, data.dtype, std::move(sizes), std::move(strides));
  state_->values[v] = t;
  inputs_[name] = data;
  return v;
}

std::vector<ValueId> Builder::Ops(const std::string& op, std::vector<Arg> args) {
  const auto handle = Find(op);
  const auto& schema = handle.schema().arguments();
  while (args.size() < schema.size()) args.push_back(FromDefault(schema[args.size()]));
  const std::vector<at::Tensor> results = Call(op, args, state_->values);
  std::vector<ValueId> ids;
  for (const at::Tensor& t : results) {
    std::vector<ir::Expr> sizes(t.sizes().begin(), t.sizes().end()), strides(t.strides().begin(), t.strides().end());
    const ValueId v =
        graph.AddValue(ir::ShortName(op), FromTorch(t.scalar_type()), std::move(sizes), std::move(strides));
    state_->values[v] = t;
    ids.push_back(v);
  }
  ir::Node& node = graph.node(graph.AddNode(op, std::move(args), ids));
  node.source = "model.py:" + std::to_string(node.id);
  return ids;
}

ValueId Builder::Op(const std::string& op, std::vector<Arg> args) { return Ops(op, std::move(args)).at(0); }

Tensor Builder::At(ValueId v) const { return Read(state_->values.at(v)); }

ConstantReader Builder::Reader() const {
  return [inputs = inputs_](const std::string& name) -> Result<std::vector<uint8_t>> {
    const auto it = inputs.find(name);
    if (it == inputs.end()) return Error{Code::kBadInput, "no such constant", name, ""};
    const at::Tensor t = Make(it->second).contiguous();
    const auto* bytes = static_cast<const uint8_t*>(t.const_data_ptr());
    return std::vector<uint8_t>(bytes, bytes + t.nbytes());
  };
}

std::map<std::string, Tensor> Evaluate(const Graph& graph, const std::map<std::string, Tensor>& inputs) {
  Values values;
  for (const ir::GraphInput& in : graph.inputs) values[in.value] = Make(inputs.at(in.name));
  for (ir::NodeId id : graph.nodes()) {
    const ir::Node& node = graph.node(id);
    const std::vector<at::Tensor> results =
        node.op == "autosp.attention" ? Attend(node, values) : Call(node.op, node.args, values);
    for (size_t i = 0; i < node.results.size(); ++i) {
      const ir::Value& v = graph.value(node.results[i]);
      EXPECT_EQ(v.int_sizes(), results.at(i).sizes().vec()) << node.op << " " << v.name;
      EXPECT_EQ(v.dtype, FromTorch(results.at(i).scalar_type())) << node.op << " " << v.name;
      values[node.results[i]] = results.at(i);
    }
  }
  std::map<std::string, Tensor> all;
  for (const ir::GraphInput& in : graph.inputs) {
    if (in.kind == ir::InputKind::kBuffer) all[in.name] = Read(values.at(in.value));
  }
  for (const ir::GraphOutput& out : graph.outputs) all[out.name] = Read(values.at(out.value));
  return all;
}

double Difference(const std::map<std::string, Tensor>& a, const std::map<std::string, Tensor>& b) {
  double worst = 0;
  if (a.size() != b.size()) return INFINITY;
  for (const auto& [name, x] : a) {
    const auto it = b.find(name);
    if (it == b.end() || it->second.sizes != x.sizes || it->second.dtype != x.dtype) return INFINITY;
    for (size_t i = 0; i < x.data.size(); ++i) {
      const double y = it->second.data[i];
      if ((std::isnan(x.data[i]) && std::isnan(y)) || x.data[i] == y) continue;
      const double d = std::abs(x.data[i] - y);
      worst = std::max(worst, std::isnan(d) ? INFINITY : d);
    }
  }
  return worst;
}

int Count(const Graph& graph, const std::string& op) {
  int count = 0;
  for (ir::NodeId id : graph.nodes()) count += graph.node(id).op == op;
  return count;
}

const ir::Node* Only(const Graph& graph, const std::string& op) {
  const ir::Node* only = nullptr;
  for (ir::NodeId id : graph.nodes()) {
    if (graph.node(id).op != op) continue;
    if (only) return nullptr;
    only = &graph.node(id);
  }
  return only;
}

namespace {

TEST(Evaluate, ARunRepeatsTheBuild) {
  Builder b;
  const ValueId x = b.Parameter("x", Random({3, 4}, 1)), buffer = b.Buffer("n", Integers({2}, {5, 6}));
  const ValueId y = b.Op("aten.add.Tensor", {Arg::Value(x), Arg::Float(0.5)});
  b.Op("aten.add_.Tensor", {Arg::Value(buffer), Arg::Int(1)});
  const std::vector<ValueId> parts = b.Ops("aten.split.Tensor", {Arg::Value(y), Arg::Int(2), Arg::Int(1)});
  b.Output(b.Op("aten.cat.default", {Arg::Values({parts[1], parts[0]}), Arg::Int(1)}));
  auto run = Evaluate(b.graph, b.inputs());
  EXPECT_EQ(run.at("n").data, (std::vector<double>{6, 7}));
  EXPECT_EQ(run.at("out0").data, b.At(b.graph.outputs[0].value).data);
  auto other = run;
  EXPECT_EQ(Difference(run, other), 0);
  other.at("out0").data[3] += 0.25;
  EXPECT_EQ(Difference(run, other), 0.25);
}

// The evaluator's attention agrees with LibTorch's, grouped heads and empty rows included.
TEST(Evaluate, AttentionIsLibTorchs) {
  Builder b;
  const ValueId q = b.Parameter("q", Random({2, 4, 5, 8}, 1)), k = b.Parameter("k", Random({2, 2, 6, 8}, 2)),
                v = b.Parameter("v", Random({2, 2, 6, 3}, 3));
  const Tensor mask_data = Integers({2, 1, 1, 6}, {1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0}, DType::kBool);
  const ValueId mask = b.User("mask", mask_data);
  b.Output(b.Op("aten.scaled_dot_product_attention.default",
                {Arg::Value(q), Arg::Value(k), Arg::Value(v), Arg::Value(mask), Arg::Float(0), Arg::Bool(false),
                 Arg::Float(0.3), Arg::Bool(true)}));
  const auto expected = Evaluate(b.graph, b.inputs());
  Builder a;
  a.Parameter("q", b.inputs().at("q"));
  a.Parameter("k", b.inputs().at("k"));
  a.Parameter("v", b.inputs().at("v"));
  const ValueId m = a.User("mask", Integers({2, 6}, {1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0}, DType::kBool));
  const ValueId out = a.graph.AddValue("out", DType::kFloat64, {2, 4, 5, 3}),
                lse = a.graph.AddValue("lse", DType::kFloat64, {2, 4, 5});
  a.graph.AddNode("autosp.attention",
                  {Arg::Value(0), Arg::Value(1), Arg::Value(2), Arg::Values({m}), Arg::String("key(0)"),
                   Arg::Float(0.3), Arg::Bool(false), Arg::Int(5), Arg::Ints(std::vector<int64_t>{}), Arg::Bool(false),
                   Arg::Int(4), Arg::Float(0), Arg::Int(0)},
                  {out, lse});
  a.Output(out);
  EXPECT_LT(Difference(expected, Evaluate(a.graph, a.inputs())), 1e-12);
}

}  // namespace
}  // namespace autospc::testing
