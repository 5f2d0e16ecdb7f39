// ZeRO: at every stage and number of ranks the same training as with whole states, and whole gradients for who asks.
// Compiled, packaged and loaded as a job would be; the ranks are threads.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <random>

#include "runtime/package/oci.h"
#include "runtime/train/capture.h"
#include "runtime/train/load.h"
#include "tests/compiler/graph_builder.h"
#include "tests/compiler/run_ranks.h"

namespace autospc::testing {
namespace {

constexpr int kSteps = 20;

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "autospc_zero_XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Parameters of every kind: a matrix used twice under two names, one used transposed, a vector, a scalar, fewer
// elements than ranks, one outside the sharded region (no reduction), one read by both, one frozen.
GraphBuilder Model(at::ScalarType type) {
  GraphBuilder b;
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal(0, 0.5);
  const auto draw = [&](std::vector<int64_t> sizes) {
    at::Tensor t = at::empty(sizes, at::kDouble);
    for (int64_t i = 0; i < t.numel(); ++i) t.mutable_data_ptr<double>()[i] = normal(random);
    return t.to(type);
  };
  const auto value = [](ValueId v) { return Arg::Value(v); };
  const ValueId x = b.Input("x", draw({2, 7, 6}), 1);
  const ValueId head = b.Parameter("head", draw({6, 6}));
  const ValueId embed = b.Parameter("embed", b.parameters["head"]);
  b.graph.inputs.back().alias_of = "head";
  const ValueId up = b.Parameter("up", draw({11, 6})), bias = b.Parameter("bias", draw({11}));
  const ValueId down = b.Parameter("down", draw({11, 6})), gain = b.Parameter("gain", draw({}));
  const ValueId two = b.Parameter("two", draw({2, 1})), alone = b.Parameter("alone", draw({3, 5}));
  const ValueId frozen = b.Parameter("frozen", draw({6}));
  b.graph.inputs.back().requires_grad = false;
  ValueId h = b.Op("aten.linear.default", {value(x), value(embed)});
  h = b.Op("aten.add.Tensor", {value(h), value(frozen)});
  h = b.Op("aten.tanh.default", {value(b.Op("aten.linear.default", {value(h), value(up), value(bias)}))});
  h = b.Op("aten.matmul.default", {value(h), value(down)});
  h = b.Op("aten.mul.Tensor", {value(h), value(gain)});
  h = b.Op("aten.linear.default", {value(h), value(head)});
  h = b.Op(
      "aten.mul.Tensor",
      {value(h), value(b.Op("aten.select.int", {value(b.Op("aten.select.int", {value(two), Arg::Int(0), Arg::Int(1)})),
                                                Arg::Int(0), Arg::Int(0)}))});
  const ValueId data = b.Op("aten.mean.default", {value(b.Op("aten.mul.Tensor", {value(h), value(h)}))});
  const ValueId squares = b.Op("aten.sum.default", {value(b.Op("aten.mul.Tensor", {value(alone), value(alone)}))});
  const ValueId of_gain = b.Op("aten.mul.Tensor", {value(gain), value(gain)});
  b.Loss(b.Op("aten.add.Tensor", {value(data), value(b.Op("aten.add.Tensor", {value(squares), value(of_gain)}))}));
  return b;
}

struct Options {
  std::string optimizer;
  double clip = 0;
  int zero = 0;
};

struct Trained {
  std::vector<double> losses, norms;
  Tensors parameters;  // of rank 0, after kSteps
  Tensors gradients;   // of the first step
  int64_t state_bytes = 0;
  bool equal = true;  // parameters of all ranks
};

Result<program::ProgramT> CompileModel(const GraphBuilder& b, const Mesh& mesh, const Options& o) {
  CompileHooks hooks;
  hooks.context.optimizer = o.optimizer;
  hooks.context.clip_norm = o.clip;
  hooks.context.zero = o.zero;
  ASSIGN_OR_RETURN(CompiledGraph compiled, CompileGraph(b.graph, mesh, "ulysses", hooks));
  compiled.program.format_version = kFormatVersion;
  compiled.program.device = "cpu";
  return std::move(compiled.program);
}

Status WriteWeights(const GraphBuilder& b, const std::string& path) {
  std::vector<TensorToWrite> tensors;
  std::vector<at::Tensor> kept;
  for (const auto& [name, t] : b.parameters) {
    if (name == "embed") continue;
    kept.push_back(t.detach().contiguous());
    tensors.push_back({name, exec::ToDType(t.scalar_type()), t.sizes().vec(), kept.back().data_ptr(), nullptr});
  }
  return WriteSafetensors(path, std::move(tensors));
}

at::Tensor ParameterOf(const exec::Executor& e, const std::string& name) {
  const int storage = e.FindStorage(program::StorageKind::Parameter, name);
  for (size_t t = 0; t < e.program().tensors.size(); ++t) {
    if (e.program().tensors[t]->storage == storage) return e.tensor(static_cast<int>(t)).clone();
  }
  return {};
}

Status TrainRank(const Package& package, const std::string& weights, const GraphBuilder& b, Communicator* communicator,
                 Trained* trained, Tensors* parameters) {
  exec::ExecutorOptions options;
  options.rank = communicator->rank();
  options.communicator = communicator;
  train::WeightOptions weight_options;
  weight_options.weights = weights;
  const std::shared_ptr<const program::ProgramT> program(std::shared_ptr<void>(), &package.program());
  ASSIGN_OR_RETURN(const auto e, exec::Executor::Create(program, options));
  RETURN_IF_ERROR(train::LoadWeights(package, weight_options, e.get()));
  RETURN_IF_ERROR(Fill(*e, program::StorageKind::Input, b.inputs));
  e->SetScalar("lr", 0.01);
  const bool first = options.rank == 0;
  ASSIGN_OR_RETURN(train::Capture whole, train::Capture::Make(*e, true, first));
  ASSIGN_OR_RETURN(train::Capture later, train::Capture::Make(*e, false));
  for (int step = 1; step <= kSteps; ++step) {
    e->SetScalar("step", step);
    train::Capture& capture = step == 1 ? whole : later;
    RETURN_IF_ERROR(capture.Step(e.get()));
    if (!first) continue;
    trained->losses.push_back(capture.loss());
    trained->norms.push_back(capture.grad_norm());
    if (step > 1) continue;
    for (const ComputedGradient& g : whole.gradients()) {
      const at::Tensor view = at::empty_strided(g.sizes, g.strides, exec::ToScalarType(g.dtype));
      std::memcpy(view.data_ptr(), g.data, view.storage().nbytes());
      trained->gradients[g.name] = view.contiguous();
    }
  }
  for (const auto& [name, t] : b.parameters) {
    if (name != "embed") (*parameters)[name] = ParameterOf(*e, name);
  }
  if (first) {
    for (const auto& s : package.program().storages) {
      if (s->kind == program::StorageKind::Optimizer) trained->state_bytes += s->bytes;
    }
  }
  return Ok();
}

Result<Trained> Train(const GraphBuilder& b, const Mesh& mesh, const Options& o) {
  const int ranks = mesh.ranks();
  Folder folder;
  ASSIGN_OR_RETURN(const program::ProgramT program, CompileModel(b, mesh, o));
  RETURN_IF_ERROR(WritePackage(program, {}, folder / "package"));
  RETURN_IF_ERROR(WriteWeights(b, folder / "weights.safetensors"));
  ASSIGN_OR_RETURN(const Package package, Package::Open(folder / "package"));
  const auto communicators = MakeInProcessCommunicators(ranks);
  Trained trained;
  std::vector<Tensors> parameters(ranks);
  std::vector<std::optional<Error>> errors(ranks);
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      at::set_num_threads(1);
      const Status status =
          TrainRank(package, folder / "weights.safetensors", b, communicators[r].get(), &trained, &parameters[r]);
      if (status.ok()) return;
      errors[r] = status.error();
      communicators[r]->Abort();
    });
  }
  for (std::thread& t : threads) t.join();
  for (const auto& error : errors) {
    if (error && error->code != Code::kInterrupted) return *error;
  }
  trained.parameters = parameters[0];
  for (const Tensors& other : parameters) {
    for (const auto& [name, t] : other) trained.equal = trained.equal && t.equal(trained.parameters.at(name));
  }
  return trained;
}

