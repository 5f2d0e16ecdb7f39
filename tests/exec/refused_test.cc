// Instructions that the validator lets pass, since their tensors lie in their storages, and that must not run: arguments of
// another number or kind than the op's, shapes that don't fit, ops that reach beyond their operands. Each is refused when
// the program is loaded, or (where LibTorch itself finds it) ends the step with an error.
#include <ATen/ATen.h>

#include <functional>

#include "tests/exec/programs.h"

namespace autospc::exec {
namespace {

using B = ProgramBuilder;
using program::StorageKind;

struct Tensors {
  ProgramBuilder* b;
  int Of(at::ScalarType type, std::vector<int64_t> sizes) { return b->Tensor(type, std::move(sizes), {}, StorageKind::Activation); }
  int Float(std::vector<int64_t> sizes) { return Of(at::kFloat, std::move(sizes)); }
};

// An instruction with workspace enough: the compiler's formula is for instructions that are right.
void Add(ProgramBuilder& b, const std::string& op, const std::vector<program::ArgT>& args, const std::vector<int>& outputs) {
  auto instruction = std::make_unique<program::InstructionT>();
  instruction->op = op;
  for (const program::ArgT& arg : args) instruction->args.push_back(std::make_unique<program::ArgT>(arg));
  instruction->outputs = outputs;
  instruction->workspace = b.Storage(1 << 20, StorageKind::Workspace);
  b.program().instructions.push_back(std::move(instruction));
}

struct Bad {
  const char* name;
  std::function<void(ProgramBuilder&, Tensors)> make;
  const char* says;  // "": an error of LibTorch's own
};

const std::vector<Bad>& AllBad() {
  static const std::vector<Bad> all = {
      {"TooFewArguments", [](B& b, Tensors t) { Add(b, "aten.add.Tensor", {B::T(t.Float({2}))}, {t.Float({2})}); }, "no argument"},
      {"TooManyArguments", [](B& b, Tensors t) { Add(b, "autosp.vary", {B::T(t.Float({2})), B::S("sp"), B::I(1)}, {t.Float({2})}); }, "3 arguments of 2"},
      {"NoTensor", [](B& b, Tensors t) { Add(b, "autosp.vary", {B::I(1)}, {t.Float({2})}); }, "must be Tensor"},
      {"NoneForATensor", [](B& b, Tensors t) { Add(b, "aten.relu.default", {B::None()}, {t.Float({2})}); }, "must be Tensor"},
      {"ATensorForANumber", [](B& b, Tensors t) { Add(b, "aten.select.int", {B::T(t.Float({2})), B::T(t.Float({2})), B::I(0)}, {t.Float({})}); }, "must be int"},
      {"NoneInAListOfTensors", [](B& b, Tensors t) { Add(b, "autosp.grad_norm", {B::Ts({-1})}, {t.Of(at::kDouble, {})}); }, "must be Tensor[]"},
      {"NoResult", [](B& b, Tensors t) { Add(b, "aten.relu.default", {B::T(t.Float({2}))}, {}); }, "0 results of 1"},
      {"TooManyResults", [](B& b, Tensors t) { Add(b, "aten.relu.default", {B::T(t.Float({2}))}, {t.Float({2}), t.Float({2})}); }, "2 results of 1"},
      {"AFile", [](B& b, Tensors t) {
         Add(b, "aten.from_file.default", {B::S("/etc/passwd"), B::None(), B::I(8), B::None(), B::None(), B::None(), B::None()}, {t.Float({2})});
       }, "no op of a compiled program"},
      {"AnotherShapeInPlace", [](B& b, Tensors t) { Add(b, "aten.resize_.default", {B::T(t.Float({2})), B::Is({1000}), B::None()}, {}); }, "no op of a compiled program"},
      {"AnotherStrideInPlace", [](B& b, Tensors t) { Add(b, "aten.as_strided_.default", {B::T(t.Float({2})), B::Is({2}), B::Is({0}), B::I(0)}, {}); }, "no op of a compiled program"},
      {"AResultThatIsResized", [](B& b, Tensors t) { Add(b, "aten.arange.default", {B::I(4), B::None(), B::None(), B::None(), B::None()}, {t.Float({8})}); }, "another shape than the plan"},
      {"AResultThatIsTooSmall", [](B& b, Tensors t) { Add(b, "aten.arange.default", {B::I(400), B::None(), B::None(), B::None(), B::None()}, {t.Float({8})}); }, ""},
      {"PositionsInAMatrix", [](B& b, Tensors t) {
         Add(b, "autosp.positions", {B::I(0), B::I(1), B::I(4), B::I(4), B::D(at::kLong)}, {t.Of(at::kLong, {4, 4})});
       }, "no vector of positions"},
      {"PositionsWithoutEnd", [](B& b, Tensors t) {
         Add(b, "autosp.positions", {B::I(0), B::I(1), B::I(INT64_MAX), B::I(4), B::D(at::kLong)}, {t.Of(at::kLong, {4})});
       }, "no vector of positions"},
      {"GradientOfAnotherTable", [](B& b, Tensors t) {
         Add(b, "aten.embedding_dense_backward.default", {B::T(t.Float({3, 4})), B::T(t.Of(at::kLong, {5})), B::I(8), B::I(-1), B::B(false)}, {t.Float({8, 4})});
       }, "not a row of the table"},
      {"NormOfAnotherShape", [](B& b, Tensors t) {
         Add(b, "aten.native_layer_norm.default", {B::T(t.Float({2, 4})), B::Is({4}), B::T(t.Float({3})), B::None(), B::F(1e-5)},
               {t.Float({2, 4}), t.Float({2, 1}), t.Float({2, 1})});
       }, "that don't fit"},
      {"NormIntoASmallerResult", [](B& b, Tensors t) {
         Add(b, "aten.native_layer_norm.default", {B::T(t.Float({64, 4})), B::Is({4}), B::None(), B::None(), B::F(1e-5)},
               {t.Float({2, 4}), t.Float({64, 1}), t.Float({64, 1})});
       }, "that don't fit"},
      {"NormOverAllThatIsNot", [](B& b, Tensors t) {
         Add(b, "aten.native_layer_norm.default", {B::T(t.Float({2, 4})), B::Is({1 << 30}), B::None(), B::None(), B::F(1e-5)},
               {t.Float({2, 4}), t.Float({2, 1}), t.Float({2, 1})});
       }, "that don't fit"},
      {"NormsGradientOfAnotherShape", [](B& b, Tensors t) {
         Add(b, "aten.native_layer_norm_backward.default",
               {B::T(t.Float({2, 4})), B::T(t.Float({200, 4})), B::Is({4}), B::T(t.Float({200, 1})), B::T(t.Float({200, 1})), B::None(), B::None(), B::Bs({1, 0, 0})},
               {t.Float({200, 4}), t.Float({4}), t.Float({4})});
       }, "that don't fit"},
      {"DropoutIntoASmallerResult", [](B& b, Tensors t) {
         Add(b, "autosp.dropout", {B::T(t.Float({64, 64})), B::F(0.5), B::I(1), B::I(-1), B::I(0), B::I(1), B::I(1)}, {t.Float({2})});
       }, "does not fit its result"},
      {"ANormThatIsNoNumber", [](B& b, Tensors t) { Add(b, "autosp.grad_norm", {B::Ts({t.Float({2})})}, {t.Of(at::kDouble, {0})}); }, "its result is one number"},
      {"ClippingByNothing", [](B& b, Tensors t) { Add(b, "autosp.clip_coefficient", {B::T(t.Of(at::kDouble, {0})), B::F(1)}, {t.Of(at::kDouble, {})}); }, "a norm is one number"},
      {"ASumOfAnotherShape", [](B& b, Tensors t) { Add(b, "autosp.accumulate_", {B::T(t.Float({64})), B::T(t.Float({2}))}, {}); }, "of other shapes or types"},
      {"ASumOfANarrowerType", [](B& b, Tensors t) { Add(b, "autosp.accumulate_", {B::T(t.Of(at::kHalf, {2})), B::T(t.Float({2}))}, {}); }, "of other shapes or types"},
      {"AGradientOfAnotherShape", [](B& b, Tensors t) {
         Add(b, "autosp.sgd_", {B::T(t.Float({64, 64})), B::None(), B::T(t.Float({2})), B::None(), B::T(t.Of(at::kDouble, {})), B::F(0)}, {});
       }, "a gradient of another shape"},
      {"ARateThatIsNoNumber", [](B& b, Tensors t) {
         Add(b, "autosp.sgd_", {B::T(t.Float({4})), B::None(), B::T(t.Float({4})), B::None(), B::T(t.Of(at::kDouble, {0})), B::F(0)}, {});
       }, "one number each"},
      {"StatesThatAreNotThere", [](B& b, Tensors t) {
         const int p = t.Float({4}), one = t.Of(at::kDouble, {}), step = t.Of(at::kLong, {});
         Add(b, "autosp.adamw_", {B::T(p), B::None(), B::T(p), B::None(), B::None(), B::None(), B::T(one), B::T(step), B::F(0.9), B::F(0.9), B::F(0), B::F(0)}, {});
       }, "must be Tensor"},
      {"PaddingWithoutEnd", [](B& b, Tensors t) { Add(b, "aten.constant_pad_nd.default", {B::T(t.Float({4})), B::Is({INT64_MIN, 0}), B::F(0)}, {t.Float({4})}); }, "padding of no tensor"},
      {"AttentionOfTwoTypes", [](B& b, Tensors t) {
         const int q = t.Of(at::kDouble, {1, 1, 8, 4}), k = t.Float({1, 1, 8, 4});
         Add(b, "autosp.attention", {B::T(q), B::T(k), B::T(k), B::Ts({}), B::S("true"), B::F(1), B::B(false), B::I(8), B::Is({}), B::B(false), B::I(1), B::F(0), B::I(0)},
               {t.Of(at::kDouble, {1, 1, 8, 4}), t.Of(at::kDouble, {1, 1, 8})});
       }, "of different types"},
      {"AttentionWithoutRowsOfSums", [](B& b, Tensors t) {
         const int q = t.Float({1, 1, 8, 4});
         Add(b, "autosp.attention", {B::T(q), B::T(q), B::T(q), B::Ts({}), B::S("true"), B::F(1), B::B(false), B::I(8), B::Is({}), B::B(false), B::I(1), B::F(0), B::I(0)},
               {t.Float({1, 1, 8, 4}), t.Float({1, 1, 2})});
       }, "not one a row"},
      {"AMatrixForAttention", [](B& b, Tensors t) {
         const int q = t.Float({8, 4});
         Add(b, "autosp.attention", {B::T(q), B::T(q), B::T(q), B::Ts({}), B::S("true"), B::F(1), B::B(false), B::I(8), B::Is({}), B::B(false), B::I(1), B::F(0), B::I(0)},
               {t.Float({8, 4}), t.Float({8})});
       }, "not one a row"},
      {"LastRowsOfNoRank", [](B& b, Tensors t) { Add(b, "autosp.pad_last", {B::T(t.Float({0, 2})), B::I(0), B::I(1)}, {t.Float({0, 2})}); }, "rows that no rank holds"},
  };
  return all;
}

class Refused : public testing::TestWithParam<size_t> {};

TEST_P(Refused, NothingIsTouched) {
  const Bad& bad = AllBad()[GetParam()];
  ProgramBuilder b;
  bad.make(b, Tensors{&b});
  auto e = b.Build();
  const Status status = e.ok() ? (*e)->Step({}) : Status(e.error());
  ASSERT_FALSE(status.ok()) << "it ran";
  const Error& error = status.error();
  EXPECT_TRUE(error.code == Code::kBadInput || error.code == Code::kFailed) << error.Format();
  EXPECT_NE(error.Format().find(bad.says), std::string::npos) << error.Format();
  EXPECT_NE(error.where.find("instruction 0"), std::string::npos) << error.Format();
}

INSTANTIATE_TEST_SUITE_P(Each, Refused, testing::Range<size_t>(0, AllBad().size()),
                         [](const auto& info) { return std::string(AllBad()[info.param].name); });

}  // namespace
}  // namespace autospc::exec
