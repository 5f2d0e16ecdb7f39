// Heads and embeddings that may be one parameter, and --tie-embeddings.
#include "compiler/import/embedding_ties.h"

#include <gtest/gtest.h>

#include "tests/import/pt2_builder.h"

namespace autospc::import {
namespace {

using testing::In;
using testing::json;
using testing::Meta;
using testing::Pt2Builder;
using testing::T;
using Pairs = std::vector<std::pair<std::string, std::string>>;

// The table looked up by ids, linear or matmul with the transpose, sum. All tables [4, 4].
struct Net {
  Pt2Builder b;

  explicit Net(const std::vector<std::string>& parameters) {
    for (const std::string& name : parameters) {
      b.Parameter(name, Meta({4, 4}), "weight_" + name).Data("weights/weight_" + name, std::string(64, '\0'));
    }
    b.User("ids", Meta({2, 3}, testing::kInt64));
  }
  void Embed(const std::string& parameter, const std::string& ids, const std::string& out) {
    b.Node("aten.embedding.default", {In("weight", T("p_" + parameter)), In("indices", T(ids))}, out, Meta({2, 3, 4}));
  }
  void Linear(const std::string& parameter, const std::string& x, const std::string& out) {
    b.Node("aten.linear.default", {In("input", T(x)), In("weight", T("p_" + parameter))}, out, Meta({2, 3, 4}));
  }
  Result<Model> Done(const std::string& last) {
    b.Node("aten.sum.default", {In("self", T(last))}, "loss", Meta({}));
    b.Output("loss");
    return b.Import();
  }
};

std::vector<std::string> Names(const Model& m) {
  std::vector<std::string> names;
  for (const auto& in : m.graph.inputs) names.push_back(in.name);
  return names;
}

TEST(EmbeddingTies, AHeadOfTheEmbeddingsShape) {
  Net net({"embed", "head"});
  net.Embed("embed", "ids", "e");
  net.Linear("head", "e", "l");
  auto model = net.Done("l");
  ASSERT_TRUE(model.ok()) << model.error().Format();
  EXPECT_EQ(TieCandidates(model->graph), (Pairs{{"head", "embed"}}));
  ASSERT_TRUE(TieEmbeddings(&*model).ok());
  EXPECT_EQ(Names(*model), (std::vector<std::string>{"embed", "ids"}));
  EXPECT_EQ(model->ties, (std::map<std::string, std::string>{{"head", "embed"}}));
  EXPECT_EQ(TieCandidates(model->graph), Pairs{});
  EXPECT_TRUE(TieEmbeddings(&*model).ok()) << "once more asks for nothing";
}

TEST(EmbeddingTies, AHeadByItsTranspose) {
  Net net({"embed", "head"});
  net.Embed("embed", "ids", "e");
  net.b.Node("aten.t.default", {In("self", T("p_head"))}, "t", Meta({4, 4}));
  net.b.Node("aten.matmul.default", {In("self", T("e")), In("other", T("t"))}, "l", Meta({2, 3, 4}));
  const auto model = net.Done("l");
  ASSERT_TRUE(model.ok()) << model.error().Format();
  EXPECT_EQ(TieCandidates(model->graph), (Pairs{{"head", "embed"}}));
}

// A table looked up by positions is no embedding of tokens, whatever its shape.
TEST(EmbeddingTies, APositionTableIsNone) {
  Net net({"positions", "embed", "head"});
  net.b.Node("aten.arange.default", {In("end", json{{"as_int", 3}})}, "at", Meta({3}, testing::kInt64));
  net.b.Node("aten.embedding.default", {In("weight", T("p_positions")), In("indices", T("at"))}, "p", Meta({3, 4}));
  net.Embed("embed", "ids", "e");
  net.b.Node("aten.add.Tensor", {In("self", T("e")), In("other", T("p"))}, "x", Meta({2, 3, 4}));
  net.Linear("head", "x", "l");
  const auto model = net.Done("l");
  ASSERT_TRUE(model.ok()) << model.error().Format();
  EXPECT_EQ(TieCandidates(model->graph), (Pairs{{"head", "embed"}}));
}

TEST(EmbeddingTies, SeveralOrNoneAreRefused) {
  Net several({"embed", "inner", "head"});
  several.Embed("embed", "ids", "e");
  several.Linear("inner", "e", "i");
  several.Linear("head", "i", "l");
  auto model = several.Done("l");
  ASSERT_TRUE(model.ok()) << model.error().Format();
  Status tied = TieEmbeddings(&*model);
  ASSERT_FALSE(tied.ok());
  EXPECT_EQ(tied.error().code, Code::kBadInput);
  for (const char* pair : {"inner and embed", "head and embed"}) {
    EXPECT_NE(tied.error().what.find(pair), std::string::npos) << tied.error().Format();
  }

  Net none({"head"});
  none.b.Node("aten.expand.default", {In("self", T("p_head")), In("size", json{{"as_ints", {4, 4}}})}, "l",
              Meta({4, 4}));
  model = none.Done("l");
  ASSERT_TRUE(model.ok()) << model.error().Format();
  tied = TieEmbeddings(&*model);
  ASSERT_FALSE(tied.ok());
  EXPECT_EQ(tied.error().code, Code::kBadInput);
  EXPECT_NE(tied.error().what.find("nothing can be tied"), std::string::npos) << tied.error().Format();
}

}  // namespace
}  // namespace autospc::import