double Distance(const at::Tensor& a, const at::Tensor& b) {
  const double scale = Norm(b);
  return Norm(a.to(at::kDouble) - b.to(at::kDouble)) / (scale == 0 ? 1 : scale);
}

struct Case {
  int ranks;
  Options options;
  at::ScalarType type;
  int dp = 1;

  Mesh OnMesh() const { return Mesh(ranks / dp, dp); }
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << fmt::format("{}_zero{}_P{}{}{}{}", c.options.optimizer, c.options.zero, c.ranks,
                      c.dp > 1 ? fmt::format("_dp{}", c.dp) : "",
                      c.options.clip > 0 ? "_clipped" : "", c.type == at::kBFloat16 ? "_bf16" : "");
}

class ZeroTest : public ::testing::TestWithParam<Case> {};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (int ranks : {1, 2, 3, 4, 5}) {
    for (int zero : {1, 2}) {
      for (double clip : {0.0, 0.3}) {
        cases.push_back({ranks, {"adamw", clip, zero}, at::kFloat});
        if (ranks % 2 == 0) cases.push_back({ranks, {"adamw", clip, zero}, at::kBFloat16});
      }
      cases.push_back({ranks, {"sgd", ranks % 2 ? 0.3 : 0.0, zero}, at::kFloat});
    }
  }
  for (const auto& [ranks, dp] : {std::pair(2, 2), {4, 2}, {6, 3}, {6, 2}}) {  // the blocks are those of all ranks
    for (int zero : {0, 1, 2}) {
      cases.push_back({ranks, {"adamw", 0.3, zero}, at::kFloat, dp});
      cases.push_back({ranks, {"sgd", 0.0, zero}, at::kFloat, dp});
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Stages, ZeroTest, ::testing::ValuesIn(Cases()),
                         [](const auto& info) { return ::testing::PrintToString(info.param); });

TEST_P(ZeroTest, TwentyStepsAsWithWholeStates) {
  const Case& c = GetParam();
  const GraphBuilder model = Model(c.type);
  Options plain = c.options;
  plain.zero = 0;
  const Result<Trained> whole = Train(model, Mesh(c.ranks), plain), sharded = Train(model, c.OnMesh(), c.options);
  ASSERT_TRUE(whole.ok()) << whole.error().Format();
  ASSERT_TRUE(sharded.ok()) << sharded.error().Format();
  EXPECT_TRUE(sharded->equal) << "all ranks hold the same parameters";
  ASSERT_EQ(sharded->losses.size(), size_t{kSteps});
  EXPECT_LT(sharded->losses.back(), sharded->losses.front()) << "it learns";
  for (int i = 0; i < kSteps; ++i) {
    EXPECT_NEAR(sharded->losses[i], whole->losses[i], 1e-6 * std::abs(whole->losses[i])) << "step " << i;
    EXPECT_NEAR(sharded->norms[i], whole->norms[i], 1e-6 * whole->norms[i]) << "step " << i;
  }
  ASSERT_EQ(sharded->parameters.size(), model.parameters.size() - 1);
  for (const auto& [name, p] : whole->parameters) {
    EXPECT_LE(Distance(sharded->parameters.at(name), p), 1e-6) << name;
    const double moved = Distance(p, model.parameters.at(name).detach());
    EXPECT_EQ(moved == 0, name == "frozen") << name;
  }
  // Blocks of ceil(n / P), so at most an element more a state than a P-th.
  if (c.options.zero == 0) return;
  const int64_t states = 8 * 3, bytes = sharded->state_bytes * c.ranks;
  EXPECT_GE(bytes, whole->state_bytes);
  EXPECT_LE(bytes, whole->state_bytes + states * c.ranks * 4);
}

class ZeroGradientTest : public ZeroTest {};
std::vector<Case> GradientCases() {  // 16 bits have no five digits
  std::vector<Case> cases = Cases();
  std::erase_if(cases, [](const Case& c) { return c.type != at::kFloat; });
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Stages, ZeroGradientTest, ::testing::ValuesIn(GradientCases()),
                         [](const auto& info) { return ::testing::PrintToString(info.param); });

TEST_P(ZeroGradientTest, WholeGradientsOfTheFirstStep) {
  const Case& c = GetParam();
  const GraphBuilder model = Model(c.type);
  std::map<std::string, at::Tensor> expected = Model(at::kDouble).Gradients();
  expected["head"] = expected["head"] + expected["embed"];
  expected["embed"] = expected["head"];
  expected.erase("frozen");
  const Result<Trained> sharded = Train(model, c.OnMesh(), c.options);
  ASSERT_TRUE(sharded.ok()) << sharded.error().Format();
  ASSERT_EQ(sharded->gradients.size(), expected.size());
  double squares = 0;
  for (const auto& [name, g] : expected) {
    ASSERT_TRUE(sharded->gradients.contains(name)) << name;
    EXPECT_EQ(sharded->gradients.at(name).sizes(), g.sizes());
    // The float64 model's parameters are those of float32 before rounding.
    EXPECT_LE(Distance(sharded->gradients.at(name), g), 1e-5) << name;
    if (name != "embed") squares += std::pow(Norm(g), 2);
  }
  EXPECT_NEAR(sharded->norms[0], std::sqrt(squares), 1e-5 * std::sqrt(squares)) << "each parameter once";
}

}  // namespace
}  // namespace autospc::testing
