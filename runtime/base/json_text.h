// JSON of untrusted origin: parsed with a located error, read with typed getters; and text that is the same
// for equal content (keys sorted).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "runtime/base/result.h"

namespace autospc {

// How deep objects and arrays may lie in one another: copies and comparisons of a document go down as deep.
inline constexpr int kMaxJsonDepth = 1000;
// kBadInput for a text that nests deeper, JSON or not. For readers that parse themselves; ParseJson asks.
Status CheckJsonDepth(std::string_view text, const std::string& where);

// kBadInput with `where` and the byte at which the text stops being JSON. An object key that occurs twice
// is an error too: readers would differ in which one they take.
Result<nlohmann::json> ParseJson(std::string_view text, const std::string& where);

// Members of an object; kBadInput where one is absent or of another type.
Result<std::string> JsonString(const nlohmann::json& object, const char* key, const std::string& where);
Result<int64_t> JsonInt(const nlohmann::json& object, const char* key, const std::string& where);
Result<const nlohmann::json*> JsonArray(const nlohmann::json& object, const char* key, const std::string& where);
Result<const nlohmann::json*> JsonObject(const nlohmann::json& object, const char* key, const std::string& where);

// Compact (indent < 0) or indented; bytes that are no UTF-8 become U+FFFD instead of an exception.
std::string JsonText(const nlohmann::json& json, int indent = -1);

}  // namespace autospc
