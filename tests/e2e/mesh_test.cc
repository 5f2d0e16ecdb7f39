// Data parallelism beside sequence parallelism: models of models/ on meshes of P processes against one device in float64.
#include "tests/e2e/programs.h"

namespace autospc::e2e {
namespace {

struct Case {
  std::string model;
  int dp, sp, length;
  std::string strategy;
  int batch = 0;  // 0: the export's own, which is 2

  std::string Mesh() const { return "dp=" + std::to_string(dp) + ",sp=" + std::to_string(sp); }
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.model << " " << c.Mesh(); }

// Batches that dp does not divide (3 over 2; 2 over 3 and 1 over 2: a rank with nothing but padding), lengths that sp does
// not divide (61), both beside each other.
std::vector<Case> Matrix() {
  std::vector<Case> cases;
  for (const char* model : {"gpt", "llama", "encoder", "window", "shifted", "padded", "frozen"}) {
    cases.push_back({model, 2, 2, 61, "ulysses"});
  }
  for (const char* model : {"llama", "encoder", "padded", "frozen"}) cases.push_back({model, 3, 2, 61, "allgather-kv"});
  for (const char* model : {"gpt", "encoder"}) cases.push_back({model, 2, 1, 64, "ulysses"});
  cases.push_back({"gpt", 1, 2, 61, "ulysses"});
  cases.push_back({"batched", 2, 1, 64, "ulysses", 3});
  cases.push_back({"batched", 2, 2, 64, "allgather-kv", 3});
  cases.push_back({"batched", 2, 3, 64, "ulysses", 3});
  cases.push_back({"batched", 2, 2, 61, "ulysses", 1});
  return cases;
}

class MeshTest : public testing::TestWithParam<Case> {};

TEST_P(MeshTest, EveryGradientEqualsOneDevice) {
  const Case& c = GetParam();
  Args more = {"--strategy", c.strategy, "--strict", "--mesh", c.Mesh()};
  if (c.batch > 0) more.insert(more.end(), {"--batch", std::to_string(c.batch)});
  ExpectMatchesGolden(Pt2(c.model), Golden(c.model, "s" + std::to_string(c.length)), c.dp * c.sp, c.length, more);
}

INSTANTIATE_TEST_SUITE_P(Models, MeshTest, testing::ValuesIn(Matrix()), [](const auto& info) {
  const Case& c = info.param;
  return c.model + "_dp" + std::to_string(c.dp) + "_sp" + std::to_string(c.sp) + "_S" + std::to_string(c.length) +
         (c.batch > 0 ? "_B" + std::to_string(c.batch) : "");
});

TEST(MeshFlagTest, RanksFollowFromTheMesh) {
  TempFolder folder;
  const Outcome compiled = Execute({"autospc", "compile", Pt2("gpt").string(), "-o", (folder / "p").string(), "--mesh", "sp=2,dp=2",
                                    "--seq-len", "61", "--optimizer", "adamw"});
  ASSERT_EQ(compiled.code, 0) << compiled.All();
  const Outcome shown = Execute({"autospc", "inspect", (folder / "p").string()});
  EXPECT_NE(shown.out.find("4 ranks"), std::string::npos) << shown.out;
  EXPECT_NE(shown.out.find("mesh: dp 2 (the batch) x sp 2 (the sequence)"), std::string::npos) << shown.out;
  EXPECT_NE(shown.out.find("autosp.all_reduce_coalesced_, world"), std::string::npos) << shown.out;
  const Outcome json = Execute({"autospc", "inspect", "--json", (folder / "p").string()});
  EXPECT_NE(json.out.find("\"mesh\""), std::string::npos) << json.out;
  EXPECT_NE(json.out.find("\"axis\": \"sp\""), std::string::npos) << json.out;
}

TEST(MeshFlagTest, MistakesAreTold) {
  TempFolder folder;
  const auto compile = [&](const Args& more) {
    Args args = {"autospc", "compile", Pt2("gpt").string(), "-o", (folder / "p").string(), "--seq-len", "61"};
    args.insert(args.end(), more.begin(), more.end());
    return Execute(args);
  };
  const Outcome contradiction = compile({"--mesh", "dp=2,sp=2", "--ranks", "3"});
  EXPECT_EQ(contradiction.code, 2);
  EXPECT_NE(contradiction.err.find("--ranks 3 contradicts --mesh dp=2,sp=2, which has 4"), std::string::npos) << contradiction.err;
  const Outcome axis = compile({"--mesh", "dp=2,tp=2"});
  EXPECT_EQ(axis.code, 2);
  EXPECT_NE(axis.err.find("another axis than dp and sp"), std::string::npos) << axis.err;
  EXPECT_TRUE(folder.Names().empty());
}

}  // namespace
}  // namespace autospc::e2e
