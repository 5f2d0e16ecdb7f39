// Every model of models/ (and of the zoo beside the checkout) as P processes against one device in float64, gradient by
// gradient.
#include "tests/e2e/programs.h"
#include "tests/e2e/safetensors_edit.h"

namespace autospc::e2e {
namespace {

struct Case {
  std::string model;
  int ranks;
  int length;
  std::string strategy;
  Args more;           // for autospc compile
  std::string golden;  // empty: s<length>
  std::string label;   // empty: made from the rest

  std::string Name() const {
    std::string name =
        label.empty() ? model + "_P" + std::to_string(ranks) + "_S" + std::to_string(length) + "_" + strategy : label;
    std::replace_if(
        name.begin(), name.end(), [](char c) { return !isalnum(c); }, '_');
    return name;
  }
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.Name(); }

// P = 1 has no strategy to choose; P = 3 divides neither heads nor lengths; S = 61 divides by no P.
std::vector<Case> Matrix() {
  std::vector<Case> cases;
  for (const char* model : {"gpt", "llama", "encoder", "window", "shifted", "padded", "frozen", "batched"}) {
    const auto batch = [&](int length) {
      return model == std::string("batched") ? Args{"--batch", length == 64 ? "3" : "1"} : Args{};
    };
    cases.push_back({model, 1, 61, "ulysses", batch(61), "", ""});
    for (const char* strategy : {"ulysses", "allgather-kv"}) {
      for (int length : {64, 61}) cases.push_back({model, 2, length, strategy, batch(length), "", ""});
      cases.push_back({model, 3, 61, strategy, batch(61), "", ""});
      cases.push_back({model, 4, 61, strategy, batch(61), "", ""});
    }
    cases.push_back({model, 3, 64, "ulysses", batch(64), "", ""});
    cases.push_back({model, 4, 64, "allgather-kv", batch(64), "", ""});
  }
  // Fewer tokens than ranks; whole shards of padding.
  for (const char* model : {"encoder", "shifted"}) {
    cases.push_back({model, 4, 3, "ulysses", {}, "", ""});
    cases.push_back({model, 4, 3, "allgather-kv", {}, "", ""});
  }
  // Shards without any valid label.
  cases.push_back({"llama", 4, 61, "ulysses", {}, "s61_few_labels", "llama_P4_shards_without_label"});
  return cases;
}

class GoldenTest : public testing::TestWithParam<Case> {};

TEST_P(GoldenTest, EveryGradientEqualsOneDevice) {
  const Case& c = GetParam();
  Args more = {"--strategy", c.strategy, "--strict"};
  more.insert(more.end(), c.more.begin(), c.more.end());
  const std::string golden = c.golden.empty() ? "s" + std::to_string(c.length) : c.golden;
  ExpectMatchesGolden(Pt2(c.model), Golden(c.model, golden), c.ranks, c.length, more);
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest, testing::ValuesIn(Matrix()),
                         [](const auto& info) { return info.param.Name(); });

// Two points of the zoo's matrix each; the whole of it is `./dev shows matrix`.
class ZooTest : public testing::TestWithParam<std::string> {};

TEST_P(ZooTest, EveryGradientEqualsOneDevice) {
  if (!fs::exists(Zoo())) GTEST_SKIP() << "no zoo beside this checkout";
  const std::string& model = GetParam();
  ExpectMatchesGolden(Pt2(model, Zoo()), Golden(model, "s61", Zoo()), 3, 61, {"--strategy", "ulysses", "--strict"});
  ExpectMatchesGolden(Pt2(model, Zoo()), Golden(model, "s64", Zoo()), 2, 64,
                      {"--strategy", "allgather-kv", "--strict"});
}

INSTANTIATE_TEST_SUITE_P(Models, ZooTest,
                         testing::Values("nanogpt", "llamastyle", "hf_llama", "hf_gpt2", "hf_qwen3", "hf_mistral",
                                         "hf_gemma3", "hf_bert"),
                         [](const auto& info) { return info.param; });

TEST(DecomposedTest, TheDecomposedFormGivesTheSameGradients) {
  for (const std::string model : {"gpt", "llama"}) {
    SCOPED_TRACE(model);
    const fs::path pt2 = Models() / model / (model + ".decomposed.pt2");
    ExpectMatchesGolden(pt2, Golden(model, "s61"), 3, 61, {"--strict"});
  }
}

// The comparison itself: a golden that is wrong in one tensor, by little, fails and is named.
TEST(ComparisonTest, OneWrongGradientFailsAndIsNamed) {
  TempFolder folder;
  const Outcome compiled = Execute(CompileArgs(Pt2("gpt"), folder / "package", 2, 61));
  ASSERT_EQ(compiled.code, 0) << compiled.All();
  SafetensorsEdit golden(Golden("gpt", "s61"));
  const std::string wrong = "blocks.1.mlp.up.bias";
  std::vector<double> gradient = golden.Doubles("grad." + wrong);
  double norm = 0;
  for (double g : gradient) norm += g * g;
  gradient[3] += 1e-4 * std::sqrt(norm);  // ten times what the comparison allows
  golden.SetDoubles("grad." + wrong, gradient);
  golden.Write(folder / "wrong.safetensors");
  const Args run = GoldenArgs(folder / "package", 2, folder / "wrong.safetensors");
  const Outcome ran = Execute(run);
  EXPECT_EQ(ran.code, 1) << Said(run, ran);
  EXPECT_NE(ran.All().find(wrong), std::string::npos) << Said(run, ran);
  const Outcome tolerant = Execute(GoldenArgs(folder / "package", 2, folder / "wrong.safetensors", {"--rtol", "1e-3"}));
  EXPECT_EQ(tolerant.code, 0) << tolerant.All();
}

TEST(ComparisonTest, NaNAndAWrongLossFail) {
  TempFolder folder;
  ASSERT_EQ(Execute(CompileArgs(Pt2("gpt"), folder / "package", 2, 61)).code, 0);
  SafetensorsEdit golden(Golden("gpt", "s61"));
  const std::vector<double> loss = golden.Doubles("loss");
  golden.SetDoubles("loss", {loss[0] * (1 + 1e-3)});
  golden.Write(folder / "loss.safetensors");
  const Args run = GoldenArgs(folder / "package", 2, folder / "loss.safetensors");
  const Outcome ran = Execute(run);
  EXPECT_EQ(ran.code, 1) << Said(run, ran);
  golden.SetDoubles("loss", loss);
  std::vector<double> gradient = golden.Doubles("grad.norm.bias");
  gradient[0] = std::nan("");
  golden.SetDoubles("grad.norm.bias", gradient);
  golden.Write(folder / "nan.safetensors");
  const Outcome with_nan = Execute(GoldenArgs(folder / "package", 2, folder / "nan.safetensors"));
  EXPECT_EQ(with_nan.code, 1) << with_nan.All();
}

}  // namespace
}  // namespace autospc::e2e
