#include "runtime/base/json_text.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace autospc {
namespace {

TEST(JsonText, ErrorsAreLocated) {
  auto broken = ParseJson("{\n \"a\": }", "file.json");
  ASSERT_FALSE(broken.ok());
  EXPECT_EQ(broken.error().code, Code::kBadInput);
  EXPECT_EQ(broken.error().where, "file.json");
  EXPECT_NE(broken.error().what.find("line 2, column 7"), std::string::npos) << broken.error().what;
  EXPECT_FALSE(ParseJson("", "").ok());
  EXPECT_FALSE(ParseJson("{} {}", "").ok());
  EXPECT_FALSE(ParseJson("\"\xff\"", "").ok());
}

TEST(JsonText, AKeyTwiceIsAnError) {
  EXPECT_FALSE(ParseJson(R"({"a": {"b": 1, "c": 2, "b": 3}})", "").ok());
  EXPECT_TRUE(ParseJson(R"({"a": {"b": 1}, "b": [{"b": 1}, {"b": 1}]})", "").ok());
}

// Nesting as deep as the input is long must not exhaust the stack.
TEST(JsonText, DeepNesting) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(ParseJson(nested(kMaxJsonDepth), "").ok());
  for (const std::string& deep : {nested(kMaxJsonDepth + 1), nested(1000000), std::string(1000000, '{')}) {
    const auto parsed = ParseJson(deep, "here");
    ASSERT_FALSE(parsed.ok());
    EXPECT_NE(parsed.error().what.find("deep"), std::string::npos);
    EXPECT_EQ(parsed.error().where, "here");
  }
  // Brackets in texts are no nesting.
  EXPECT_TRUE(ParseJson("\"\\\"" + std::string(5000, '[') + "\"", "").ok());
}

TEST(JsonText, TypedMembers) {
  const nlohmann::json object = *ParseJson(R"({"s": "x", "i": -3, "u": 18446744073709551615, "f": 1.5, "a": [], "o": {}})", "");
  EXPECT_EQ(*JsonString(object, "s", ""), "x");
  EXPECT_EQ(*JsonInt(object, "i", ""), -3);
  EXPECT_TRUE(JsonArray(object, "a", "").ok());
  EXPECT_TRUE(JsonObject(object, "o", "").ok());
  for (const char* key : {"s", "u", "f", "absent"}) EXPECT_EQ(JsonInt(object, key, "there").error().where, "there") << key;
  for (const char* key : {"i", "absent"}) EXPECT_FALSE(JsonString(object, key, "").ok()) << key;
  for (const char* key : {"o", "absent"}) EXPECT_FALSE(JsonArray(object, key, "").ok()) << key;
  for (const char* key : {"a", "absent"}) EXPECT_FALSE(JsonObject(object, key, "").ok()) << key;
  EXPECT_FALSE(JsonInt(nlohmann::json::array(), "i", "").ok());
}

TEST(JsonText, TheSameContentIsTheSameText) {
  EXPECT_EQ(JsonText(*ParseJson(R"({"b": 1, "a": 2})", "")), JsonText(*ParseJson(R"({"a": 2, "b": 1})", "")));
  EXPECT_NO_THROW(JsonText(nlohmann::json{{"name", "\xff"}}));
}

}  // namespace
}  // namespace autospc
