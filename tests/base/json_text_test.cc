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
  const int kDepth = 1000000;
  EXPECT_TRUE(ParseJson(std::string(kDepth, '[') + std::string(kDepth, ']'), "").ok());
  EXPECT_FALSE(ParseJson(std::string(kDepth, '['), "").ok());
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
