// A model's JSON with anything missing or of another type: an error that says where, or (where it does not matter) a
// model, and never a crash.
#include <gtest/gtest.h>

#include <random>

#include "compiler/import/import.h"
#include "tests/import/pt2_builder.h"
#include "tests/import/rich_model.h"

namespace autospc::import {
namespace {

using testing::json;
using testing::Pt2Builder;
using testing::RichModel;

void Collect(const json& v, const json::json_pointer& at, std::vector<json::json_pointer>* out) {
  out->push_back(at);
  if (v.is_object()) {
    for (const auto& [key, item] : v.items()) Collect(item, at / key, out);
  } else if (v.is_array()) {
    for (size_t i = 0; i < v.size(); ++i) Collect(v[i], at / i, out);
  }
}

void Try(const Pt2Builder& b, const std::string& what) {
  auto model = b.Import();
  if (model.ok()) {
    Bindings flags;
    flags.seq_len = 8;
    const auto bound = BindSizes(&*model, flags);
    if (!bound.ok()) EXPECT_FALSE(bound.error().what.empty()) << what;
    return;
  }
  const Error& e = model.error();
  EXPECT_TRUE(e.code == Code::kBadInput || e.code == Code::kUnsupported || e.code == Code::kUsage) << what << "\n"
                                                                                                   << e.Format();
  EXPECT_NE(e.where.find("m.pt2"), std::string::npos) << what << "\n" << e.Format();
}

TEST(MalformedModel, TheModelIsSound) {
  auto model = RichModel().Import();
  ASSERT_TRUE(model.ok()) << model.error().Format();
  Bindings flags;
  flags.seq_len = 8;
  const auto bound = BindSizes(&*model, flags);
  ASSERT_TRUE(bound.ok()) << bound.error().Format();
}

class Malformed : public ::testing::TestWithParam<const char*> {};

TEST_P(Malformed, EveryPlaceInTurn) {
  const Pt2Builder good = RichModel();
  std::vector<json::json_pointer> places;
  Collect(good.program, json::json_pointer(), &places);
  ASSERT_GT(places.size(), 500u);
  const std::string how = GetParam();
  // Every place goes missing; of the other ways each place meets one in five, else this takes too long.
  const size_t fifth = std::hash<std::string>()(how) % 5;
  for (size_t i = 0; i < places.size(); ++i) {
    const json::json_pointer& place = places[i];
    if (place.empty() || (how != "missing" && i % 5 != fifth)) continue;
    Pt2Builder bad = good;
    json& parent = bad.program[place.parent_pointer()];
    if (how == "missing") {
      if (parent.is_array())
        parent.erase(std::stoul(place.back()));
      else
        parent.erase(place.back());
    } else {
      bad.program[place] = json::parse(how);
    }
    Try(bad, how + " at " + place.to_string());
  }
}

std::string NameOf(size_t way) {
  constexpr const char* kNames[] = {"Missing", "Null", "Negative", "Text", "Array", "Object", "Huge"};
  return kNames[way];
}

INSTANTIATE_TEST_SUITE_P(Ways, Malformed,
                         ::testing::Values("missing", "null", "-3", "\"text\"", "[]", "{}", "9223372036854775807"),
                         [](const auto& info) { return NameOf(info.index); });

// Configs of weights and constants, in the same way.
TEST(MalformedModel, Configs) {
  const Pt2Builder good = RichModel();
  for (const char* how : {"null", "-3", "\"text\"", "[]", "{}", "9223372036854775807"}) {
    for (json Pt2Builder::*config : {&Pt2Builder::weights, &Pt2Builder::constants}) {
      std::vector<json::json_pointer> places;
      Collect(good.*config, json::json_pointer(), &places);
      for (const json::json_pointer& place : places) {
        Pt2Builder bad = good;
        (bad.*config)[place] = json::parse(how);
        Try(bad, std::string(how) + " at " + place.to_string());
      }
    }
  }
}

// What is compared or copied goes down as deep as it is nested: an autocast region cut in two, whose modes are compared.
TEST(MalformedModel, NestedToTheStacksEnd) {
  const std::string deep = std::string(500000, '[') + std::string(500000, ']');
  for (const char* member : {"m/models/model.json", "m/data/weights/model_weights_config.json"}) {
    auto members = RichModel().Members();
    for (auto& [name, data] : members) {
      if (name == member) data.insert(data.rfind('}'), ", \"deep\": " + deep);
    }
    const testing::TempFolder folder;
    testing::WriteFile(folder / "m.pt2", testing::Zip(members));
    const auto model = ImportPt2(folder / "m.pt2");
    ASSERT_FALSE(model.ok()) << member;
    EXPECT_EQ(model.error().code, Code::kBadInput);
    EXPECT_NE(model.error().what.find("deep"), std::string::npos) << model.error().Format();
  }
}

// One element said again and again (stride 0): its file does not bound what it takes.
TEST(MalformedModel, ExpandedWithoutEnd) {
  for (const int64_t rows : {int64_t{1} << 40, int64_t{1} << 62}) {
    Pt2Builder b = testing::SmallModel();
    json& meta = b.weights["lin.weight"]["tensor_meta"];
    meta["sizes"] = {testing::Size(rows), testing::Size(4)};
    meta["strides"] = {testing::Size(0), testing::Size(1)};
    const auto model = b.Import();
    if (!model.ok()) {
      EXPECT_EQ(model.error().code, Code::kBadInput) << model.error().Format();
      continue;
    }
    const auto data = ReadWeight(model->weights.at("lin.weight"));
    ASSERT_FALSE(data.ok());
    EXPECT_EQ(data.error().code, Code::kBadInput);
    EXPECT_NE(data.error().what.find("repeated"), std::string::npos) << data.error().Format();
  }
}

// A slice whose recorded result has not its operand's dims, or is not there; two inputs of one name.
TEST(MalformedModel, ResultsThatTheOpDoesNotMake) {
  Pt2Builder flat = RichModel();
  flat.graph()["tensor_values"]["rows"] = testing::Meta({});
  Try(flat, "a slice of rank 0");
  Pt2Builder none = RichModel();
  for (json& node : none.graph()["nodes"]) {
    if (node["target"] == "torch.ops.aten.slice.Tensor") node["outputs"] = json::array();
  }
  auto model = none.Import();
  ASSERT_FALSE(model.ok());
  EXPECT_NE(model.error().what.find("makes 1 results, and the file records 0"), std::string::npos) << model.error().Format();
  Pt2Builder twice = RichModel();
  twice.input_specs().push_back(json(twice.input_specs()[0]));
  model = twice.Import();
  ASSERT_FALSE(model.ok());
  EXPECT_NE(model.error().what.find("two inputs named 'lin.weight'"), std::string::npos) << model.error().Format();
}

// Bytes of the whole file changed at random (seeded).
TEST(MalformedModel, RandomBytes) {
  const std::string good = testing::Zip(RichModel().Members());
  std::mt19937 random(7);
  const testing::TempFolder folder;
  for (int i = 0; i < 300; ++i) {
    std::string bad = good;
    for (int k = 0; k < 1 + i % 4; ++k) bad[random() % bad.size()] = static_cast<char>(random());
    testing::WriteFile(folder / "m.pt2", bad);
    const auto model = ImportPt2(folder / "m.pt2");
    if (!model.ok()) EXPECT_FALSE(model.error().what.empty());
  }
}

}  // namespace
}  // namespace autospc::import
