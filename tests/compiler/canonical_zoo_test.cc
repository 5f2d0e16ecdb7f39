// The canonical passes over real exports: every attention is found, with the predicate the model means, and no
// value of S * S elements is left.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "compiler/import/import.h"
#include "passes/canonical/register.h"
#include "passes/framework/manager.h"

namespace autospc {
namespace {

struct Expected {
  const char* model;
  std::vector<std::string> predicates;  // one for each layer
  int64_t kv_heads;
};

// By the zoo's make_zoo.py: two layers each, gemma3's first with a window of 16 keys.
const Expected kZoo[] = {
    {"nanogpt", {"diff(0, *)", "diff(0, *)"}, 4},      {"llamastyle", {"diff(0, *)", "diff(0, *)"}, 2},
    {"hf_llama", {"diff(0, *)", "diff(0, *)"}, 2},     {"hf_qwen3", {"diff(0, *)", "diff(0, *)"}, 2},
    {"hf_mistral", {"diff(0, 15)", "diff(0, 15)"}, 2}, {"hf_gemma3", {"diff(0, 15)", "diff(0, *)"}, 2},
    {"hf_gpt2", {"diff(0, *)", "diff(0, *)"}, 4},      {"hf_bert", {"true", "true"}, 4},
};

class CanonicalZoo : public ::testing::TestWithParam<std::tuple<Expected, int64_t>> {};

TEST_P(CanonicalZoo, EveryAttentionIsAPredicate) {
  const auto& [expected, seq_len] = GetParam();
  const std::string path =
      std::string(AUTOSPC_SOURCE_DIR) + "/../shared/zoo/" + expected.model + "/" + expected.model + ".pt2";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no zoo here";
  auto model = import::ImportPt2(path);
  ASSERT_TRUE(model.ok()) << model.error().Format();
  import::Bindings bindings;
  bindings.seq_len = seq_len;
  const auto bound = import::BindSizes(&*model, bindings);
  ASSERT_TRUE(bound.ok()) << bound.error().Format();

  PassRegistry registry;
  RegisterCanonicalPasses(registry);
  PassContext context;
  context.constants = [&](const std::string& name) -> Result<std::vector<uint8_t>> {
    const auto it = model->weights.find(name);
    if (it == model->weights.end()) return Error{Code::kBadInput, "no data", name, ""};
    return import::ReadWeight(it->second);
  };
  PassManager manager(registry, {});
  const Status status = manager.Run(model->graph, context, CanonicalPipeline());
  ASSERT_TRUE(status.ok()) << status.error().Format();

  std::vector<std::string> predicates;
  const ir::Graph& graph = model->graph;
  for (const ir::NodeId id : graph.nodes()) {
    const ir::Node& node = graph.node(id);
    EXPECT_FALSE(ir::IsEffectful(node.op)) << node.op;
    for (const ir::ValueId v : node.results) {
      const std::vector<int64_t> sizes = graph.value(v).int_sizes();
      EXPECT_LT(std::count(sizes.begin(), sizes.end(), seq_len), 2) << graph.value(v).name << " of " << node.op;
    }
    if (node.op != "autosp.attention") continue;
    predicates.push_back(node.args[4].s);
    EXPECT_TRUE(node.args[3].values.empty());
    EXPECT_EQ(graph.value(node.args[1].value).int_sizes()[1], expected.kv_heads);
    EXPECT_EQ(graph.value(node.args[2].value).int_sizes()[1], expected.kv_heads);
  }
  EXPECT_EQ(predicates, expected.predicates);
  EXPECT_TRUE(context.notes.empty());
}

INSTANTIATE_TEST_SUITE_P(Zoo, CanonicalZoo,
                         ::testing::Combine(::testing::ValuesIn(kZoo), ::testing::Values(int64_t{61}, int64_t{127})),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).model) + "_s" +
                                  std::to_string(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace autospc
