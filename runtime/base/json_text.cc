#include "runtime/base/json_text.h"

#include <set>
#include <vector>

#include <nlohmann/json.hpp>

namespace autospc {
namespace {

using nlohmann::json;

Error Bad(const std::string& what, const std::string& where) {
  return {Code::kBadInput, what, where, "the file is damaged or of another kind: make it anew"};
}

Result<const json*> Member(const json& object, const char* key, const std::string& where) {
  if (!object.is_object()) return Bad(fmt::format("not a JSON object where one with \"{}\" is expected", key), where);
  const auto it = object.find(key);
  if (it == object.end()) return Bad(fmt::format("no member \"{}\"", key), where);
  return &*it;
}

}  // namespace

Status CheckJsonDepth(std::string_view text, const std::string& where) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxJsonDepth) return Bad(fmt::format("JSON nested more than {} deep", kMaxJsonDepth), where);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return Ok();
}

Result<json> ParseJson(std::string_view text, const std::string& where) {
  RETURN_IF_ERROR(CheckJsonDepth(text, where));
  std::vector<std::set<std::string>> keys;
  std::string twice;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      keys.pop_back();
    } else if (event == json::parse_event_t::key) {
      const std::string& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) twice = key;
    }
    return true;
  };
  try {
    json parsed = json::parse(text.begin(), text.end(), watch);
    if (!twice.empty()) return Bad(fmt::format("the key \"{}\" occurs twice", twice), where);
    return parsed;
  } catch (const json::exception& error) {
    std::string reason = error.what();  // "[json.exception.parse_error.101] parse error at line 1, column 2: …"
    if (const size_t end = reason.find("] "); end != std::string::npos) reason = reason.substr(end + 2);
    if (reason.size() > 200) reason = reason.substr(0, 200) + "…";
    return Bad("not JSON: " + reason, where);
  }
}

Result<std::string> JsonString(const json& object, const char* key, const std::string& where) {
  ASSIGN_OR_RETURN(const json* member, Member(object, key, where));
  if (!member->is_string()) return Bad(fmt::format("\"{}\" is not a string", key), where);
  return member->get<std::string>();
}

Result<int64_t> JsonInt(const json& object, const char* key, const std::string& where) {
  ASSIGN_OR_RETURN(const json* member, Member(object, key, where));
  if (!member->is_number_integer() || (member->is_number_unsigned() && member->get<uint64_t>() > INT64_MAX))
    return Bad(fmt::format("\"{}\" is not a 64-bit integer", key), where);
  return member->get<int64_t>();
}

Result<const json*> JsonArray(const json& object, const char* key, const std::string& where) {
  ASSIGN_OR_RETURN(const json* member, Member(object, key, where));
  if (!member->is_array()) return Bad(fmt::format("\"{}\" is not an array", key), where);
  return member;
}

Result<const json*> JsonObject(const json& object, const char* key, const std::string& where) {
  ASSIGN_OR_RETURN(const json* member, Member(object, key, where));
  if (!member->is_object()) return Bad(fmt::format("\"{}\" is not an object", key), where);
  return member;
}

std::string JsonText(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

}  // namespace autospc
